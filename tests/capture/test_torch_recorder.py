"""PyTorch's functions are recorded, each once; what torch.func transforms is not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.linen as fnn
import jax
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from compare.capture.taps import BRANCHES, FUNCTIONS
from compare.capture.torch_recorder import NAMES, Recorder
from tests.arrays import close
from tests.toys import climb


class TorchSlope(nn.Module):
    """A layer and functions inside of torch.func's transformations, and again outside of them."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.act = nn.ReLU()

    def forward(self, x):
        def encode(x):
            return self.act(torch.sigmoid(self.fc(x)) - 0.5)

        return torch.func.vmap(torch.func.jacrev(encode))(x) * encode(x)[..., None]


class JaxSlope(fnn.Module):
    bias: bool = True

    @fnn.compact
    def __call__(self, x, *, train=False):
        fc = fnn.Dense(3, name="fc")
        outside = fc(x)
        params = fc.variables["params"]

        def encode(x):
            return fnn.relu(fnn.sigmoid(x @ params["kernel"] + self.bias * params["bias"]) - 0.5)

        return jax.vmap(jax.jacrev(encode))(x) * fnn.relu(fnn.sigmoid(outside) - 0.5)[..., None]


def test_what_torch_func_transforms_is_run_and_not_recorded():
    twin = Twin(torch=TorchSlope, jax=JaxSlope, inputs={"x": Array((5, 4))})
    assert climb(twin, steps=1).verdict == "SAME"
    wrong = replace(twin, jax=JaxSlope(bias=False))
    assert climb(wrong, steps=1).verdict == "DIVERGED"


TORCH_NAMES = {other: name for name, other in NAMES.items()} | {"max_pool": "max_pool2d"}
OPTIONS = {"softmax": (-1,), "log_softmax": (-1,), "max_pool": (2,)}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_named_functions_of_torch_are_recorded_once(name: str):
    x = torch.randn(2, 3, 4, 4)
    with Recorder(None) as recorder:
        out = getattr(F, TORCH_NAMES.get(name, name))(x, *OPTIONS.get(name, ()))
    assert list(recorder.info) == [name]
    close(recorder.taps[name].numpy(), out.numpy())
    assert list(recorder.branches) == ([name] if name in BRANCHES else [])


class Fields(NamedTuple):
    hidden: Any
    pooled: Any


@dataclass(frozen=True)
class Data:
    hidden: Any
    pooled: Any


class Mapped(OrderedDict):
    """As Hugging Face's outputs: what is set as an item is an attribute, too."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        object.__setattr__(self, key, value)


def picked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return getattr(value, "pooled", value["pooled"])
    return value.pooled if hasattr(value, "pooled") else value[1]


def as_tuple(hidden: Any, pooled: Any) -> Any:
    return hidden, pooled


def giving(make: Callable, stop: bool = False) -> Twin:
    """A submodule gives two values, of which one is made of the other and alone used."""

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(4, 4), nn.LayerNorm(4, eps=1e-6)

        def forward(self, x):
            hidden = self.fc(x)
            return make(hidden=hidden, pooled=self.norm(hidden[:, 0]))

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return picked(self.inner(x))

    class JaxInner(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            hidden = fnn.Dense(4, name="fc")(x)
            first = jax.lax.stop_gradient(hidden[:, 0]) if stop else hidden[:, 0]
            return {"hidden": hidden, "pooled": fnn.LayerNorm(name="norm")(first)}

    class JaxOuter(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return JaxInner(name="inner")(x)["pooled"]

    return Twin(torch=Outer, jax=JaxOuter(), inputs={"x": Array((2, 3, 4))})


@pytest.mark.parametrize("make", [dict, Mapped, Fields, Data, as_tuple])
def test_what_a_submodule_gives_by_name_is_a_place_of_its_own(make: Callable):
    assert climb(giving(make), steps=2).verdict == "SAME"
    assert climb(giving(make, stop=True), steps=2).stages["gradients"].verdict == "DIVERGED"
