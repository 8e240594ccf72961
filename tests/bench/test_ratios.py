"""Benchmarks: the table of a step and its JSON."""

import json

import pytest

from compare.bench import by_hand, ratios
from compare.commands.cli import main
from compare.discover import find
from compare.errors import DiptychError
from tests.toys import climb


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


def test_bench_find(capsys, monkeypatch):
    """What of a find is the alignment: each process once, and the ratios of what it measured."""
    cost = {"slipped": 6.0, "unaligned": 4.0, "aligned": 3.0, "torch_step": 1.5, "jax_step": 0.5}
    columns = ("seconds", "cpu", "gigabytes")
    measured = lambda command: dict.fromkeys(columns, cost[command[3]])  # noqa: E731
    monkeypatch.setattr(ratios, "_measured", measured)
    assert main(["bench", "find", "foundations/mlp:MLP", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"find_by_hand": 3.0, "find_without_alignment": 1.5, "alignment_by_hand": 1.5}
    assert {name: found[name] for name in wanted} == {
        name: dict.fromkeys(columns, value) for name, value in wanted.items()
    }
    assert main(["bench", "find", "foundations/mlp:MLP"]) == 0
    assert "alignment by hand" in capsys.readouterr().out


def test_the_slip_that_is_found_is_one_of_gradients_alone():
    found = climb(by_hand._doubled("foundations/mlp:MLP"), steps=1)
    assert found.stages["forward"].verdict == "SAME"
    assert found.stages["gradients"].verdict == "DIVERGED"


def test_the_alignment_alone_finds_it_and_says_so_where_it_does_not(monkeypatch):
    by_hand.aligned("foundations/mlp:MLP")
    monkeypatch.setattr(by_hand, "_doubled", lambda name: find(name)[0])
    with pytest.raises(DiptychError, match=r"^foundations/mlp:MLP: the doubled gradient was not"):
        by_hand.aligned("foundations/mlp:MLP")
