"""PyTorch's functions are recorded, each once; what torch.func transforms is not."""

from __future__ import annotations

from dataclasses import replace

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
