"""torch.nn.MultiheadAttention over padded sequences, its projections packed in one; Adam."""

from __future__ import annotations

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
from torch import nn

from compare import Array, Lengths, Twin
from tests.faults import table
from tests.faults.parts import trained

N, L, D, HEADS = 4, 5, 8, 2


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(3, D), nn.Linear(D, 3)
        self.attn = nn.MultiheadAttention(D, HEADS, batch_first=True)

    def forward(self, x, lengths):
        x = self.embed(x)
        padding = torch.arange(L) >= lengths[:, None]
        y, _ = self.attn(x, x, x, key_padding_mask=padding, need_weights=False)
        return self.head((x + y).mean(1))


class Attention(fnn.Module):
    """The layer under torch's names."""

    fault: str = ""

    @fnn.compact
    def __call__(self, x, padding):
        fault, on = self.fault, self.fault.__eq__
        normal = fnn.initializers.normal()
        weight = self.param("in_proj_weight", normal, (3 * D, D))
        bias = self.param("in_proj_bias", normal, (3 * D,))
        if on("input biases ignored"):
            bias = 0 * bias
        if on("each projection not transposed"):
            weight = weight.reshape(3, D, D).swapaxes(1, 2).reshape(3 * D, D)
        if on("batch taken for the time"):
            x, padding = x.swapaxes(0, 1), jnp.zeros((L, N), bool)
        packed = x @ weight.T + bias
        if on("projections interleaved"):
            q, k, v = jnp.moveaxis(packed.reshape(*x.shape[:2], D, 3), -1, 0)
        else:
            q, k, v = jnp.split(packed, 3, -1)
        q, k, v = {
            "queries and keys swapped": (k, q, v),
            "keys and values swapped": (q, v, k),
        }.get(fault, (q, k, v))

        def split(x):
            if on("heads interleaved"):
                return x.reshape(*x.shape[:2], -1, HEADS).transpose(0, 3, 1, 2)
            return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

        q, k, v = split(q), split(k), split(v)
        root = {"scores not scaled": 1.0, "scores scaled by the whole width": D**0.5}
        scores = q @ k.swapaxes(-1, -2) / root.get(fault, (D // HEADS) ** 0.5)
        if on("mask of the other sense"):
            padding = ~padding
        if on("mask left out"):
            padding = jnp.zeros_like(padding)
        scores = jnp.where(padding[:, None, None], -1e30, scores)
        weights = jax.nn.softmax(scores, -2 if on("softmax along the queries") else -1)
        if on("weights squared"):
            weights = weights**2
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        y = fnn.Dense(D, name="out_proj")(y)
        return y.swapaxes(0, 1) if on("batch taken for the time") else y


class JaxNet(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, lengths):
        on = self.fault.__eq__
        x = fnn.Dense(D, name="embed")(x)
        padding = jnp.arange(L) >= lengths[:, None]
        if on("padding off by one"):
            padding = jnp.arange(L) > lengths[:, None]
        y = Attention(self.fault, name="attn")(x, padding)
        x = y if on("residual left out") else x + y
        return fnn.Dense(3, name="head")(x.mean(1))


def twin(fault: str = "") -> Twin:
    chain = (optax.scale_by_adam(0.9, 0.99, eps=1e-3), optax.scale(-0.01))
    return Twin(
        torch=TorchNet,
        jax=JaxNet(fault),
        inputs={"x": Array((N, L, 3)), "lengths": Lengths(N, L)},
        optimizer=trained("Adam", *chain, lr=0.01, betas=(0.9, 0.99), eps=1e-3),
        name="attention",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "input biases ignored": ("forward", "attn", "ATT-11"),
        "each projection not transposed": ("forward", "attn", "ATT-11"),
        "batch taken for the time": ("forward", "attn", "ATT-01"),
        "projections interleaved": ("forward", "attn", "ATT-10"),
        "queries and keys swapped": ("forward", "attn", "ATT-10"),
        "keys and values swapped": ("forward", "attn", "ATT-10"),
        "heads interleaved": ("forward", "attn", "ATT-04"),
        "scores not scaled": ("forward", "attn", "ATT-05"),
        "scores scaled by the whole width": ("forward", "attn", "ATT-05"),
        "mask of the other sense": ("forward", "attn", "ATT-03"),
        "mask left out": ("forward", "attn", "ATT-12"),
        "softmax along the queries": ("forward", "attn", "ATT-09"),
        "weights squared": ("forward", "attn", None),
        "padding off by one": ("forward", "attn", None),
        "residual left out": ("forward", ("attn", "head"), None),
    },
)
