"""`make examples`: what is run again, and what is kept."""

import json
import sys
from pathlib import Path

import pytest

from examples import __main__ as examples

SCRIPT = '''"""A script."""
# %% Set-up
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)

# %% [one] One
with lesson("one") as same:
    same("number", 1.0, 1.0)
'''
NAME = "examples/room/one.py"


@pytest.fixture(autouse=True)
def house(tmp_path, monkeypatch):
    """A project with one script, which has been run."""
    monkeypatch.setattr(examples, "ROOT", tmp_path)
    monkeypatch.setattr(examples, "KEPT", tmp_path / "results/lessons")
    monkeypatch.setattr(examples, "SHOWN", tmp_path / ".diptych/lessons")
    monkeypatch.setattr(examples, "HERE", tmp_path / "examples")
    monkeypatch.setattr(sys, "argv", ["examples"])
    (tmp_path / "examples/room").mkdir(parents=True)
    (tmp_path / NAME).write_text(SCRIPT)
    (tmp_path / "jaxnn").mkdir()
    (tmp_path / "jaxnn/net.py").write_text("one = 1\n")
    rows = f"example\tcell\tlesson\tshows\n{NAME}\tone\tOne\tone\n"
    (tmp_path / "examples/lessons.tsv").write_text(rows)
    keep(tmp_path)
    return tmp_path


def keep(root: Path) -> Path:
    files = ["jaxnn/net.py"]
    found = {"hash": examples.fingerprint(NAME, files), "files": files}
    path = root / "results/lessons/room/one.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found | {"lessons": {"one": {"compared": 1, "worst": 0.0}}}))
    return path


def test_what_has_not_changed_is_not_run(house, capfd):
    assert examples.chosen([NAME], False, None) == []
    assert examples.main() == 0
    assert "== " not in capfd.readouterr().out
    assert "| 1 | 0.0e+00 |" in (house / "examples/README.md").read_text()


@pytest.mark.parametrize("file", [NAME, "jaxnn/net.py"])
def test_what_has_changed_is_run(house, file):
    (house / file).write_text((house / file).read_text() + "\n# changed\n")
    assert examples.chosen([NAME], False, None) == [NAME]


def test_other_versions_missing_files_and_broken_records_are_changes(house, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(examples, "versions", lambda: {"jax": "0"})
        assert examples.kept(NAME) is None
    assert examples.kept(NAME)
    (house / "jaxnn/net.py").unlink()
    assert examples.kept(NAME) is None
    keep(house).write_text("{")
    assert examples.kept(NAME) is None


def test_all_and_a_drawn_share(house):
    scripts = [NAME, *(f"examples/room/{n}.py" for n in range(7))]
    unchanged = {}
    for script in scripts[1:]:
        (house / script).write_text(SCRIPT)
        path = examples.place(examples.KEPT, script)
        path.write_text(json.dumps({"hash": examples.fingerprint(script, []), "files": []}))
        unchanged[script] = path
    assert examples.chosen(scripts, True, None) == scripts
    drawn = {tuple(examples.chosen(scripts, False, 4)) for _ in range(50)}
    assert {len(each) for each in drawn} == {2}
    assert len(drawn) > 3


def test_a_run_is_kept_and_one_that_fails_is_not(house, capfd):
    found = examples.run(NAME)
    assert found["one"]["compared"] == 1
    kept = examples.kept(NAME)
    assert kept is not None
    assert kept["lessons"] == {"one": {"compared": 1, "worst": 0.0}}
    shown = json.loads((house / ".diptych/lessons/room/one.json").read_text())
    assert shown["hash"] == kept["hash"]
    (house / NAME).write_text(SCRIPT.replace("1.0, 1.0", "1.0, 2.0"))
    assert examples.main() == 1
    assert "number: differs by" in capfd.readouterr().err
    assert not (house / "results/lessons/room/one.json").exists()
