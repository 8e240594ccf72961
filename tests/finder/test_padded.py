"""Padding before the layer on one side and in it on the other is no origin; what is wrong is."""

from __future__ import annotations

import flax.linen as fnn
import torch.nn.functional as F
from torch import nn

from compare import Image, Twin, find
from tests.toys import found


class Torch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = F.gelu(self.a(F.pad(x, (0, 1, 0, 1))))
        x = F.gelu(self.b(F.pad(x, (1, 1, 1, 1))))
        return self.fc(x.mean((2, 3)))


class Jax(fnn.Module):
    exact: bool = True
    padding: int = 1
    factor: float = 1.0

    @fnn.compact
    def __call__(self, x):
        x = fnn.Conv(4, (3, 3), 2, padding=((0, 1), (0, 1)), name="a")(x)
        x = fnn.gelu(x, approximate=False)
        x = fnn.Conv(4, (3, 3), padding=self.padding, name="b")(x)
        x = fnn.gelu(x, approximate=not self.exact)
        return self.factor * fnn.Dense(5, name="fc")(x.mean((1, 2)))


def twin(theirs: fnn.Module) -> Twin:
    return Twin(torch=Torch, jax=theirs, inputs={"x": Image(2, 3, 8, 8)})


def test_a_right_port_is_the_same():
    assert find(twin(Jax()), steps=2).verdict == "SAME"


def test_the_origin_is_what_is_wrong():
    origin = found(twin(Jax(exact=False))).origin
    assert origin is not None
    assert "gelu" in origin.torch
    origin = found(twin(Jax(factor=1.001))).origin
    assert origin is not None
    assert origin.torch == "the output"


def test_a_padding_that_is_missing_is_the_origin():
    origin = found(twin(Jax(padding=0))).origin
    assert origin is not None
    assert origin.torch == "b"
