"""`diptych weights`: the map, and the porter's own weights held to PyTorch's."""

from __future__ import annotations

import json

from compare.commands.cli import main


def test_the_map_of_a_twin(capsys):
    assert main(["weights", "cnn/lenet:LeNet"]) == 0
    shown = capsys.readouterr().out
    assert "cnn/lenet:LeNet: weights PyTorch's, carried over, 10 leaves" in shown
    assert "params/conv1/kernel" in shown
    assert "Conv2d -> kernel" in shown


def test_a_pair_without_weights_of_its_own(capsys):
    assert main(["weights", "porter_pairs:right", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["porter_pairs:right"]
    assert [row["jax"] for row in found["rows"]] == ["params/norm/scale", "params/norm/bias"]
    assert found["weights"] == "PyTorch's, carried over"


def test_a_conversion_of_the_porters_own(capsys):
    assert main(["weights", "porter_pairs:converted"]) == 0
    shown = capsys.readouterr().out
    assert "porter_pairs:converted: weights yours, 2 leaves" in shown
    assert "WRONG" not in shown
    assert main(["weights", "porter_pairs:untransposed"]) == 1
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == "WRONG  fc/kernel is fc.weight, transposed"
    assert main(["weights", "porter_pairs:untransposed", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["porter_pairs:untransposed"]
    assert [row["verdict"] for row in found["rows"]] == [found["wrong"][0], "right"]


def test_variables_that_are_not_the_models(capsys):
    assert main(["weights", "porter_pairs:halved"]) == 2
    assert "Twin(variables=...) lacks params/fc/bias" in capsys.readouterr().err


def test_what_could_not_be_paired_is_said_with_what_pairs_it(capsys):
    assert main(["weights", "porter_pairs:sides"]) == 1
    *_, ours, theirs, line = capsys.readouterr().out.splitlines()
    assert ours.startswith("not paired  torch left (Linear: weight 6×6, bias 6) <-> jax l (")
    assert "torch right (Linear: weight 6×6, bias 6) <-> jax r (" in theirs
    assert line.strip() == 'rename={"left": "l", "right": "r"}'
    assert main(["weights", "porter_pairs:sides", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["porter_pairs:sides"]["unpaired"]
    assert found["rename"] == line.strip()
    assert main(["weights", "porter_pairs:renamed"]) == 0
    assert "not paired" not in capsys.readouterr().out
