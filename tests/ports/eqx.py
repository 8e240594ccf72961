"""Modules of Equinox that hold what the port has put into them, each of one example."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import torch
from jax import lax
from torch import Tensor, nn

from compare import Array, Image, Twin
from tests.ports import Values, fresh, trained
from tests.ports.plain import GatedMlp
from tests.ports.scanned import Layers

KEY = jr.key(0)


def mapped(model: Any, *inputs: jax.Array, train: bool) -> jax.Array:
    """A model of one example, for a batch."""
    return jax.vmap(model)(*inputs)


def with_weights(model: Any, s: Values, name: str) -> Any:
    """A layer of Equinox, whose layouts are PyTorch's, with the weights of that name."""
    weight = jnp.asarray(s[f"{name}.weight"])
    model = eqx.tree_at(lambda m: m.weight, model, weight)
    if f"{name}.bias" not in s:
        return model
    bias = jnp.asarray(s[f"{name}.bias"]).reshape(model.bias.shape)
    return eqx.tree_at(lambda m: m.bias, model, bias)


class Gated(eqx.Module):
    """Gate and up projection in one layer."""

    scale: jax.Array
    wi: eqx.nn.Linear
    wo: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        h = x * lax.rsqrt(jnp.mean(x * x) + 1e-6) * self.scale
        gate, up = jnp.split(self.wi(h), 2)
        return x + self.wo(jax.nn.silu(gate) * up)


_torch, _s = trained(GatedMlp)
_joint = {"wi.weight": np.concatenate([_s["gate_proj.weight"], _s["up_proj.weight"]])}
gated = Twin(
    torch=_torch,
    jax=Gated(
        jnp.asarray(_s["norm.weight"]),
        with_weights(eqx.nn.Linear(6, 20, use_bias=False, key=KEY), _joint, "wi"),
        with_weights(eqx.nn.Linear(10, 6, use_bias=False, key=KEY), _s, "down_proj"),
    ),
    inputs={"x": Array((3, 6))},
    jax_call=mapped,
)


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU()
        )
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class EqxConvolved(eqx.Module):
    c1: eqx.nn.Conv2d
    c2: eqx.nn.Conv2d
    fc: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        x = eqx.nn.MaxPool2d(2, 2)(jax.nn.relu(self.c1(x)))
        return self.fc(jax.nn.relu(self.c2(x)).ravel())


_torch, _s = fresh(Convolved)
convolved = Twin(
    torch=_torch,
    jax=EqxConvolved(
        with_weights(eqx.nn.Conv2d(3, 4, 3, padding=1, key=KEY), _s, "features.0"),
        with_weights(eqx.nn.Conv2d(4, 4, 3, key=KEY), _s, "features.3"),
        with_weights(eqx.nn.Linear(4, 3, key=KEY), _s, "classifier"),
    ),
    inputs={"x": Image(2, 3, 6, 6)},
    layout="same",
    jax_call=mapped,
)


class Stacked(eqx.Module):
    """The layers in one module whose arrays have an axis more, run by a scan."""

    embed: eqx.nn.Linear
    layers: Any
    head: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        dynamic, static = eqx.partition(self.layers, eqx.is_array)

        def step(x: jax.Array, arrays: Any) -> tuple[jax.Array, None]:
            return eqx.combine(arrays, static)(x), None

        return self.head(lax.scan(step, self.embed(x), dynamic)[0])


class EqxLayer(eqx.Module):
    norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.down(jax.nn.gelu(self.up(self.norm(x))))


def layer_from(s: Values, name: str) -> EqxLayer:
    return EqxLayer(
        with_weights(eqx.nn.LayerNorm(6), s, f"{name}.norm"),
        with_weights(eqx.nn.Linear(6, 8, key=KEY), s, f"{name}.up"),
        with_weights(eqx.nn.Linear(8, 6, key=KEY), s, f"{name}.down"),
    )


_torch, _s = fresh(Layers)
_each = [eqx.filter(layer_from(_s, f"layers.{i}"), eqx.is_array) for i in range(3)]
_static = eqx.filter(layer_from(_s, "layers.0"), eqx.is_array, inverse=True)
stacked = Twin(
    torch=_torch,
    jax=Stacked(
        with_weights(eqx.nn.Linear(4, 6, key=KEY), _s, "embed"),
        eqx.combine(jax.tree.map(lambda *leaves: jnp.stack(leaves), *_each), _static),
        with_weights(eqx.nn.Linear(6, 2, key=KEY), _s, "head"),
    ),
    inputs={"x": Array((3, 4))},
    jax_call=mapped,
)


class Attended(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True, bias=False)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.attn(x, x, x, need_weights=False)[0]))


class EqxAttended(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    out: eqx.nn.Linear

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.vmap(self.out)(jnp.tanh(self.attention(x, x, x)))


def attention_from(s: Values) -> eqx.nn.MultiheadAttention:
    each = dict(zip("qkv", s["attn.in_proj_weight"].reshape(3, 8, 8), strict=True))
    new = eqx.nn.MultiheadAttention(2, 8, key=KEY)
    return eqx.tree_at(
        lambda m: (
            m.query_proj.weight, m.key_proj.weight, m.value_proj.weight, m.output_proj.weight
        ),
        new,
        tuple(jnp.asarray(w) for w in (*each.values(), s["attn.out_proj.weight"])),
    )  # fmt: skip


_torch, _s = fresh(Attended)
attended = Twin(
    torch=_torch,
    jax=EqxAttended(attention_from(_s), with_weights(eqx.nn.Linear(8, 3, key=KEY), _s, "fc")),
    inputs={"x": Array((2, 4, 8))},
    jax_call=mapped,
)


class Recurrent(nn.Module):
    """PyTorch's GRU; Equinox's cell has the hidden bias of the candidate alone."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(5, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[1][0])


class Unrolled(eqx.Module):
    """The cell written out, with both biases, and run by a scan."""

    w_ih: jax.Array
    w_hh: jax.Array
    biases: jax.Array
    head: eqx.nn.Linear

    def __call__(self, xs: jax.Array) -> jax.Array:
        def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            ir, iz, inn = jnp.split(self.w_ih @ x + self.biases[0], 3)
            hr, hz, hn = jnp.split(self.w_hh @ h + self.biases[1], 3)
            z = jax.nn.sigmoid(iz + hz)
            n = jnp.tanh(inn + jax.nn.sigmoid(ir + hr) * hn)
            return n + z * (h - n), None

        return self.head(lax.scan(step, jnp.zeros(4, xs.dtype), xs)[0])


_torch, _s = fresh(Recurrent)
unrolled = Twin(
    torch=_torch,
    jax=Unrolled(
        jnp.asarray(_s["gru.weight_ih_l0"]),
        jnp.asarray(_s["gru.weight_hh_l0"]),
        jnp.stack([jnp.asarray(_s["gru.bias_ih_l0"]), jnp.asarray(_s["gru.bias_hh_l0"])]),
        with_weights(eqx.nn.Linear(4, 2, key=KEY), _s, "head"),
    ),
    inputs={"x": Array((3, 4, 5))},
    jax_call=mapped,
)
