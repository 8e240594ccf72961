"""Ports that are free in their structure: modules beside plain functions, with places for faults.

A port's `fault` is a word; the empty one is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Image, Twin


def tree(model: nn.Module) -> dict[str, Any]:
    """A module's tensors as nested dicts, matrices and kernels as JAX has them."""
    names = {1: "scale", 2: "kernel", 4: "kernel"}
    found: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        *path, last = name.split(".")
        here, array = found, tensor.numpy().copy()
        for part in path:
            here = here.setdefault(part, {})
        if last == "weight":
            last = names[array.ndim]
            array = {1: array, 2: array.T, 4: array.transpose()}[array.ndim].copy()
            array = array.transpose(1, 0, 2, 3).copy() if array.ndim == 4 else array
        if array.ndim:
            here[last.removeprefix("running_")] = array
    return found


def dense(p: Any, x: Any) -> Any:
    return x @ p["kernel"] + p["bias"]


def layer_norm(p: Any, x: Any, eps: float = 1e-5) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + eps) * p["scale"] + p["bias"]


class Block(nn.Module):
    """A pre-norm transformer block with a joint projection."""

    def __init__(self, width: int = 16, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, d = x.shape
        joint = self.qkv(self.ln1(x)).reshape(n, t, 3, self.heads, -1)
        q, k, v = joint.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2)
        scores = scores / (d // self.heads) ** 0.5
        past = torch.ones(t, t, dtype=torch.bool).tril()
        scores = scores.masked_fill(~past, -torch.inf)
        mixed = scores.softmax(-1) @ v
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    """Two of them; the second is at fault."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def block(p: Any, x: Any, fault: str, heads: int = 4) -> Any:
    n, t, d = x.shape
    y = layer_norm(p["ln1"], x, 1e-6 if fault == "eps" else 1e-5)
    joint = dense(p["qkv"], y)
    if fault == "interleaved":
        q, k, v = jnp.moveaxis(joint.reshape(n, t, heads, 3, -1), 3, 0)
    else:
        q, k, v = (part.reshape(n, t, heads, -1) for part in jnp.split(joint, 3, -1))
    q = q if fault == "scale" else q / np.sqrt(d // heads)
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k)
    if fault != "mask":
        scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-2 if fault == "axis" else -1)
    mixed = jnp.einsum("nhqk,nkhd->nqhd", weights, v)
    mixed = mixed.swapaxes(-1, -2) if fault == "merged" else mixed
    stream = y if fault == "residual" else x
    x = stream + dense(p["proj"], mixed.reshape(n, t, d))
    hidden = dense(p["up"], layer_norm(p["ln2"], x))
    return x + dense(p["down"], jax.nn.gelu(hidden, approximate=fault == "gelu"))


def transformer(p: Any, x: Any, fault: str) -> Any:
    x = block(p["blocks"]["0"], x, "")
    return dense(p["head"], block(p["blocks"]["1"], x, fault))


class Lstm(nn.Module):
    """A packed LSTM between two layers."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 6), nn.Linear(8, 3)
        self.lstm = nn.LSTM(6, 8, batch_first=True)

    def forward(self, x):
        return self.head(self.lstm(torch.tanh(self.embed(x)))[0][:, -1])


def lstm(p: Any, x: Any, fault: str) -> Any:
    """One product for each gate, step by step in Python."""
    x, rnn = jnp.tanh(dense(p["embed"], x)), p["lstm"]
    h = c = jnp.zeros((len(x), 8), x.dtype)

    def gate(i: int, x: Any, h: Any) -> Any:
        of = slice(8 * i, 8 * i + 8)
        given = x @ rnn["weight_ih_l0"][of].T + rnn["bias_ih_l0"][of]
        return given + h @ rnn["weight_hh_l0"][of].T + rnn["bias_hh_l0"][of]

    for step in range(x.shape[1]):
        i, f, g, o = (gate(number, x[:, step], h) for number in range(4))
        f = f + 1.0 if fault == "forget" else f
        g = g if fault == "cell" else jnp.tanh(g)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * g
        h = jax.nn.sigmoid(o) * (c if fault == "output" else jnp.tanh(c))
    return dense(p["head"], c if fault == "state" else h)


class Gru(nn.Module):
    """A GRU and a layer."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.gru(x)[0])


def gru(p: Any, x: Any, fault: str) -> Any:
    """The cell in a scan."""
    rnn = p["gru"]

    def cell(h: Any, x: Any) -> tuple:
        ar, az, an = jnp.split(x @ rnn["weight_ih_l0"].T + rnn["bias_ih_l0"], 3, -1)
        ur, uz, un = jnp.split(h @ rnn["weight_hh_l0"].T + rnn["bias_hh_l0"], 3, -1)
        r, z = jax.nn.sigmoid(ar + ur), jax.nn.sigmoid(az + uz)
        n = jnp.tanh(an + (un if fault == "reset" else r * un))
        h = (1 - z) * h + z * n if fault == "update" else (1 - z) * n + z * h
        return h, h

    start = jnp.zeros((len(x), 8), x.dtype)
    _, states = jax.lax.scan(cell, start, x.swapaxes(0, 1), reverse=fault == "reverse")
    return dense(p["head"], states.swapaxes(0, 1))


class Conv(nn.Module):
    """Convolutions, batch norm, pooling, flattened."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn1, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1)
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(24, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return self.fc(x.flatten(1))


def conv(p: Any, x: Any, fault: str) -> Any:
    def convolved(x: Any, name: str, stride: int, padding: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = p[name]["kernel"]
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=numbers
        )

    def pooled(x: Any, start: float, how: Callable) -> Any:
        return jax.lax.reduce_window(x, start, how, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    x, norm = convolved(x, "conv1", 2, "SAME" if fault == "padding" else [(1, 1)] * 2), p["bn1"]
    x = (x - norm["mean"]) / jnp.sqrt(norm["var"] + (1e-3 if fault == "eps" else 1e-5))
    x = jax.nn.relu(x * norm["scale"] + norm["bias"])
    x = convolved(x, "conv2", 1, "SAME") + p["conv2"]["bias"]
    x = x if fault == "relu" else jax.nn.relu(x)
    x = pooled(x, 0.0, jax.lax.add) / 4 if fault == "mean" else pooled(x, -jnp.inf, jax.lax.max)
    x = x if fault == "flatten" else x.transpose(0, 3, 1, 2)
    return dense(p["fc"], x.reshape(len(x), -1))


PORTS: dict[str, tuple[Callable, Callable, Any]] = {
    "transformer": (Transformer, transformer, Array((2, 6, 16))),
    "lstm": (Lstm, lstm, Array((2, 4, 5))),
    "gru": (Gru, gru, Array((2, 4, 6))),
    "conv": (Conv, conv, Image(2, 3, 8, 8)),
}


def port(name: str, fault: str = "") -> Twin:
    """A module, and its port as a plain function of the same weights."""
    make, apply, x = PORTS[name]
    torch.manual_seed(0)
    model = make()
    jax_side = (lambda p, x: apply(p, x, fault)), tree(model)
    return Twin(torch=model, jax=jax_side, inputs={"x": x}, name=f"{name} {fault}")
