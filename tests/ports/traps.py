"""Right ports, each with one thing that is easily taken for a difference."""

from __future__ import annotations

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch import nn
from torch.nn import functional as F

from compare import Array, Twin

T, D = 5, 8


def dense(*shape: int) -> dict[str, jax.Array]:
    return {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[-1])}


def linear(p: dict, x: jax.Array) -> jax.Array:
    return x @ p["kernel"] + p["bias"]


class FloatMask(nn.Module):
    """A causal mask that is kept as numbers, and asked whether they are zero."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.register_buffer("mask", torch.tril(torch.ones(T, T)))

    def forward(self, x):
        scores = self.q(x) @ self.k(x).mT / D**0.5
        return scores.masked_fill(self.mask == 0, float("-inf")).softmax(-1) @ self.v(x)


def float_masked(p, x, scale=D**0.5):
    q, k, v = (linear(p[name], x) for name in "qkv")
    seen = jnp.tril(jnp.ones((T, T), bool))
    return jax.nn.softmax(jnp.where(seen, q @ k.swapaxes(1, 2) / scale, -jnp.inf)) @ v


float_mask = Twin(
    torch=FloatMask,
    jax=(float_masked, {name: dense(D, D) for name in "qkv"}),
    inputs={"x": Array((2, T, D))},
)


class Packed(nn.Module):
    """One product for query, key and value: the key's third of the bias has no gradient."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out((q @ k.mT / D**0.5).softmax(-1) @ v)


def packed_attention(p, x):
    q, k, v = jnp.split(linear(p["qkv"], x), 3, -1)
    return linear(p["out"], jax.nn.softmax(q @ k.swapaxes(1, 2) / D**0.5) @ v)


packed = Twin(
    torch=Packed,
    jax=(packed_attention, {"qkv": dense(D, 3 * D), "out": dense(D, D)}),
    inputs={"x": Array((4, T, D))},
    optimizer=("adam", {"lr": 1e-2}),
)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 4), nn.Linear(4, 6)

    def forward(self, x):
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(x))))


class FlaxGated(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        z = fnn.Dense(6, name="fc2")(fnn.relu(fnn.Dense(4, name="fc1")(x)))
        return x * jnp.clip(z + 3, 0, 6) / 6


hard_gate = Twin(torch=Gated, jax=FlaxGated, inputs={"x": Array((3, 6))})


class Unused(nn.Module):
    """What the last of the residual layers gives, nobody reads: Adam has no state of it."""

    def __init__(self):
        super().__init__()
        self.first, self.skip, self.res = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        self.res(h)
        return self.skip(h)


def unused_last(p, x):
    h = jnp.tanh(linear(p["first"], x))
    linear(p["res"], h)
    return linear(p["skip"], h)


unused = Twin(
    torch=Unused,
    jax=(unused_last, {"first": dense(4, 4), "skip": dense(4, 3), "res": dense(4, 4)}),
    inputs={"x": Array((3, 4))},
    optimizer=("adam", {"lr": 1e-2}),
)


class Stem(nn.Module):
    """`stem` is two layers here, and one of them in the port."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.stem(x))


class FlaxStem(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        x = fnn.LayerNorm(epsilon=1e-5, name="stem_norm")(fnn.Dense(6, name="stem")(x))
        return fnn.Dense(3, name="head")(x)


stem = Twin(torch=Stem, jax=FlaxStem, inputs={"x": Array((2, 4))})


class TwoLoops(nn.Module):
    """Two loops of different lengths that call the same functions."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x, y):
        h = torch.zeros_like(x[:, 0])
        for layer, steps in ((self.a, x), (self.b, y)):
            for step in steps.unbind(1):
                z = layer(h + step)
                h = torch.sigmoid(z) * torch.sigmoid(z + 1)
        return h


def two_scans(p, x, y):
    h = jnp.zeros_like(x[:, 0])
    for name, steps in (("a", x), ("b", y)):

        def step(h, x, layer=p[name]):
            z = linear(layer, h + x)
            return jax.nn.sigmoid(z) * jax.nn.sigmoid(z + 1), None

        h, _ = lax.scan(step, h, steps.swapaxes(0, 1))
    return h


two_loops = Twin(
    torch=TwoLoops,
    jax=(two_scans, {name: dense(3, 3) for name in "ab"}),
    inputs={"x": Array((2, 5, 3)), "y": Array((2, 4, 3))},
)
