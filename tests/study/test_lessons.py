"""Lessons: what fails one, how scripts are run, and that the index is that of the scripts."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compare.study.cells import load
from compare.study.lessons import lesson
from examples.__main__ import HERE, row_of, table

ROWS = table()
SCRIPT = '''"""A script of two cells."""

# %% Set-up
import flax.linen as nn
import numpy as np

from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)


class Net(nn.Module):  # looks for the module that it is in
    """A network of its own."""


# %% [right] Right
with lesson("right") as same:
    same("one", np.ones(2), np.ones(2))
    same.axes().plot([1, 2])
    print("said")

# %% [wrong] Wrong
with lesson("wrong") as same:
    same("two", np.ones(2), np.array([1, 1.001]))
    same.holds("nothing", False)
'''


def run(*arguments: str, text: str = SCRIPT) -> subprocess.CompletedProcess:
    Path("script.py").write_text(text)
    line = [sys.executable, "script.py", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_script_runs_its_cells_and_says_what_differs():
    done = run("--json", "found.json", "--out", "figures")
    assert done.returncode == 1
    assert "two: differs by" in done.stdout
    assert "does not hold: nothing" in done.stdout
    found = json.loads(Path("found.json").read_text())
    right, wrong = found["lessons"]
    assert (right["lesson"], right["title"]) == ("right", "Right")
    assert right["cells"][-1]["printed"].startswith("said\n")
    assert "compare/study/lessons.py" in found["files"]
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (right["lesson"], right["compared"], right["failures"]) == ("right", 1, [])
    assert (wrong["compared"], len(wrong["failures"])) == (2, 2)
    assert right["figure"] == "script_right.png"
    assert Path("figures/script_right.png").read_bytes()[:4] == b"\x89PNG"
    assert wrong["figure"] is None


def test_one_cell_alone():
    done = run("--only", "right")
    assert done.returncode == 0
    assert "wrong" not in done.stdout
    assert not list(Path.cwd().glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--only", "left"], SCRIPT), (["--depth", "3"], SCRIPT), (["--seed", "x"], SCRIPT)],
)
def test_bad_arguments_get_a_usage_line(arguments, text):
    done = run(*arguments, text=text)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


def test_a_cell_that_fails_or_holds_no_lesson_fails_the_script():
    done = run(text=SCRIPT.replace('same.holds("nothing", False)', "1 / 0"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert 'script.py", line 26' in done.stderr  # the line that it has in the file
    done = run("--only", "right", text=SCRIPT.replace('lesson("right")', 'lesson("rihgt")'))
    assert done.returncode == 1
    assert "right: the cell has no lesson of its name" in done.stderr


def test_what_is_compared():
    with lesson("kinds") as same:
        same("nested", {"a": (1.0, [2.0])}, {"a": (1.0, [torch.tensor(2.0)])})
        assert (same.compared, same.failures) == (2, [])
        assert torch.get_default_dtype() == torch.float64
        same("shapes", np.ones((2, 1)), torch.ones(2))
        same("a NaN", np.array([np.nan]), np.ones(1))
        same("close enough", np.float32(1.0001), 1.0, 1e-3)
    assert [text.partition(":")[0] for text in same.failures] == ["shapes", "a NaN"]
    assert torch.get_default_dtype() == torch.float32
    with lesson("nothing") as same:
        pass
    assert same.failures == ["compared nothing"]


def test_draws_are_those_of_the_seed_and_of_the_lesson():
    draws = []
    for cell in ("a", "a", "b"):
        with lesson(cell) as same:
            draws.append(same.rng.random())
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("path", sorted({row["example"] for row in ROWS}))
def test_every_cell_of_the_table_is_in_its_script_in_order(path):
    script = load(HERE.parent / path)
    rows = [row for row in ROWS if row["example"] == path]
    assert list(script.lessons) == [row["cell"] for row in rows]
    assert [part.title for part in script.lessons.values()] == [row["lesson"] for row in rows]
    longer = any("same.full" in cell.text for row in rows for cell in script.code(row["cell"]))
    assert longer == ("`--full`" in script.about)  # and how long


def test_the_index_is_not_stale():
    lines = (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    shown = [line for line in lines if line.startswith("| ") and "`" in line]
    assert [line.rsplit("|", 3)[0] + "|" for line in shown] == [row_of(row) for row in ROWS]
