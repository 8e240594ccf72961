"""Files of pairs: what is written is what is read, and a bad line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from compare.errors import DiptychError
from compare.weights.link import renamed
from compare.weights.named import Named, Row, named, written

ROWS = {
    "tensors": [Row("a.w", "x/kernel", "a note # of it"), Row("b.w", ""), Row("", "y/w")],
    "none": [],
    "modules": [Row("a", "x"), Row("a.act", "x/relu#1"), Row("a.b[0:6]", "z z", said=False)],
}


def test_what_is_written_is_read(tmp_path: Path):
    file = tmp_path / "net.pairs"
    file.write_text(written(ROWS))
    found = named(file)
    assert isinstance(found, Named)
    pairs = {name: path for name, (path, _) in found.lines.items()}
    assert pairs == {"a.w": "x/kernel", "a": "x", "a.act": "x/relu#1"}
    lines = file.read_text().splitlines()
    for name, (path, number) in found.lines.items():
        assert lines[number - 1].split()[:2] == [name, path]
        assert renamed(name, found) == path
    assert renamed("a.c", found) == "x/c"
    assert renamed("ab.a.w", found) == "ab/a/w"


def test_two_names_change_places(tmp_path: Path):
    file = tmp_path / "net.pairs"
    file.write_text("a b\nb a\na.c b/d\n")
    names = ("a", "b", "a.c", "a.e", "b.c")
    assert [renamed(name, named(file)) for name in names] == ["b", "a", "b/d", "b/e", "a/c"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a x\n\nb\n", 3, "'b' is no pair; a line has two words"),
        ("a x y # z\n", 1, "'a x y' is no pair"),
        ("a # x\n", 1, "'a' is no pair"),
        ("a x\nb y\na z\n", 3, "a stands in line 1 already"),
    ],
)
def test_a_bad_line(text: str, line: int, said: str, tmp_path: Path):
    file = tmp_path / "net.pairs"
    file.write_text(text)
    with pytest.raises(DiptychError) as caught:
        named(file)
    assert str(caught.value).startswith(f"{file}:{line}: {said}")


def test_a_file_that_is_none(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"a b\n\xff\xfe\n")
    for name, said in {"none": "does not exist", "binary": "is no text", "": "Is a dir"}.items():
        with pytest.raises(DiptychError, match=said):
            named(tmp_path / name, "my_port:net")
    with pytest.raises(DiptychError, match=r"`diptych pair my_port:net --out .*none` writes it"):
        named(tmp_path / "none", "my_port:net")


@pytest.mark.parametrize("name", ["a b", "#a", "-", "a\tb"])
def test_a_name_that_no_line_can_hold(name: str):
    for row in (Row(name, "x"), Row("x", name)):
        with pytest.raises(DiptychError, match="is no name that a file of pairs can hold"):
            written({"tensors": [row]})
