"""Recordings: what programs note of their own training is compared as captures are."""

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from compare import Array, DiptychError, Twin
from compare.capture.torch_model import values
from compare.commands.cli import main
from compare.ladder.captures import diff
from compare.ladder.recording import Recording, Tensors, of_jax, of_torch
from compare.ladder.verdict import DIVERGED, SAME
from compare.ladder.weight_map import weight_map
from compare.share import to_jax, to_numpy, to_torch
from jaxnn.training.optimizers import sgd

START = {"weight": np.ones((1, 2)), "bias": np.zeros(1)}


def recording(move=0.1, start=None, *, backend="torch:one", slips=None):
    """Three steps, of which the values are given."""
    record = Recording("net", backend, start or START)
    for step in range(1, 4):
        parameters = {name: array + step * move for name, array in START.items()}
        gradients = {name: np.full_like(array, 0.3) for name, array in START.items()}
        state, buffers = {"momentum_buffer": gradients}, {"count": np.array(step)}
        after = Tensors(parameters, gradients, state, buffers)
        record.step(1 / step, after._replace(**(slips or {})))
    return record


def test_recordings_are_compared():
    ours = recording().bundle()
    assert diff(ours, recording(backend="xla:mesh").bundle()).verdict == SAME
    result = diff(ours, recording(0.1 + 1e-8, backend="xla:mesh").bundle())
    assert result.verdict == DIVERGED
    assert result.stages["gradients"].verdict == SAME
    assert {j.name for j in result.stages["trajectory"].judged if j.verdict == DIVERGED} == {
        f"step {step}: param/{name}" for step in (1, 2, 3) for name in START
    }
    assert (result.leaves, result.moved, result.buffers) == (2, 2, 1)


def test_noise_is_of_the_moved_runs():
    """Where rounding alone moves a value farther than the limit, nothing can be told."""
    shaken = recording(0.1 + 1e-8)
    result = diff(recording().bundle([shaken]), recording(0.1 + 4e-8).bundle())
    assert result.verdict == "INCONCLUSIVE"
    assert diff(recording().bundle([shaken]), recording(0.2).bundle()).verdict == DIVERGED


def test_the_command_reads_recordings(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("a.safetensors", "b.safetensors")]
    recording().bundle().save(paths[0])
    recording(backend="xla:mesh").bundle().save(paths[1])
    assert main(["diff", *paths]) == 0
    assert "3 steps" in capsys.readouterr().out
    recording(0.2, backend="xla:mesh").bundle().save(paths[1])
    assert main(["diff", *paths, "--json", str(tmp_path / "r.json")]) == 1
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == DIVERGED


def test_what_is_no_recording():
    with pytest.raises(DiptychError, match="no step"):
        Recording("net", "torch:one", START).bundle()
    with pytest.raises(DiptychError, match="moved by"):
        recording(1e-5).bundle()
    with pytest.raises(DiptychError, match=r"gradients of step 1 .*: bias"):
        recording(slips={"gradients": {"weight": START["weight"]}})
    with pytest.raises(DiptychError, match="float32"):
        recording(slips={"buffers": {"mean": np.ones(2, np.float32)}})
    other = recording(start=START | {"bias": np.full(1, 1e-12)})
    with pytest.raises(DiptychError, match="different weights"):
        diff(recording().bundle(), other.bundle())


def test_an_array_that_changes_afterwards():
    parameters = {name: array + 1 for name, array in START.items()}
    record = Recording("net", "torch:one", START)
    record.step(1.0, Tensors(parameters, parameters, {}, {}))
    parameters["weight"][:] = np.nan
    assert (record.bundle().tensors["001.trajectory.1|param/weight"] == 2).all()


def test_the_same_names_of_both_sides():
    """Of one step of a linear layer: PyTorch's names and layout, state and all."""
    with jax.enable_x64(True):
        twin = Twin(
            torch=lambda: torch.nn.Linear(3, 2), jax=nn.Dense(2), inputs={"x": Array((4, 3))}
        )
        model = torch.nn.Linear(3, 2).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        weights = weight_map(twin)
        leaves = weights.to_jax(values(model))
        params = {path[-1]: to_jax(leaf) for path, leaf in leaves.items()}
        x = np.arange(12.0).reshape(4, 3)
        model(to_torch(x)).square().sum().backward()
        optimizer.step()
        ours = of_torch(model, optimizer)

        def loss(params):
            y: Any = nn.Dense(2).apply({"params": params}, to_jax(x))
            return jnp.sum(y**2)

        tx = sgd(lr=0.1, momentum=0.9)
        gradients = jax.grad(loss)(params)
        updates, state = tx.update(gradients, tx.init(params), params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        theirs = of_jax(weights, {"params": params}, gradients, state, ("momentum_buffer",))
    assert (ours.buffers, theirs.buffers) == ({}, {})
    assert ours.state.keys() == theirs.state.keys() == {"momentum_buffer"}
    pairs = [(ours.parameters, theirs.parameters), (ours.gradients, theirs.gradients)]
    for one, other in (*pairs, (ours.state["momentum_buffer"], theirs.state["momentum_buffer"])):
        assert one.keys() == other.keys() == {"weight", "bias"}
        for name, array in one.items():
            np.testing.assert_allclose(to_numpy(array), other[name], rtol=1e-12)
