"""`diptych list`: names, verdicts, blocks and differences."""

import json
from pathlib import Path

import pytest

from compare.commands.cli import main
from compare.discover import catalogue, find, find_all
from compare.errors import DiptychError


def test_names():
    everything = list(catalogue())
    assert everything == [twin.name for twin in find()]
    assert [twin.name for twin in find("cnn/lenet:LeNet")] == ["cnn/lenet:LeNet"]
    assert [twin.name for twin in find("cnn/lenet")] == ["cnn/lenet:LeNet"]
    under = [name for name in everything if name.startswith("cnn/")]
    assert [twin.name for twin in find("cnn")] == [twin.name for twin in find("cnn/")] == under
    both = find_all(["cnn/lenet", "cnn", "cnn/lenet:LeNet"])
    assert sorted(twin.name for twin in both) == sorted(under)
    assert [twin.name for twin in find_all([])] == everything
    assert find("porter_pairs:right")[0].name == "porter_pairs:right"
    for wrong in ("cn", "lenet/cnn", ":LeNet", "cnn/lenet:LeNet:x", "cnn:x:y"):
        with pytest.raises(DiptychError):
            find(wrong)


def test_list(capsys):
    assert main(["list", "-q"]) == 0
    assert capsys.readouterr().out.split() == list(catalogue())
    assert main(["list", "cnn/lenet"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["name", "verdict", "torch", "jax"]
    assert row.split()[:4] == [
        "cnn/lenet:LeNet",
        "-",
        "torchref.cnn.lenet.LeNet",
        "jaxnn.cnn.lenet.LeNet",
    ]
    assert main(["list", "--json", "cnn/lenet", "porter_pairs:right"]) == 0
    lenet, own = json.loads(capsys.readouterr().out)
    assert lenet["inputs"] == {"x": [8, 1, 28, 28]}
    assert own["torch"] == "porter_pairs.Norm"


def test_list_knows_the_verdicts_of_the_report_in_the_folder(capsys):
    assert main(["check", "porter_pairs:slipped", "--steps", "1", "--out", ".", "-q"]) == 1
    capsys.readouterr()
    assert main(["list", "porter_pairs:slipped", "porter_pairs:right", "linalg/svd"]) == 0
    _, *rows = (line.split()[:3] for line in capsys.readouterr().out.splitlines())
    assert [row[1] for row in rows] == ["DIVERGED", "-", "-"]
    assert rows[2][2] == "torchref.linalg.svd"
    assert main(["check", "linalg/broadcasting", "--out", ".", "-q"]) == 0
    capsys.readouterr()
    assert main(["list", "--blocks", "--json"]) == 0
    blocks = {each["block"]: each for each in json.loads(capsys.readouterr().out)}
    assert blocks["linalg/broadcasting:unbroadcast"]["verdict"] == "SAME"
    assert blocks["layers/activations:relu"]["verdict"] is None
    assert blocks["layers/activations:relu"]["torch"] == "torch.nn.functional.relu"
    assert main(["list", "--blocks", "cnn"]) == 2
    assert "--blocks takes no names" in capsys.readouterr().err
    Path("report.json").write_text("{}")
    assert main(["list"]) == 2
    assert "report.json" in capsys.readouterr().err
    Path("report.json").unlink()


def test_differences_are_listed(capsys):
    assert main(["list", "--differences", "--json"]) == 0
    assert {"code", "title", "torch", "jax"} <= set(json.loads(capsys.readouterr().out)[0])
