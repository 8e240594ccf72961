"""`diptych find` and `check`: what is refused, in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compare.commands.cli import main

PORTER = """
import threading
import torch
from torch import nn
import flax.linen as fnn
from compare import Array, Twin

class Raises(nn.Module):
    def forward(self, x):
        raise ValueError("a mistake of its own")

class FlaxRaises(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        raise ValueError("a mistake of its own")

class Locked(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
        self.lock = threading.Lock()

def twin(**options):
    given = {"torch": lambda: nn.Linear(3, 3), "jax": lambda: fnn.Dense(3)}
    return Twin(**({"inputs": {"x": Array((2, 3))}} | given | options))

right = twin()
raises = twin(torch=Raises)
flax_raises = twin(jax=FlaxRaises)
missing = twin(torch=None)
misshapen = twin(inputs={"x": Array((2, 4))})
unpicklable = twin(torch=Locked)
nothing = twin(torch=lambda: (lambda x: None), jax=lambda: (lambda x: None))
object = 3
"""
REFUSED = {
    "port:raises": "a mistake of its own",
    "port:flax_raises": "a mistake of its own",
    "port:missing": "Twin(torch=...) is missing",
    "port:misshapen": "mat1 and mat2 shapes cannot be multiplied (2x4 and 3x3)",
    "port:unpicklable": "cannot pickle '_thread.lock' object",
    "port:object": "neither a Twin",
    "port:absent": "has no absent",
    "nowhere:twin": "no module nowhere",
    "cnn/lenett": "did you mean",
}


@pytest.fixture
def porter(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a module of pairs, where the command is called."""
    (tmp_path / "port.py").write_text(PORTER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "port", raising=False)
    return tmp_path


@pytest.mark.parametrize("command", ["find", "check"])
@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_line(command: str, name: str, porter: Path, capsys):
    assert main([command, name]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert REFUSED[name] in err
    assert not (porter / ".diptych").exists()


@pytest.mark.parametrize("command", ["find", "check"])
def test_where_nothing_can_be_compared_nothing_is_said(command: str, porter: Path, capsys):
    assert main([command, "port:nothing"]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("INCONCLUSIVE")
    assert err == ""
    assert not (porter / ".diptych").exists()


@pytest.mark.parametrize("command", ["find", "check"])
@pytest.mark.parametrize("framework", ["torch", "jax", "flax"])
def test_a_framework_that_is_missing_is_named(command: str, framework: str, porter: Path):
    code = (
        f"import sys; sys.modules[{framework!r}] = None\n"
        f"from compare.commands.cli import main; sys.exit(main([{command!r}, 'cnn/lenet']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    packages = "torch" if framework == "torch" else "jax flax optax chex orbax-checkpoint"
    remedy = f"pip install {packages}"
    assert done.returncode == 2
    assert done.stderr == (f"diptych: this needs {framework}, which is not installed: {remedy}\n")


def test_options_that_cannot_be(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for line in (
        ["find"],
        ["find", "cnn/lenet", "--steps", "0"],
        ["find", "cnn"],
        ["explain", "X"],
    ):
        assert main(line) == 2
    assert main(["find", "cnn/lenet", "--out", "file"]) == 2
    assert Path("file").read_text() == ""
    assert len(capsys.readouterr().err.splitlines()) == 5


@pytest.mark.parametrize("command", ["find", "check"])
def test_what_could_not_be_paired(command, capsys):
    assert main([command, "porter_pairs:sides"]) == 3
    shown = capsys.readouterr().out
    assert "not paired   torch left (Linear: weight 6×6, bias 6) <-> jax l (" in shown
    assert ' rename={"left": "l", "right": "r"}' in shown
    assert main([command, "porter_pairs:renamed"]) == 0
    assert "not paired" not in capsys.readouterr().out
