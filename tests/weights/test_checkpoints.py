"""Checkpoints are those of the frameworks, and need neither where it is not their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compare.weights import files, flax_files, torch_files
from tests.weights.stored import refused, write_flax, write_torch


def test_checkpoints_are_those_of_the_frameworks(tmp_path):
    import jax.numpy as jnp
    import torch
    from flax import serialization
    from safetensors.torch import load_file as load_torch

    weight = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T.requires_grad_()
    for suffix in ("pt", "safetensors"):
        path = torch_files.write_torch(tmp_path / f"x.{suffix}", {"w": weight})
        found = torch.load(path) if suffix == "pt" else load_torch(path)
        assert torch.equal(found["w"], weight)
    path = flax_files.write_flax(tmp_path / "x.msgpack", {"params": {"w": jnp.ones(3)}})
    assert (
        serialization.from_bytes({"params": {"w": 0}}, path.read_bytes())["params"]["w"].sum() == 3
    )


def test_bundles_and_safetensors_import_no_framework(tmp_path):
    code = """
import sys, numpy as np
from compare.weights import flax_files, torch_files
from compare.ladder.bundle import Bundle
Bundle.load(Bundle({"x": np.ones(2)}).save("x.bundle"))
torch_files.read_torch(torch_files.write_torch("x.safetensors", {"x": np.ones(2)}))
flax_files.read_flax(flax_files.write_flax("y.safetensors", {"x": np.ones(2)}))
assert not {"torch", "jax", "flax"} & sys.modules.keys()
"""
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


@pytest.mark.parametrize(
    ("module", "name", "line"),
    [
        ("torch", "x.pt", "pip install torch"),
        ("flax.serialization", "x.msgpack", "pip install jax flax optax chex orbax-checkpoint"),
        ("orbax.checkpoint", "x.orbax", "pip install jax flax optax chex orbax-checkpoint"),
    ],
)
def test_a_missing_framework_is_said_with_the_line_that_installs_it(
    tmp_path, monkeypatch, module, name, line
):
    write = write_torch if module == "torch" else write_flax
    read = torch_files.read_torch if module == "torch" else flax_files.read_flax
    path = write(tmp_path / name)
    monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path, write, path, line)
    refused(tmp_path, read, path, line)
