"""Layers stacked on an axis for a scan or a vmap, beside lists of modules."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compare import Array, Twin
from tests.ports import Values, fresh, trained

D, DEPTH = 6, 3


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(D), nn.Linear(D, 8), nn.Linear(8, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x)), approximate="tanh"))


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, D)
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))
        self.head = nn.Linear(D, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def stacked(s: Values, name: str, axis: int = 0) -> np.ndarray:
    """A tensor of all layers in one, a matrix transposed."""
    return np.stack([s[f"layers.{i}.{name}"].T for i in range(DEPTH)], axis)


x = {"x": Array((3, 4))}
_torch, _s = trained(Layers)


# A scan over arrays that the port has stacked, its body rematerialised.
def scan_apply(p: dict, x: jax.Array) -> jax.Array:
    @jax.checkpoint
    def layer(x: jax.Array, q: dict) -> tuple[jax.Array, None]:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        y = (x - mean) * jax.lax.rsqrt(var + 1e-5) * q["g"] + q["b"]
        return x + jax.nn.gelu(y @ q["w_up"] + q["b_up"]) @ q["w_down"] + q["b_down"], None

    x = x @ p["embed"]["w"] + p["embed"]["b"]
    x, _ = jax.lax.scan(layer, x, p["layers"])
    return x @ p["head"]["w"] + p["head"]["b"]


def dense(s: Values, name: str) -> Values:
    return {"w": s[f"{name}.weight"].T, "b": s[f"{name}.bias"]}


scan_params = {
    "embed": dense(_s, "embed"),
    "layers": {
        "g": stacked(_s, "norm.weight"),
        "b": stacked(_s, "norm.bias"),
        "w_up": stacked(_s, "up.weight"),
        "b_up": stacked(_s, "up.bias"),
        "w_down": stacked(_s, "down.weight"),
        "b_down": stacked(_s, "down.bias"),
    },
    "head": dense(_s, "head"),
}
scan = Twin(torch=_torch, jax=(scan_apply, scan_params), inputs=x)


# Linen's own scan, of rematerialised layers.
class LinenLayer(fnn.Module):
    @fnn.compact
    def __call__(self, x: jax.Array, _: Any) -> tuple[jax.Array, None]:
        y = fnn.LayerNorm(epsilon=1e-5, name="norm")(x)
        y = fnn.gelu(fnn.Dense(8, name="up")(y))
        return x + fnn.Dense(D, name="down")(y), None


class LinenLayers(fnn.Module):
    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = fnn.Dense(D, name="embed")(x)
        scanned = fnn.scan(
            fnn.remat(LinenLayer, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=DEPTH,
        )
        x, _ = scanned(name="layers")(x, None)
        return fnn.Dense(2, name="head")(x)


def kernel(s: Values, name: str) -> Values:
    return {"kernel": s[f"{name}.weight"].T, "bias": s[f"{name}.bias"]}


# And with PyTorch's initial ones and zeros.
_initial, _i = fresh(Layers)
scan_initial_params = {
    "embed": dense(_i, "embed"),
    "layers": {
        "g": stacked(_i, "norm.weight"),
        "b": stacked(_i, "norm.bias"),
        "w_up": stacked(_i, "up.weight"),
        "b_up": stacked(_i, "up.bias"),
        "w_down": stacked(_i, "down.weight"),
        "b_down": stacked(_i, "down.bias"),
    },
    "head": dense(_i, "head"),
}
scan_initial = Twin(torch=_initial, jax=(scan_apply, scan_initial_params), inputs=x)


linen_scan_params = {
    "embed": kernel(_s, "embed"),
    "layers": {
        "norm": {"scale": stacked(_s, "norm.weight"), "bias": stacked(_s, "norm.bias")},
        "up": {"kernel": stacked(_s, "up.weight"), "bias": stacked(_s, "up.bias")},
        "down": {"kernel": stacked(_s, "down.weight"), "bias": stacked(_s, "down.bias")},
    },
    "head": kernel(_s, "head"),
}
linen_scan = Twin(
    torch=_torch, jax=LinenLayers(), variables={"params": linen_scan_params}, inputs=x
)


# The same weights, in layers that Linen has named itself.
class LinenAuto(fnn.Module):
    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = fnn.Dense(D)(x)
        for _ in range(DEPTH):
            y = fnn.gelu(fnn.Dense(8)(fnn.LayerNorm(epsilon=1e-5)(x)))
            x = x + fnn.Dense(D)(y)
        return fnn.Dense(2)(x)


linen_auto_params = {"Dense_0": kernel(_s, "embed"), f"Dense_{2 * DEPTH + 1}": kernel(_s, "head")}
for _i in range(DEPTH):
    linen_auto_params |= {
        f"LayerNorm_{_i}": {
            "scale": _s[f"layers.{_i}.norm.weight"],
            "bias": _s[f"layers.{_i}.norm.bias"],
        },
        f"Dense_{2 * _i + 1}": kernel(_s, f"layers.{_i}.up"),
        f"Dense_{2 * _i + 2}": kernel(_s, f"layers.{_i}.down"),
    }
linen_auto = Twin(torch=_torch, jax=(LinenAuto().apply, {"params": linen_auto_params}), inputs=x)


class Ensemble(nn.Module):
    """The mean of several networks; the port maps one over its stacked weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)) for _ in range(DEPTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.layers]).mean(0)


def member(p: tuple, x: jax.Array) -> jax.Array:
    w1, b1, w2, b2 = p
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


def ensemble_apply(p: tuple, x: jax.Array) -> jax.Array:
    return jax.vmap(member, in_axes=(0, None))(p, x).mean(0)


_torch, _s = fresh(Ensemble)
ensemble_params = tuple(stacked(_s, f"{i}.{leaf}") for i in (0, 2) for leaf in ("weight", "bias"))
ensemble = Twin(torch=_torch, jax=(ensemble_apply, ensemble_params), inputs=x)
