"""Pairs with dropout, for masks, ladder and samplers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from compare.ladder.result import Result


class TorchNet(nn.Module):
    """Two layers with a dropout of a module and one of a function."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.d = nn.Linear(3, 6), nn.Linear(6, 4), nn.Dropout(0.3)

    def forward(self, x):
        x = self.d(torch.tanh(self.a(x)))
        return F.dropout(self.b(x), 0.1, self.training)


def linen(rate: float = 0.3, **options: Any) -> Callable:
    return lambda x, train, key: fnn.Dropout(rate, **options)(x, deterministic=not train)


def keeping(rate: float, keep: float | None = None, scale: float | None = None) -> Callable:
    """Dropout as users write it, with a place for each fault."""
    keep = 1 - rate if keep is None else keep
    scale = 1 / (1 - rate) if scale is None else scale

    def drop(x, train, key):
        mask = jax.random.bernoulli(key("dropout"), keep, x.shape)
        return jnp.where(mask, x * scale, 0) if train else x

    return drop


def dropping(rate: float) -> Callable:
    """The same with a mask that says what is dropped."""

    def drop(x, train, key):
        mask = jax.random.bernoulli(key("dropout"), rate, x.shape)
        return jnp.where(mask, 0, x / (1 - rate)) if train else x

    return drop


def none(x, train, key):
    return x


class JaxNet(fnn.Module):
    one: Callable = linen(0.3)
    two: Callable = keeping(0.1)
    once: bool = False

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        key = self.make_rng("dropout") if self.once else None
        draw = (lambda name: key) if self.once else self.make_rng
        x = self.one(jnp.tanh(fnn.Dense(6, name="a")(x)), train, draw)
        return self.two(fnn.Dense(4, name="b")(x), train, draw)


def net(torch_model: Any = TorchNet, **options: Any) -> Twin:
    return Twin(torch=torch_model, jax=JaxNet(**options), inputs={"x": Array((9, 3))}, name="net")


def findings(result: Result) -> str:
    return "; ".join(text for s in result.stages.values() for _, text in s.findings)


class TorchEqual(nn.Module):
    """Two dropouts of one size and rate."""

    reseed = False

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        state = torch.get_rng_state()
        x = F.dropout(self.a(x), 0.2, self.training)
        if self.reseed:
            torch.set_rng_state(state)
        return F.dropout(self.b(x), 0.2, self.training)


class JaxEqual(fnn.Module):
    once: bool = False

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        key = self.make_rng("dropout")
        other = key if self.once else self.make_rng("dropout")
        x = keeping(0.2)(fnn.Dense(4, name="a")(x), train, lambda _: key)
        return keeping(0.2)(fnn.Dense(4, name="b")(x), train, lambda _: other)


class TorchImages(nn.Module):
    def __init__(self, drop: Callable = F.dropout2d):
        super().__init__()
        self.c, self.d, self.drop = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 3, 1), drop

    def forward(self, x):
        return self.d(self.drop(self.c(x), 0.4, self.training))


class JaxImages(fnn.Module):
    dims: tuple[int, ...] = (1, 2)

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        x = fnn.Conv(6, (3, 3), padding="VALID", name="c")(x)
        x = fnn.Dropout(0.4, broadcast_dims=self.dims)(x, deterministic=not train)
        return fnn.Conv(3, (1, 1), name="d")(x)


class JaxDropout(fnn.Module):
    """A layer of the user's own."""

    keep: float
    scale: float
    column: bool = False

    @fnn.compact
    def __call__(self, x):
        shape = (1, x.shape[-1]) if self.column else x.shape
        return x * jax.random.bernoulli(self.make_rng("dropout"), self.keep, shape) * self.scale


def layered(**options: Any) -> dict[str, Any]:
    return {"two": lambda x, train, key: JaxDropout(**options)(x) if train else x}
