"""Data-parallel training: two processes of PyTorch, two devices of JAX, and one device of either.

Each way of training is recorded in processes of its own (`two_devices.py`), all at once.
"""

import functools
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compare.ladder.bundle import Bundle
from compare.ladder.captures import diff
from compare.ladder.verdict import DIVERGED, SAME
from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers.norm import BatchNorm
from jaxnn.training import data_parallel as theirs
from tests.training.two_devices import BATCH, EPOCH, JAX, RULES, TORCH, one_device
from torchref.training import data_parallel as ours

ROOT = Path(__file__).parents[2]
LIMIT = 150  # seconds for all processes; they take a tenth of it
# The step at which a fault shows: what goes wrong in an unequal batch alone shows in the fifth.
FAULTS = {
    "summed gradients": 1,
    "own statistics": 1,
    "one share": 1,
    "own shuffles": 1,
    "mean of means": 5,
    "filling in the statistics": 5,
    "filling in the mean": 5,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What all processes have left."""
    folder = tmp_path_factory.mktemp("two_devices")
    started, ends = [], time.monotonic() + LIMIT
    try:
        for side in (("torch", "0"), ("torch", "1"), ("jax",)):
            line = [sys.executable, "-m", "tests.training.two_devices", side[0], folder, *side[1:]]
            log = open(folder / f"{'.'.join(side)}.log", "w+")  # noqa: SIM115
            process = subprocess.Popen(line, cwd=ROOT, stdout=log, stderr=log)
            started.append((process, log))
        for process, log in started:
            code = process.wait(max(0.1, ends - time.monotonic()))
            log.seek(0)
            assert code == 0, log.read()[-3000:]
    finally:
        for process, log in started:
            process.kill()
            process.wait()
            log.close()
    return folder


@pytest.fixture(scope="module")
def recorded(folder):
    return functools.cache(lambda name: Bundle.load(folder / f"{name}.safetensors"))


@functools.cache
def reference(rule, rows=EPOCH):
    """PyTorch on one device, and what rounding alone does to it."""
    return one_device(rule, rows=rows).bundle([one_device(rule, i, rows) for i in range(2)])


def parts(result) -> dict[str, list]:
    return {name: stage.judged for name, stage in result.stages.items() if stage.judged}


PAIRS = [
    ("ddp", "sgd"),
    ("mesh", "sgd"),
    ("one device", "sgd"),
    ("fsdp", "adam"),
    ("sharded", "adam"),
]


@pytest.mark.parametrize(("name", "rule"), PAIRS)
def test_the_same_as_one_device(recorded, name, rule):
    result = diff(reference(rule), recorded(name))
    assert result.verdict == SAME, [j for s in parts(result).values() for j in s][:3]
    slots = len(RULES[rule][1])
    # ten steps; 8 parameters and 6 buffers
    assert {n: len(j) for n, j in parts(result).items()} == {
        "gradients": 80,
        "trajectory": 10 * (1 + 8 + 8 * slots + 6),
    }
    assert all(j.label == "" and j.relative < 1e-12 for s in parts(result).values() for j in s)


@pytest.mark.parametrize("names", [("ddp", "mesh"), ("fsdp", "sharded")])
def test_two_devices_of_either_framework(recorded, names):
    assert diff(*map(recorded, names)).verdict == SAME


def test_a_device_without_a_row(recorded):
    assert diff(reference("sgd", 4 * BATCH + 1), recorded("nothing for one")).verdict == SAME


@pytest.mark.parametrize(("name", "step"), FAULTS.items())
def test_a_fault_is_found(recorded, name, step):
    result = diff(reference("sgd"), recorded(name))
    assert result.verdict == DIVERGED
    found = {n: [j for j in s if j.verdict != SAME] for n, s in parts(result).items()}
    for judged in found.values():
        assert {j.verdict for j in judged} == {DIVERGED}
        assert judged[0].name.startswith(f"step {step}: ")
    off = [j.relative for j in found["gradients"] if j.name.startswith(f"step {step}: ")]
    assert len(off) == 8
    assert min(off) > 1e-3
    if name == "summed gradients":
        np.testing.assert_allclose(off, 1, rtol=1e-9)  # twice what it should be


def test_every_way_is_judged():
    right = {name for name, _ in PAIRS} | {"nothing for one"}
    assert TORCH.keys() | JAX.keys() == right | FAULTS.keys()


def test_what_a_device_holds(folder):
    """Parts, of the parameters, their gradients and both moments; whole copies without sharding."""
    whole = {"0.weight": [6, 1, 3, 3], "3.weight": [5, 6, 3, 3], "8.weight": [10, 5]}
    whole |= {"1.weight": [6], "1.bias": [6], "4.weight": [5], "4.bias": [5], "8.bias": [10]}
    held = [json.loads((folder / f"fsdp.{rank}.json").read_text()) for rank in range(2)]
    for name, (rows, *rest) in whole.items():
        for rank, own in enumerate((-(-rows // 2), rows // 2)):  # five rows are three and two
            assert held[rank][name] == [[own, *rest]] * 4, name

    layers = {"0/kernel": [3, 3, 1, 6], "3/kernel": [3, 3, 6, 5], "8/kernel": [5, 10]}
    layers |= {"1/scale": [6], "1/bias": [6], "4/scale": [5], "4/bias": [5], "8/bias": [10]}
    halves = json.loads((folder / "sharded.0.json").read_text())
    copies = json.loads((folder / "mesh.0.json").read_text())
    for layer, (*rest, last) in layers.items():
        own = [*rest, last if last % 2 else last // 2]  # JAX does not split five
        trees = [path for path in halves if path.endswith(layer)]
        assert len(trees) == 4, "parameters, gradients, two moments"
        assert all(halves[path] == [own, own] for path in trees), layer
        assert all(copies[p] == [[*rest, last]] * 2 for p in copies if p.endswith(layer))


@given(st.integers(1, 9), st.integers(1, 4))
def test_shares_make_up_the_batch(count, devices):
    batch = torch.arange(count * 2.0).reshape(count, 2), torch.arange(count)
    meshes: list[Any] = [
        SimpleNamespace(size=lambda: devices, get_local_rank=lambda rank=rank: rank)
        for rank in range(devices)
    ]
    shares = [ours.share(batch, mesh) for mesh in meshes]
    for whole, pieces in zip(batch, zip(*(rows for rows, _ in shares), strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), whole)
    weights = torch.cat([weight for _, weight in shares])
    np.testing.assert_allclose(weights, np.full(count, 1 / count), rtol=1e-15)


def mesh_of_one():
    return jax.make_mesh((1,), ("data",))


def test_a_share_is_nobody_elses():
    """What the caller does with a batch afterwards is seen by no device."""
    x = np.ones((300, 300))
    with jax.enable_x64(True):
        (placed,), weight = theirs.share((x,), mesh_of_one())
        x[:] = 0
        assert placed.dtype == weight.dtype == np.float64
        assert (to_numpy(placed) == 1).all()


@pytest.mark.parametrize("batch", [(np.ones((0, 2)),), (np.ones(3), np.ones(2))])
def test_no_batch(batch):
    mesh: Any = SimpleNamespace(size=lambda: 2, get_local_rank=lambda: 0)
    with pytest.raises(ValueError, match="equally many rows"):
        ours.share(tuple(map(to_torch, batch)), mesh)
    with pytest.raises(ValueError, match="equally many rows"):
        theirs.share(batch, mesh_of_one())


def test_one_value_per_channel():
    with pytest.raises(ValueError, match="one value"):
        ours.GlobalBatchNorm(3)(torch.ones(1, 3, 1, 1))
    layer = theirs.GlobalBatchNorm(3)
    with pytest.raises(ValueError, match="one value"):
        jax.eval_shape(lambda: layer.init(jax.random.key(0), jnp.ones((1, 1, 1, 3)), train=True))


def test_rows_that_fill_up_are_no_rows(normal):
    """Batch norm of five rows and one that weighs nothing is that of the five."""
    with jax.enable_x64(True):
        x = to_jax(normal(0, 5, 4, 2, 3))
        filled = jnp.concatenate([x, jnp.zeros((1, 4, 2, 3))])
        weight = jnp.array([0.2] * 5 + [0.0])
        plain, layer = BatchNorm(3), theirs.GlobalBatchNorm(3)
        variables = plain.init(jax.random.key(0), x)
        how: dict[str, Any] = {"train": True, "mutable": ["batch_stats"]}
        wanted, after = plain.apply(variables, x, **how)
        found, kept = layer.apply(variables, filled, weight, **how)
        _, wrong = layer.apply(variables, filled, **how)
        found = found[:5]
    np.testing.assert_allclose(to_numpy(found), to_numpy(wanted), rtol=1e-12)
    stats = jax.tree.map(to_numpy, after["batch_stats"])
    for name, value in stats.items():
        np.testing.assert_allclose(to_numpy(kept["batch_stats"][name]), value, rtol=1e-12)
    assert np.abs(to_numpy(wrong["batch_stats"]["var"]) - stats["var"]).max() > 1e-3
