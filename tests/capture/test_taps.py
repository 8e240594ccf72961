"""Capture: every layer's value and gradient is right, whatever wraps or overwrites it."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import flax.linen as fnn
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from compare.ladder.pair import Pair
from tests import toys
from tests.arrays import close, gradient, last
from tests.toys import CASES, Case, Values, climb, collect, trouble


@functools.cache
def captured(name: str, backend: str) -> tuple[Pair, Values]:
    case = next(c for c in CASES if c.name == name)
    pair = Pair(case.twin)
    return pair, collect(pair.run(backend))


@functools.cache
def expected(name: str) -> tuple[Values, Values]:
    """Values and gradients from intermediate values that are kept, out of place."""
    case = next(c for c in CASES if c.name == name)
    pair, _ = captured(name, "torch:cpu")
    weights = {k: torch.tensor(v, dtype=torch.float64) for k, v in pair.given.state.items()}
    x = torch.tensor(pair.given.batch["x"], dtype=torch.float64)
    found = case.explicit({k: w.requires_grad_() for k, w in weights.items()}, x.requires_grad_())
    # Each key holds a tensor of its own, so that its gradient is that of this place alone.
    for tensor in found.values():
        tensor.retain_grad()
    outputs = pair.given.outputs["train"].items()
    outs = [found[f"out{suffix}"] for suffix, floating in outputs if floating]
    drawn = pair.given.cotangents[""]
    losses = [(o * torch.tensor(c)).sum() for o, c in zip(outs, drawn, strict=True)]
    torch.stack(losses).sum().backward()
    layers = {k: v for k, v in found.items() if not k.startswith("out")}
    return (
        {k: v.detach().numpy() for k, v in found.items()},
        {k: gradient(v) for k, v in layers.items()},
    )


each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
each_kind = pytest.mark.parametrize("kind", ["layer", "gradient/layer"])


@each_kind
@each_case
def test_torch_layers(case: Case, kind: str):
    _, tensors = captured(case.name, "torch:cpu")
    values, gradients = expected(case.name)
    wanted = values if kind == "layer" else gradients
    for key in gradients:
        close(tensors[f"train/{kind}/{key}"], wanted[key])


@each_kind
@each_case
def test_jax_layers(case: Case, kind: str):
    _, tensors = captured(case.name, "xla:cpu")
    values, gradients = expected(case.name)
    wanted = values if kind == "layer" else gradients
    stacked = {key for keys in case.stacked.values() for key in keys}
    for key in (k for k in gradients if k not in stacked):
        name = case.jax_keys.get(key, key.replace(".", "/"))
        close(tensors[f"train/{kind}/{name}"], last(wanted[key]))
    for name, keys in case.stacked.items():
        close(tensors[f"train/{kind}/{name}"], np.stack([wanted[k] for k in keys]))


@pytest.mark.parametrize("backend", ["torch:cpu", "xla:cpu"])
@each_case
def test_outputs_and_gradients_of_weights(case: Case, backend: str):
    pair, tensors = captured(case.name, backend)
    values, _ = expected(case.name)
    for key in (k for k in values if k.startswith("out")):
        wanted = last(values[key]) if backend == "xla:cpu" else values[key]
        close(tensors[f"train/{key}"], wanted)
        close(tensors[f"eval/{key}"], wanted)
    _, reference = captured(case.name, "torch:cpu")
    for name in pair.given.state:
        key = f"train/gradient/param/{name}"
        close(tensors[key], reference[key])


@each_case
def test_clean_pairs_are_the_same(case: Case):
    result = climb(case.twin, steps=2)
    assert result.verdict == "SAME", trouble(result)


@pytest.mark.parametrize("name", ["twice", "remat around jit", "in place"])
def test_inputs_of_layers(name: str):
    case = next(c for c in CASES if c.name == name)
    pair = Pair(case.twin)
    ours, theirs = (collect(pair.run(b, inputs=True)) for b in ("torch:cpu", "xla:cpu"))
    values, x = expected(name)[0], pair.given.batch["x"]
    if name == "twice":
        wanted = {"a": x, "b": np.tanh(values["a"]), "b#1": np.tanh(values["b"])}
    elif name == "in place":
        wanted = {"net": x, "net.0": x, "net.2": values["net.1"]}
    else:
        wanted = {"inner": x, "inner.a": x}
    for key, value in wanted.items():
        module, _, count = key.partition("#")
        name = f"train/layer/{module}:in" + (f"#{count}" if count else "")
        close(ours[name], value)
        close(theirs[name.replace(".", "/")], last(value))


class TorchPair(nn.Module):
    """Gives b(a(x)), and a(x) that it was made from."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        first = self.a(x)
        return self.b(first), first


class TorchReader(nn.Module):
    """Overwrites one of the two."""

    def __init__(self):
        super().__init__()
        self.pair, self.out = TorchPair(), nn.Linear(4, 2)

    def forward(self, x):
        second, first = self.pair(x)
        return self.out(F.relu(second, inplace=True) + first)


class JaxPair(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        first = fnn.Dense(4, name="a")(x)
        return fnn.Dense(4, name="b")(first), first


class JaxReader(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        second, first = JaxPair(name="pair")(x)
        return fnn.Dense(2, name="out")(fnn.relu(second) + first)


def test_one_output_that_is_made_from_another():
    """Its gradient is that of the place behind the layer: the layer's own use does not count."""
    twin = Twin(torch=TorchReader, jax=JaxReader, inputs={"x": Array((5, 3))}, name="pair")
    result = climb(twin, steps=2)
    assert result.verdict == "SAME", trouble(result)
    pair = Pair(twin)
    ours, theirs = (collect(pair.run(b)) for b in ("torch:cpu", "xla:cpu"))
    for key in ("train/gradient/layer/pair.0", "train/gradient/layer/pair.1"):
        close(ours[key], theirs[key])


class TorchIgnorer(nn.Module):
    """Ignores one of the two, and, of a loop's, the last."""

    def __init__(self):
        super().__init__()
        self.pair, self.out = TorchPair(), nn.Linear(4, 3)

    def forward(self, x):
        for _ in range(3):
            second, first = self.pair(x)
            x = x + self.out(first)
        return second


class JaxIgnorer(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        def step(self, x, _):
            second, first = JaxPair(name="pair")(x)
            return x + fnn.Dense(3, name="out")(first), second

        scan = fnn.scan(step, variable_broadcast="params", split_rngs={"params": False}, length=3)
        return scan(self, x, None)[1][-1]


def test_an_output_that_nobody_uses_has_no_gradient():
    """Though the layer itself uses it; in a scan that is a zero in the stack."""
    twin = Twin(torch=TorchIgnorer, jax=JaxIgnorer, inputs={"x": Array((5, 3))}, name="ignored")
    result = climb(twin, steps=2)
    assert result.verdict == "SAME", trouble(result)


def line(of: Any, text: str) -> str:
    """The file and line where `text` stands in the source of `of`."""
    lines, first = inspect.getsourcelines(of)
    offset = next(i for i, code in enumerate(lines) if text in code)
    return f"{Path(toys.__file__).name}:{first + offset}"


@pytest.mark.parametrize(
    ("name", "side", "key", "of", "text"),
    [
        ("twice", "torch:cpu", "b#1", toys.TorchTwice, "return self.b"),
        ("twice", "xla:cpu", "b#1", toys.JaxTwice, "return b("),
        ("remat around jit", "xla:cpu", "inner/a", toys.JaxTwice, "return b("),
        ("functions", "torch:cpu", "block.relu", toys.TorchFunctions, "return F.relu(self.conv"),
        ("functions", "torch:cpu", "max_pool", toys.TorchFunctions, "F.max_pool2d"),
        ("functions", "xla:cpu", "block/relu", toys.JaxFunctions, "fnn.Conv"),
        ("functions", "xla:cpu", "max_pool", toys.JaxFunctions, "fnn.max_pool"),
        ("scan", "xla:cpu", "cell/i", toys.JaxCell, 'name="i"'),
        ("lax.scan", "xla:cpu", "relu", toys.lax_loop, "jax.nn.relu"),
    ],
)
def test_source_lines(name: str, side: str, key: str, of: Any, text: str):
    case = next(c for c in CASES if c.name == name)
    run = Pair(case.twin).run(side)
    collect(run)
    assert run.info["train"][key].source.endswith(line(of, text))
