"""`diptych pair`: the pairing printed and written, given back, and never at the cost of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compare.commands.cli import main

READS = """
from porter_pairs import FlaxSides, Sides, pair

sides = pair(Sides, FlaxSides, rename={file!r})
"""


@pytest.fixture
def reads(tmp_path: Path, monkeypatch):
    """A module whose twin has its pairs from a file; and that file."""
    file = tmp_path / "sides.pairs"
    module = f"reads_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(READS.format(file=str(file)))
    monkeypatch.syspath_prepend(tmp_path)
    return f"{module}:sides", file


def test_the_pairing_is_printed(capsys):
    assert main(["pair", "porter_pairs:renamed"]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    for ours, theirs in ("left.weight", "l/kernel"), ("right.bias", "r/bias"), ("left", "l"):
        assert [ours, theirs, "#"] in [words[:3] for words in shown]
    assert main(["pair", "porter_pairs:renamed", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["torch"] for row in found["modules"]] == ["left", "right"]


def test_what_is_left_over_is_filled_in(reads, capsys):
    """A twin whose file is not there yet: written, it shows what to fill in."""
    name, file = reads
    assert main(["find", name]) == 2
    assert f"`diptych pair {name} --out {file}` writes it" in capsys.readouterr().err
    assert main(["pair", name, "--out", str(file)]) == 1
    assert "0 tensors and 0 modules" in capsys.readouterr().out
    text = file.read_text()
    assert "perhaps l" in text
    words = [line.split() for line in text.splitlines()]
    assert ["left.weight", "-"] in [line[:2] for line in words]
    assert ["-", "r/kernel"] in [line[:2] for line in words]
    file.write_text("left l\nright r\n")
    assert main(["find", name]) == 0
    assert main(["weights", name]) == 0
    capsys.readouterr()
    assert main(["pair", name, "--out", str(file), "--force"]) == 0
    assert "4 tensors and 2 modules" in capsys.readouterr().out
    assert main(["check", name]) == 0
    file.write_text("left r\nright l\n")
    assert main(["weights", name]) == 0
    assert main(["find", name]) == 1  # the two are not interchangeable


BAD = "left l\nright\n", ":2: 'right' is no pair"
UNKNOWN = "left x\nright r\n", ":1: JAX has no layer x"


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        *((command, *BAD) for command in ("find", "check", "weights", "pair")),
        *((command, *UNKNOWN) for command in ("find", "check", "pair")),
    ],
)
def test_a_bad_line(command: str, text: str, said: str, reads, capsys):
    name, file = reads
    file.write_text(text)
    assert main([command, name]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{file}{said}" in line


def test_a_file_that_is_there_stays(tmp_path, capsys):
    file = tmp_path / "mine"
    file.write_text("precious")
    assert main(["pair", "porter_pairs:renamed", "--out", str(file)]) == 2
    assert "exists; give another name, or --force" in capsys.readouterr().err
    assert file.read_text() == "precious"
    assert main(["pair", "porter_pairs:renamed", "--out", str(tmp_path / "no" / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["pair", "porter_pairs:torch_fails", "--out", str(file), "--force"]) == 2
    assert file.read_text() == "precious"
