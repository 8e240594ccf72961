"""One network on both sides, with a place for each fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from torch import nn

from compare import Image, Twin


class TorchNet(nn.Module):
    """One of each: strided convolution, batch norm, activations, square layers, layer norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3)
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.ln = nn.LayerNorm(4)

    def forward(self, x):
        x = F.leaky_relu(self.bn(self.conv(x)), 0.2)
        x = F.gelu(self.fc1(x.flatten(1)))
        return self.ln(self.fc3(torch.tanh(self.fc2(x))))


class Norm(fnn.Module):
    """torch's BatchNorm2d: the running variance is unbiased, momentum weighs the new value."""

    momentum: float = 0.1
    unbiased: bool = True
    eps: float = 1e-5

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        shape = x.shape[-1:]
        scale = self.param("scale", fnn.initializers.ones, shape)
        bias = self.param("bias", fnn.initializers.zeros, shape)
        running = self.variable("batch_stats", "mean", jnp.zeros, shape)
        spread = self.variable("batch_stats", "var", jnp.ones, shape)
        mean, var = running.value, spread.value
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            n = x.size // shape[0]
            estimate = var * n / (n - 1) if self.unbiased else var
            if not self.is_initializing():
                running.value += self.momentum * (mean - running.value)
                spread.value += self.momentum * (estimate - spread.value)
        return (x - mean) / jnp.sqrt(var + self.eps) * scale + bias


class Untransposed(fnn.Module):
    """A Dense layer that keeps its kernel as torch does, under Flax's name."""

    @fnn.compact
    def __call__(self, x):
        kernel = self.param("kernel", fnn.initializers.lecun_normal(), (4, 4))
        return x @ kernel.T + self.param("bias", fnn.initializers.zeros, (4,))


class Scaled(fnn.Module):
    """A layer with a parameter that torch has not."""

    @fnn.compact
    def __call__(self, x):
        return x * self.param("gain", fnn.initializers.ones, (4,))


def same(x):
    return x


class JaxNet(fnn.Module):
    """The same, with a place for each fault."""

    norm: Callable = Norm
    padding: Any = ((1, 1), (1, 1))
    slope: float = 0.2
    order: tuple[int, ...] = (0, 3, 1, 2)
    exact: bool = True
    bias: bool = True
    square: Callable = lambda name: fnn.Dense(4, name=name)
    first: Callable = same
    middle: Callable = same
    last: Callable = same
    eps: float = 1e-5
    width: int = 4

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        x = fnn.Conv(3, (3, 3), (2, 2), padding=self.padding, name="conv")(self.first(x))
        x = fnn.leaky_relu(self.norm(name="bn")(x, train=train), self.slope)
        x = x.transpose(self.order).reshape(len(x), -1)
        x = fnn.gelu(fnn.Dense(4, use_bias=self.bias, name="fc1")(x), approximate=not self.exact)
        x = self.middle(jnp.tanh(self.square(name="fc2")(x)))
        x = fnn.Dense(self.width, name="fc3")(x)
        return fnn.LayerNorm(epsilon=self.eps, name="ln")(self.last(x))


def net(**options: Any) -> Twin:
    rename = options.pop("rename", {})
    twin = options.pop("twin", {})
    given = {"inputs": {"x": Image(4, 2, 4, 4)}, "optimizer": ("sgd", {"lr": 0.05})}
    return Twin(torch=TorchNet, jax=JaxNet(**options), rename=rename, name="net", **given | twin)
