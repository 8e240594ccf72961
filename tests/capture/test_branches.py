"""Branches imposed on PyTorch's run: against each by hand, in every spelling; flips counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Image, Twin
from compare.capture.branches import imposed
from compare.capture.taps import BRANCHES
from compare.ladder.pair import Pair
from tests.arrays import close, gradient
from tests.toys import collect

KINKED: dict[str, tuple[Any, tuple, dict[str, Any]]] = {
    "relu": (F.relu, (), {}),
    "relu in place": (F.relu, (), {"inplace": True}),
    "relu6": (F.relu6, (), {}),
    "leaky_relu": (F.leaky_relu, (0.2,), {}),
    "leaky_relu by keyword": (F.leaky_relu, (), {"negative_slope": 0.3}),
    "leaky_relu by default": (F.leaky_relu, (), {}),
    "hard_tanh": (F.hardtanh, (), {}),
    "hard_tanh with limits": (F.hardtanh, (-0.5, 0.25), {}),
    "hard_tanh by keyword": (F.hardtanh, (), {"min_val": -2.0, "max_val": 0.5}),
    "max_pool": (F.max_pool2d, (2,), {}),
    "max_pool overlapping": (F.max_pool2d, (3,), {"stride": 2, "padding": 1}),
    "max_pool dilated": (F.max_pool2d, (2, 1, 0, 2), {}),
    "max_pool ceil": (F.max_pool2d, (2,), {"ceil_mode": True}),
    "max_pool unbatched": (F.max_pool2d, (2,), {}),
    "max_pool of sequences": (F.max_pool1d, (2,), {}),
}


def by_hand(name: str, func: Callable, x: torch.Tensor, theirs: torch.Tensor, args, kwargs):
    """func(x) on theirs' branches: the affine map, or the place, that is active at `theirs`."""
    if name.startswith("max_pool"):
        # A one-hot of x's place tells which element `theirs` picks; overlapping windows share one.
        at = theirs.clone().requires_grad_()
        pooled = func(at, *args, **kwargs)
        out = torch.zeros_like(pooled, dtype=x.dtype)
        for index in np.ndindex(*pooled.shape):
            (picked,) = torch.autograd.grad(pooled[index], at, retain_graph=True)
            out[index] = (picked * x).sum()
        return out
    at = theirs.clone().requires_grad_()
    value = func(at.clone(), *args, **kwargs)
    (slope,) = torch.autograd.grad(value.sum(), at)
    return slope * x + (value - slope * theirs).detach()


@pytest.mark.parametrize("name", KINKED)
def test_imposed_branches(name: str):
    func, args, kwargs = KINKED[name]
    kind = name.split()[0]
    rng = torch.Generator().manual_seed(0)
    shape = {"max_pool unbatched": (2, 5, 5), "max_pool of sequences": (2, 2, 5)}.get(name)
    x = torch.randn(shape or (2, 2, 5, 5), generator=rng, dtype=torch.float64)
    theirs = x + 0.5 * torch.randn(x.shape, generator=rng, dtype=torch.float64)
    ours, hand = x.clone().requires_grad_(), x.clone().requires_grad_()
    output, flips = imposed(kind, func, ours.clone(), theirs, args, kwargs)
    wanted = by_hand(name, func, hand, theirs, args, kwargs)
    close(output.detach().numpy(), wanted.detach().numpy())
    weight = torch.randn(wanted.shape, generator=rng, dtype=torch.float64)
    (output * weight).sum().backward()
    (wanted * weight).sum().backward()
    close(gradient(ours), gradient(hand))
    own = by_hand(name, func, x, x, args, kwargs)
    assert flips.error == pytest.approx(float((x - theirs).abs().max()))
    assert flips.scale == pytest.approx(float(x.abs().max()))
    if kind == "max_pool":
        assert flips.count == int((own != wanted).sum())
        assert flips.farthest == pytest.approx(float((own - wanted).detach().abs().max()))
    else:
        slopes = [
            torch.autograd.functional.jvp(
                lambda z: func(z.clone(), *args, **kwargs), at, torch.ones_like(at)
            )[1]
            for at in (x, theirs)
        ]
        assert flips.count == int((slopes[0] != slopes[1]).sum())


def test_every_branching_function_is_tested():
    assert {name.split()[0] for name in KINKED} == BRANCHES


def in_place(function: Callable) -> Callable:
    """A call whose result is not taken: what it did to its argument counts."""

    def call(x):
        x = x + 0.1
        function(x)
        return x * 2

    return call


def picky(x):
    values, _ = F.max_pool2d(x, 2, return_indices=True)
    return values


SPELLINGS = {
    "relu": F.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "F.relu_": in_place(F.relu_),
    "torch.relu_": in_place(torch.relu_),
    "Tensor.relu_": in_place(lambda x: x.relu_()),
    "relu(inplace=True)": in_place(lambda x: F.relu(x, inplace=True)),
    "relu(x, True)": in_place(lambda x: F.relu(x, True)),
    "ReLU": nn.ReLU(),
    "ReLU(inplace=True)": in_place(nn.ReLU(inplace=True)),
    "ReLU6(inplace=True)": in_place(nn.ReLU6(inplace=True)),
    "LeakyReLU": nn.LeakyReLU(0.3),
    "LeakyReLU(inplace=True)": in_place(nn.LeakyReLU(0.3, inplace=True)),
    "F.leaky_relu_": in_place(lambda x: F.leaky_relu_(x, 0.3)),
    "Hardtanh(inplace=True)": in_place(nn.Hardtanh(-0.5, 0.25, inplace=True)),
    "F.hardtanh_": in_place(lambda x: F.hardtanh_(x, -0.5, 0.25)),
    "MaxPool2d": nn.MaxPool2d(3, 2, 1),
    "MaxPool2d of one image": lambda x: nn.MaxPool2d(2)(x[0])[None],
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, 2),
    "max_pool2d with indices": picky,
    "twice": lambda x: F.relu(F.relu(x) - 0.5),
}


def plain_jax(x):
    return x


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_run_on_its_own_branches_is_the_plain_run(name: str):
    function = SPELLINGS[name]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, x):
            return function(self.conv(x))

    pair = Pair(Twin(torch=Model, jax=plain_jax, inputs={"x": Image(2, 2, 6, 6)}, name="kinks"))
    plain = pair.run("torch:cpu", "float32")
    wanted = collect(plain)
    assert all(plain.branches.values())
    again = pair.run("torch:cpu", "float32", impose=plain.branches.__getitem__)
    found = collect(again)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        close(found[key], value)
    assert set(again.flips) == {f"{m}/{k}" for m, b in plain.branches.items() for k in b}
    assert all(flips.count == 0 for flips in again.flips.values())


@pytest.mark.parametrize("key", ["relu", "leaky", "hard_tanh"])
def test_flips_are_counted(key: str):
    model = {"relu": F.relu, "leaky": nn.LeakyReLU(0.2), "hard_tanh": F.hardtanh}[key]
    pair = Pair(Twin(torch=lambda: module_of(model), jax=plain_jax, inputs={"x": Array((4, 5))}))
    plain = pair.run("torch:cpu", "float32")
    collect(plain)
    ((name, branch),) = plain.branches["eval"].items()
    turned = branch.copy()
    turned.flat[[1, 7, 12]] *= -1
    if key == "hard_tanh":
        turned.flat[[1, 7, 12]] = np.where(np.abs(branch.flat[[1, 7, 12]]) < 1, 2.0, 0.0)
    run = pair.run("torch:cpu", impose=lambda mode: {name: turned} if mode == "eval" else {})
    collect(run)
    assert run.flips[f"eval/{name}"].count == 3


def module_of(function: Callable) -> nn.Module:
    """A function as a module."""

    class Wrapped(nn.Module):
        def forward(self, x):
            return function(x)

    return Wrapped()
