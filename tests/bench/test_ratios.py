"""Benchmarks: the table of a step and its JSON."""

import json

import pytest

from compare.bench import ratios
from compare.commands.cli import main
from compare.errors import DiptychError


def test_bench_step(capsys, monkeypatch):
    """The table and its JSON; the two processes are run for what they print, not for its value."""
    printed = {"jax_steps": "0.5\n", "torch_steps": "0.25\n"}
    monkeypatch.setattr(ratios, "_output", lambda command, threads: printed[command[3]])
    assert main(["bench", "step"]) == 0
    shown = capsys.readouterr().out
    assert "cnn/resnet:resnet18" in shown
    assert [line.split() for line in shown.splitlines()[-3:]] == [
        ["jax", "0.5"],
        ["torch", "0.25"],
        ["ratio", "2"],
    ]
    assert main(["bench", "step", "foundations/mlp:MLP", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "foundations/mlp:MLP"
    assert found["threads"] >= 1
    assert (found["jax"], found["ratio"]) == ({"seconds": 0.5}, {"seconds": 2.0})


def test_a_mistake_in_a_process_is_its_own_line():
    with pytest.raises(DiptychError, match=r"^linalg/svd:svd has not one loss; name a twin that"):
        ratios.stepping("linalg/svd:svd")
    with pytest.raises(DiptychError, match=r"^jax_steps cnn/lenet failed: ValueError: no$"):
        ratios._failed(["python", "jax_steps", "cnn/lenet"], "Traceback …\nValueError: no\n")
