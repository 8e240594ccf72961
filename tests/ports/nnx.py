"""Modules of Flax NNX that hold what the port has put into them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import Tensor, nn
from torch.nn import functional as F

from compare import Array, Image, Twin
from tests.ports import Values, fresh, trained
from tests.ports.attention import Block, layer_norm
from tests.ports.scanned import Layers

D = 12


def put(linear: Any, s: Values, name: str) -> None:
    """A dense layer's or a convolution's weights, in Flax's layout."""
    weight = s[f"{name}.weight"]
    linear.kernel[...] = jnp.asarray(weight.transpose(*range(2, weight.ndim), 1, 0))
    if f"{name}.bias" in s:
        linear.bias[...] = jnp.asarray(s[f"{name}.bias"])


def put_norm(norm: Any, s: Values, name: str) -> None:
    norm.scale[...] = jnp.asarray(s[f"{name}.weight"])
    norm.bias[...] = jnp.asarray(s[f"{name}.bias"])


class Decoder(nnx.Module):
    """GPT-2's block with Flax's names."""

    def __init__(self, rngs: nnx.Rngs):
        self.pre, self.post = (nnx.LayerNorm(D, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.qkv = nnx.Linear(D, 3 * D, rngs=rngs)
        self.out = nnx.Linear(D, D, rngs=rngs)
        self.wi, self.wo = nnx.Linear(D, 2 * D, rngs=rngs), nnx.Linear(2 * D, D, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = jnp.split(self.qkv(self.pre(x)).reshape(*x.shape[:2], 9, 4), 3, axis=2)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
        y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
        x = x + self.out(y.reshape(x.shape))
        return x + self.wo(jax.nn.gelu(self.wi(self.post(x))))


def decoder_from(s: Values) -> Decoder:
    model = Decoder(nnx.Rngs(0))
    put_norm(model.pre, s, "ln_1")
    put_norm(model.post, s, "ln_2")
    for linear, name in (
        (model.qkv, "c_attn"),
        (model.out, "c_proj"),
        (model.wi, "fc"),
        (model.wo, "proj"),
    ):
        put(linear, s, name)
    return model


_torch, _s = trained(Block)
decoder = Twin(torch=_torch, jax=decoder_from(_s), inputs={"x": Array((2, 5, D))})


class ScanLayer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(6, epsilon=1e-5, rngs=rngs)
        self.up, self.down = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 6, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.down(jax.nn.gelu(self.up(self.norm(x))))


class ScanLayers(nnx.Module):
    """Layers made by a vmap and run by a scan."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Linear(4, 6, rngs=rngs)
        self.layers = nnx.vmap(ScanLayer, in_axes=0, out_axes=0)(rngs.fork(split=3))
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x: jax.Array, layer: ScanLayer) -> jax.Array:
            return layer(x)

        return self.head(run(self.embed(x), self.layers))


def scanned_from(s: Values) -> ScanLayers:
    model = ScanLayers(nnx.Rngs(0))
    put(model.embed, s, "embed")
    put(model.head, s, "head")

    def every(name: str) -> jax.Array:
        return jnp.stack([jnp.asarray(s[f"layers.{i}.{name}"].T) for i in range(3)])

    norm: Any = model.layers.norm
    norm.scale[...], norm.bias[...] = every("norm.weight"), every("norm.bias")
    linears: list[tuple[Any, str]] = [(model.layers.up, "up"), (model.layers.down, "down")]
    for linear, name in linears:
        linear.kernel[...], linear.bias[...] = every(f"{name}.weight"), every(f"{name}.bias")
    return model


_torch, _s = fresh(Layers)
scanned = Twin(torch=_torch, jax=scanned_from(_s), inputs={"x": Array((3, 4))})


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.mix = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.stem(x)))
        x = F.avg_pool2d(x + self.mix(x), 2)
        return self.head(x.flatten(2).amax(-1))


class NnxPyramid(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        one = ((1, 1), (1, 1))
        self.convs = nnx.List(
            [
                nnx.Conv(3, 4, (3, 3), strides=2, padding=one, rngs=rngs),
                nnx.Conv(4, 4, (3, 3), feature_group_count=2, use_bias=False, rngs=rngs),
            ]
        )
        self.gn = nnx.GroupNorm(4, num_groups=2, epsilon=1e-5, rngs=rngs)
        self.classifier = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.silu(self.gn(self.convs[0](x)))
        x = nnx.avg_pool(x + self.convs[1](x), (2, 2), strides=(2, 2))
        return self.classifier(x.max((1, 2)))


def pyramid_from(s: Values) -> NnxPyramid:
    model = NnxPyramid(nnx.Rngs(0))
    put(model.convs[0], s, "stem")
    put(model.convs[1], s, "mix")
    put(model.classifier, s, "head")
    put_norm(model.gn, s, "norm")
    return model


_torch, _s = trained(Pyramid)
pyramid = Twin(torch=_torch, jax=pyramid_from(_s), inputs={"x": Image(2, 3, 8, 8)})


class Tagger(nn.Module):
    """A recurrence whose second bias is frozen at zero, as Flax's cell has one."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 6, batch_first=True)
        nn.init.zeros_(self.rnn.get_parameter("bias_ih_l0")).requires_grad_(False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class NnxTagger(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(5, 6, rngs=rngs))
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.rnn(x))


def tagger_from(s: Values) -> NnxTagger:
    model = NnxTagger(nnx.Rngs(0))
    cell: Any = model.rnn.cell
    cell.dense_i.kernel[...] = jnp.asarray(s["rnn.weight_ih_l0"].T)
    cell.dense_h.kernel[...] = jnp.asarray(s["rnn.weight_hh_l0"].T)
    cell.dense_h.bias[...] = jnp.asarray(s["rnn.bias_hh_l0"])
    put(model.head, s, "head")
    return model


_torch, _s = fresh(Tagger)
tagger = Twin(torch=_torch, jax=tagger_from(_s), inputs={"x": Array((3, 4, 5))})


class Attended(nn.Module):
    """Separate projections, beside Flax's own attention."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (3, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class NnxAttended(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.attention = nnx.MultiHeadAttention(3, D, decode=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.attention(x)


def attended_from(s: Values) -> NnxAttended:
    model = NnxAttended(nnx.Rngs(0))
    at: Any = model.attention
    for linear, name in ((at.query, "q"), (at.key, "k"), (at.value, "v")):
        linear.kernel[...] = jnp.asarray(s[f"{name}.weight"].T.reshape(D, 3, 4))
        linear.bias[...] = jnp.asarray(s[f"{name}.bias"].reshape(3, 4))
    at.out.kernel[...] = jnp.asarray(s["o.weight"].T.reshape(3, 4, D))
    at.out.bias[...] = jnp.asarray(s["o.bias"])
    return model


_torch, _s = fresh(Attended)
attended = Twin(torch=_torch, jax=attended_from(_s), inputs={"x": Array((2, 5, D))})


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, D))
        self.norm, self.proj = nn.LayerNorm(D), nn.Linear(D, D, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.proj(self.norm(x)) @ self.table.t()).softmax(-1)
        return x + weights @ self.table


class NnxMixture(nnx.Module):
    """Its parameters held by hand, and computed with plain functions."""

    def __init__(self, s: Values):
        self.codebook = nnx.Param(jnp.asarray(s["table"]))
        self.w = nnx.Param(jnp.asarray(s["proj.weight"].T))
        self.g, self.b = (nnx.Param(jnp.asarray(s[f"norm.{n}"])) for n in ("weight", "bias"))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = layer_norm({"g": self.g[...], "b": self.b[...]}, x) @ self.w[...]
        weights = jax.nn.softmax(jnp.einsum("bd,kd->bk", y, self.codebook[...]))
        return x + weights @ self.codebook[...]


_torch, _s = trained(Mixture)
mixture = Twin(torch=_torch, jax=NnxMixture(_s), inputs={"x": Array((3, D))})
