"""A pre-norm transformer encoder: masked attention of two heads, learnt positions; AdamW."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Lengths, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import graded, trained

N, L, D, HEADS = 4, 5, 8, 2


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.query, self.key = nn.Linear(D, D), nn.Linear(D, D)
        self.value, self.out = nn.Linear(D, D), nn.Linear(D, D)
        self.fc1, self.fc2 = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x, mask):
        h = self.norm1(x)
        q, k, v = (
            f(h).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5
        weights = F.softmax(scores.masked_fill(~mask, -torch.inf), -1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class TorchTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(3, D), nn.LayerNorm(D), nn.Linear(D, 4)
        self.position = nn.Parameter(torch.randn(L + 1, D))
        self.block = TorchBlock()

    def forward(self, x, lengths):
        steps = torch.arange(L)
        valid = steps < lengths[:, None]
        mask = valid[:, None, None, :] & (steps[:, None] >= steps)
        x = self.block(self.embed(x) + self.position[:L], mask)
        x = self.norm(x) * valid[..., None]
        return self.head(x.sum(1) / lengths[:, None])


class JaxBlock(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, mask):
        fault, on = self.fault, self.fault.__eq__
        eps = 1e-6 if on("eps of Flax") else 1e-5
        h = fnn.LayerNorm(epsilon=eps, name="norm1")(x)
        q, k, v = (fnn.Dense(D, name=name)(h) for name in ("query", "key", "value"))
        if on("queries and keys swapped"):
            q, k = k, q

        def split(x):
            if on("heads interleaved"):
                return x.reshape(N, L, -1, HEADS).transpose(0, 3, 1, 2)
            if on("heads reshaped without a transpose"):
                return x.reshape(N, HEADS, L, -1)
            return x.reshape(N, L, HEADS, -1).transpose(0, 2, 1, 3)

        q, k, v = split(q), split(k), split(v)
        root = {
            "scores not scaled": 1.0,
            "scores scaled by the whole width": D**0.5,
            "scores divided by the width": D / HEADS,
        }.get(fault, (D // HEADS) ** 0.5)
        scores = q @ k.swapaxes(-1, -2) / root
        if on("gradient of the scores halved"):
            scores = graded(scores, lambda g: 0.5 * g)
        mask = {
            "mask of the other sense": lambda: ~mask,
            "mask on the queries": lambda: mask.swapaxes(-1, -2) | jnp.eye(L, dtype=bool),
            "mask left out": lambda: jnp.ones_like(mask),
        }.get(fault, lambda: mask)()
        low = -1.0 if on("mask too mild") else -jnp.inf
        scores = jnp.where(mask, scores, low)
        if on("scores less their maximum"):
            scores = scores - scores.max(-1, keepdims=True)
        weights = fnn.softmax(scores, -2 if on("softmax along the queries") else -1)
        if on("weights of the first head alone"):
            weights = weights.at[:, 1].set(weights[:, 0])
        if on("attention detached"):
            weights = jax.lax.stop_gradient(weights)
        h = (weights @ v).transpose(0, 2, 1, 3)
        if on("heads merged without a transpose"):
            h = h.transpose(0, 2, 1, 3)
        if on("second head lost"):
            h = h.at[:, :, 1].set(0.0)
        h = fnn.Dense(D, name="out")(h.reshape(N, L, D))
        x = h if on("residual of the attention left out") else x + h
        h = fnn.LayerNorm(epsilon=1e-5, name="norm2")(x)
        base = h if on("residual after the norm") else x
        h = fnn.gelu(fnn.Dense(D, name="fc1")(h), approximate=on("gelu in tanh form"))
        return base + fnn.Dense(D, name="fc2")(h)


class JaxTransformer(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, lengths):
        fault, on = self.fault, self.fault.__eq__
        position = self.param("position", fnn.initializers.normal(), (L + 1, D))
        steps = jnp.arange(L)
        longest = lengths + 1 if on("lengths off by one") else lengths
        valid = steps < longest[:, None]
        seen = {
            "causal mask off by one": steps[:, None] >= steps - 1,
            "causal mask left out": jnp.ones((L, L), bool),
            "causal mask backwards": (steps[:, None] <= steps) | (steps == 0),
        }.get(fault, steps[:, None] >= steps)
        mask = valid[:, None, None, :] & seen
        if on("masks joined by or"):
            mask = valid[:, None, None, :] | seen
        x = fnn.Dense(D, name="embed")(x)
        if on("embedding scaled"):
            x = x * D**0.5
        positions = {
            "positions from one": position[1:],
            "positions backwards": position[:L][::-1],
            "positions along the batch": position[:N, None],
            "positions left out": 0 * position[:L],
        }.get(fault, position[:L])
        x = JaxBlock(fault, name="block")(x + positions, mask)
        biased = not on("bias of the norm left out")
        x = fnn.LayerNorm(epsilon=1e-5, use_bias=biased, name="norm")(x)
        valid = jnp.ones_like(valid) if on("padding in the mean") else valid
        count = L if on("mean over the padding too") else lengths[:, None]
        x = (x * valid[..., None]).sum(1) / count
        return fnn.Dense(4, name="head")(x)


def adamw(fault: str) -> tuple[Any, Any]:
    on = fault.__eq__
    moments = optax.scale_by_adam(0.9, 0.99, eps=1e-3)
    if on("moments made anew"):
        moments = _forgetful(moments)
    decay = optax.add_decayed_weights(1e-4 if on("weight decay of optax") else 0.1)

    chain = {
        "decay inside Adam": (decay, moments, optax.scale(-0.01)),
        "Lion's sign": (moments, optax.stateless(_signs), decay, optax.scale(-0.01)),
    }.get(fault, (moments, decay, optax.scale(-0.01)))
    options = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": 0.1}
    return trained("AdamW", *chain, **options)


def _signs(updates: Any, params: Any) -> Any:
    return jax.tree.map(jnp.sign, updates)


def _forgetful(moments: Any) -> Any:
    def update(updates, state, params=None):
        return moments.update(updates, moments.init(updates), params)[0], state

    return optax.GradientTransformation(moments.init, update)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchTransformer,
        jax=JaxTransformer(fault),
        inputs={"x": Array((N, L, 3)), "lengths": Lengths(N, L)},
        optimizer=adamw(fault),
        name="transformer",
    )


SCORES = ("block.key", "block.softmax")
CONTEXT = ("block.softmax", "block.out")
FAULTS = table(
    __name__,
    twin,
    {
        "embedding scaled": ("forward", ("embed", "block"), "EMB-04"),
        "positions from one": ("forward", ("embed", "block"), None),
        "positions backwards": ("forward", ("embed", "block"), None),
        "positions along the batch": ("forward", ("embed", "block"), None),
        "positions left out": ("forward", ("embed", "block"), None),
        "eps of Flax": ("forward", "block.norm1", "LN-01"),
        "queries and keys swapped": ("forward", SCORES, "ATT-10"),
        "heads interleaved": ("forward", SCORES, "ATT-04"),
        "heads reshaped without a transpose": ("forward", SCORES, "ATT-04"),
        "scores not scaled": ("forward", SCORES, "ATT-05"),
        "scores scaled by the whole width": ("forward", SCORES, "ATT-05"),
        "scores divided by the width": ("forward", SCORES, "ATT-05"),
        "mask of the other sense": ("forward", SCORES, "ATT-03"),
        "mask on the queries": ("forward", SCORES, None),
        "mask left out": ("forward", SCORES, None),
        "mask too mild": ("forward", SCORES, None),
        "causal mask off by one": ("forward", SCORES, "ATT-07"),
        "causal mask left out": ("forward", SCORES, None),
        "causal mask backwards": ("forward", SCORES, None),
        "masks joined by or": ("forward", SCORES, None),
        "softmax along the queries": ("forward", "block.softmax", ("ACT-06", "ATT-09")),
        "weights of the first head alone": ("forward", CONTEXT, None),
        "heads merged without a transpose": ("forward", CONTEXT, ("ATT-04", "FLAT-02")),
        "second head lost": ("forward", CONTEXT, None),
        "residual of the attention left out": ("forward", ("block.out", "block.norm2"), None),
        "residual after the norm": ("forward", "block", None),
        "gelu in tanh form": ("forward", "block.gelu", "ACT-01"),
        "bias of the norm left out": ("weights", "norm", "NRM-03"),
        "lengths off by one": ("forward", SCORES, None),
        "padding in the mean": ("forward", ("norm", "head"), None),
        "mean over the padding too": ("forward", ("norm", "head"), None),
        "gradient of the scores halved": ("gradients", ("block.key", "block.softmax"), None),
        "attention detached": ("gradients", CONTEXT, "GRAD-13"),
        "weight decay of optax": ("step", OPTIMIZER, "OPT-03"),
        "decay inside Adam": ("step", OPTIMIZER, "OPT-04"),
        "moments made anew": ("step", OPTIMIZER, "OPT-20"),
        "Lion's sign": ("step", OPTIMIZER, None),
    },
)
EQUIVALENT = {"scores less their maximum": "exp(x - c) / sum(exp(x - c)) has no c"}
