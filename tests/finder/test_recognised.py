"""Layers that PyTorch's side spells out are known by what they give, and their causes are found."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from compare import Array, Twin, find
from compare.capture.torch_recorder import Call
from compare.finder.recognised import recognised


class NewGELU(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Norm(nn.Module):
    """RMSNorm as language models have it; `plus` is what Gemma adds to its weight."""

    def __init__(self, plus: float = 0.0):
        super().__init__()
        self.weight, self.variance_epsilon, self.plus = nn.Parameter(torch.ones(8)), 1e-6, plus

    def forward(self, x):
        dtype = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.plus + self.weight) * x.to(dtype)


class Centred(nn.Module):
    """LayerNorm by hand."""

    def __init__(self):
        super().__init__()
        self.g, self.b = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        deviation = ((x - mean) ** 2).mean(-1, keepdim=True).add(1e-5).sqrt()
        return (x - mean) / deviation * self.g + self.b


class Net(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.a, self.layer, self.b = nn.Linear(8, 8), layer, nn.Linear(8, 4)

    def forward(self, x):
        return self.b(self.layer(self.a(x)))


class Flax(fnn.Module):
    layer: Any

    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(4, name="b")(self.layer(fnn.Dense(8, name="a")(x)))


class FlaxNorm(fnn.Module):
    eps: float = 1e-6
    plus: float = 0.0

    @fnn.compact
    def __call__(self, x):
        weight = self.param("weight", fnn.initializers.ones, (8,))
        y = x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + self.eps)
        return (weight + self.plus) * y


class FlaxCentred(fnn.Module):
    eps: float = 1e-5

    @fnn.compact
    def __call__(self, x):
        g = self.param("g", fnn.initializers.ones, (8,))
        b = self.param("b", fnn.initializers.zeros, (8,))
        mean = x.mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(x.var(-1, keepdims=True) + self.eps) * g + b


@pytest.mark.parametrize(
    ("ours", "theirs", "code"),
    [
        (NewGELU(), lambda x: jax.nn.gelu(x, approximate=True), None),
        (NewGELU(), lambda x: jax.nn.gelu(x, approximate=False), "ACT-01"),
        (Norm(), FlaxNorm(name="layer"), None),
        (Norm(), FlaxNorm(eps=1e-5, name="layer"), "RMS-01"),
        (Norm(), FlaxNorm(plus=1.0, name="layer"), "RMS-02"),
        (Norm(plus=1.0), FlaxNorm(plus=1.0, name="layer"), None),
        (Norm(plus=1.0), FlaxNorm(eps=1e-3, plus=1.0, name="layer"), "RMS-01"),
        (Centred(), FlaxCentred(name="layer"), None),
        (Centred(), FlaxCentred(eps=1e-3, name="layer"), "LN-01"),
    ],
)
def test_what_is_written_out_has_its_causes(ours: nn.Module, theirs: Any, code: str | None):
    twin = Twin(torch=Net(ours), jax=Flax(theirs), inputs={"x": Array((3, 8))})
    report = find(twin)
    assert report.verdict == ("DIVERGED" if code else "SAME")
    assert (report.cause and report.cause["code"]) == code


class Other(nn.Module):
    def forward(self, x):
        return x.tanh() * 0.7


def test_nothing_is_made_of_another_layer():
    x = torch.linspace(-2, 2, 8, dtype=torch.float64)[None]
    for module in (Other(), Norm(plus=0.5).double()):
        if isinstance(module, Norm):
            nn.init.normal_(module.weight)
        ours = module(x).detach().numpy()
        call = Call(module, None, (x,), {})
        assert list(recognised(call, np.zeros_like(ours), ours)) == []
