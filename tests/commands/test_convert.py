"""`diptych convert`: there and back, and by configuration."""

import json

import numpy as np

from compare.commands.cli import main
from compare.weights import torch_files


def test_convert(capsys, tmp_path):
    there, back = str(tmp_path / "there.msgpack"), str(tmp_path / "back.pt")
    name = "foundations/mlp"
    assert main(["convert", name, "good.pt", there, "--small"]) == 0
    assert capsys.readouterr().out.startswith("good.pt -> ")
    assert main(["convert", name, there, back, "--small", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["source"], done["target"], done["read"]) == ("Flax", "PyTorch", 6)
    one, two = torch_files.read_torch("good.pt"), torch_files.read_torch(back)
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}
    config = ["--config", "in_features=64", "--config", "hidden=(32, 16)"]
    assert main(["convert", name, "good.pt", there, *config]) == 2
    assert "exists" in capsys.readouterr().err


def test_convert_by_configuration(tmp_path, capsys):
    target = str(tmp_path / "a.safetensors")
    torch_files.write_torch(
        tmp_path / "one.pt",
        {"layers.0.weight": np.ones((3, 784), "f4"), "layers.0.bias": np.ones(3, "f4")},
    )
    line = ["convert", "foundations/mlp", str(tmp_path / "one.pt"), target, "-q"]
    assert main([*line, "--config", "hidden=()", "--config", "out_features=3"]) == 0
    assert capsys.readouterr() == ("", "")


def test_what_is_not_exact_is_in_the_line(tmp_path, capsys):
    target = str(tmp_path / "a.msgpack")
    values = torch_files.read_torch("good.pt")
    values["layers.0.bias"] = values["layers.0.bias"] / 3
    torch_files.write_torch(tmp_path / "third.pt", values)
    line = ["convert", "foundations/mlp", str(tmp_path / "third.pt"), target, "--small"]
    assert main(line) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("bit for bit")
    assert main([*line, "--force", "--dtype", "float16"]) == 0
    out = capsys.readouterr().out
    assert "6 Flax tensors, bit for bit but for 1" in out
    assert "written as float16, 32 numbers rounded" in out
    assert main([*line, "--force", "--dtype", "float12"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "float12" in error
