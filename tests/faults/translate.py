"""An encoder and a decoder: relative biases, attention across, RMS norms, gated GELU; Adamax."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Tokens, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import graded, trained

HELD_OUT = True
N, L, V, D, HEADS = 4, 5, 7, 6, 2
LOW = -1e9


class TorchAttention(nn.Module):
    def __init__(self, relative: bool = False):
        super().__init__()
        self.q, self.k = nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False)
        self.v, self.o = nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False)
        if relative:
            self.relative = nn.Embedding(2 * L - 1, HEADS)

    def forward(self, x, memory, mask):
        q, k, v = (
            f(y).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for f, y in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        scores = q @ k.transpose(-1, -2)
        if hasattr(self, "relative"):
            steps = torch.arange(L)
            scores = scores + self.relative(steps - steps[:, None] + L - 1).permute(2, 0, 1)
        weights = F.softmax(scores.masked_fill(~mask, LOW), -1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class TorchTranslate(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.norm1, self.attn = nn.RMSNorm(D, eps=1e-5), TorchAttention(relative=True)
        self.norm2, self.gate = nn.RMSNorm(D, eps=1e-5), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, D), nn.Linear(D, D)
        self.memory = nn.RMSNorm(D, eps=1e-5)
        self.norm3, self.own = nn.RMSNorm(D, eps=1e-5), TorchAttention()
        self.norm4, self.cross = nn.RMSNorm(D, eps=1e-5), TorchAttention()
        self.final = nn.RMSNorm(D, eps=1e-5)

    def forward(self, source, target):
        valid = (source != 0)[:, None, None, :]
        x = self.embed(source)
        h = self.norm1(x)
        x = x + self.attn(h, h, valid)
        h = self.norm2(x)
        x = x + self.down(F.gelu(self.gate(h), approximate="tanh") * self.up(h))
        memory = self.memory(x)
        y = self.embed(F.pad(target, (1, 0))[:, :-1])
        h = self.norm3(y)
        y = y + self.own(h, h, torch.ones(L, L, dtype=torch.bool).tril())
        y = y + self.cross(self.norm4(y), memory, valid)
        return self.final(y) * D**-0.5 @ self.embed.weight.T


class RMSNorm(fnn.Module):
    """torch's RMSNorm."""

    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        on = self.fault.__eq__
        scale = self.param("scale", fnn.initializers.ones, (D,))
        if on("mean subtracted in the RMS norm"):
            x = x - x.mean(-1, keepdims=True)
        mean = (x * x).mean(-1, keepdims=True)
        eps = 1e-6 if on("eps of Flax") else 1e-5
        root = jnp.sqrt(mean) + eps if on("eps beside the root") else jnp.sqrt(mean + eps)
        return x / root * (1 + scale if on("scale stored less one") else scale)


class JaxAttention(fnn.Module):
    fault: str = ""
    relative: bool = False

    @fnn.compact
    def __call__(self, x, memory, mask, keys=None):
        fault, on = self.fault, self.fault.__eq__
        sources = {"q": x, "k": memory if keys is None else keys}
        sources["v"] = x if on("values of the decoder") else memory
        q, k, v = (
            fnn.Dense(D, use_bias=False, name=name)(y)
            .reshape(N, L, HEADS, -1)
            .transpose(0, 2, 1, 3)
            for name, y in sources.items()
        )
        scores = q @ k.swapaxes(-1, -2)
        if on("scores scaled unasked"):
            scores = scores / (D // HEADS) ** 0.5
        if self.relative:
            steps = jnp.arange(L)
            distance = steps - steps[:, None]
            if on("distances of the other sign"):
                distance = -distance
            if on("distances without a sign"):
                distance = jnp.abs(distance)
            bias = fnn.Embed(2 * L - 1, HEADS, name="relative")(distance + L - 1)
            if on("relative bias detached"):
                bias = jax.lax.stop_gradient(bias)
            bias = {
                "relative bias reshaped": lambda: bias.reshape(HEADS, L, L),
                "relative bias of the first head": lambda: bias.transpose(2, 0, 1)[:1],
                "relative bias left out": lambda: 0 * bias.transpose(2, 0, 1),
            }.get(fault, lambda: bias.transpose(2, 0, 1))()
            scores = scores + bias
        scores = jnp.where(mask, scores, LOW)
        weights = fnn.softmax(scores, -2 if on("softmax over the queries") else -1)
        if on("weights masked once more"):
            weights = weights * (jnp.arange(L) > 0)
        if on("weights' gradient of straight lines"):
            weights = graded(weights, jnp.tanh)
        return fnn.Dense(D, use_bias=False, name="o")(
            (weights @ v).transpose(0, 2, 1, 3).reshape(N, L, D)
        )


class JaxTranslate(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, source, target):
        fault, on = self.fault, self.fault.__eq__
        embed = fnn.Embed(V, D, name="embed")
        valid = (source != 0)[:, None, None, :]
        x = embed(source)
        if on("embedding scaled"):
            x = x * D**0.5
        h = RMSNorm(fault if on("eps of Flax") else "", name="norm1")(x)
        own = fault if fault.startswith(("distances", "relative", "scores")) else ""
        attended = JaxAttention(own, relative=True, name="attn")(h, h, valid)
        x = (h if on("residual from the normed input") else x) + attended
        h = RMSNorm(fault if on("mean subtracted in the RMS norm") else "", name="norm2")(x)
        a, b = fnn.Dense(D, name="gate")(h), fnn.Dense(D, name="up")(h)
        a, b = (b, a) if on("the other half gates") else (a, b)
        gated = fnn.gelu(a, approximate=not on("gelu in exact form"))
        x = x + fnn.Dense(D, name="down")(gated + b if on("gate added") else gated * b)
        memory = RMSNorm(fault if on("scale stored less one") else "", name="memory")(x)
        ids = {
            "target not shifted": lambda: target,
            "target shifted the other way": lambda: jnp.pad(target, ((0, 0), (0, 1)))[:, 1:],
            "target shifted in a circle": lambda: jnp.roll(target, 1, 1),
            "target begins with one": lambda: jnp.pad(target, ((0, 0), (1, 0)), constant_values=1)[
                :, :-1
            ],
        }.get(fault, lambda: jnp.pad(target, ((0, 0), (1, 0)))[:, :-1])()
        y = embed(ids)
        h = RMSNorm(name="norm3")(y)
        seen = jnp.tril(jnp.ones((L, L), bool), {"causal mask sees one more": 1}.get(fault, 0))
        if on("causal mask left out"):
            seen = jnp.ones_like(seen)
        y = y + JaxAttention(name="own")(h, h, seen)
        if on("memory detached"):
            memory = jax.lax.stop_gradient(memory)
        keys = x if on("keys of the memory before its norm") else None
        across = {
            "padding of the source seen": jnp.ones_like(valid),
            "padding of the target instead": (target != 0)[:, None, None, :] | (target == 0).all(),
        }.get(fault, valid)
        sent = fault if fault.startswith(("values", "softmax", "weights")) else ""
        h = RMSNorm(fault if on("eps beside the root") else "", name="norm4")(y)
        y = y + JaxAttention(sent, name="cross")(h, memory, across, keys)
        y = RMSNorm(name="final")(y)
        weight = embed.embedding
        if on("tied weights detached"):
            weight = jax.lax.stop_gradient(weight)
        return y @ weight.T * (1.0 if on("logits not scaled") else D**-0.5)


def losses(fault: str) -> tuple[Any, Any]:
    def ours(x, y):
        return F.cross_entropy(x.flatten(0, 1), y.flatten(), ignore_index=0)

    def loss(x, y):
        each = optax.softmax_cross_entropy_with_integer_labels(x, y)
        valid = y != 0
        return {
            "padding counted": lambda: (each * valid).mean(),
            "padding learnt": lambda: each.mean(),
            "mean of the sentences' sums": lambda: (each * valid).sum(1).mean(),
            "tokens of the next place": lambda: (
                jnp.where(valid[:, 1:], optax.softmax_cross_entropy_with_integer_labels(
                    x[:, :-1], y[:, 1:]), 0).sum() / valid[:, 1:].sum()
            ),
        }.get(fault, lambda: (each * valid).sum() / valid.sum())()  # fmt: skip

    return ours, loss


def optimizer(fault: str) -> tuple[Any, Any]:
    adamax = optax.scale_by_adamax(0.9, 0.99, 1e-3)
    chain = {
        "Adam for Adamax": (optax.scale_by_adam(0.9, 0.99, 1e-3), optax.scale(-0.01)),
        "second beta of the default": (
            optax.scale_by_adamax(0.9, 0.999, 1e-3),
            optax.scale(-0.01),
        ),
        "a tenth of the rate": (adamax, optax.scale(-0.001)),
        "rate by the inverse root": (
            adamax,
            optax.scale_by_schedule(lambda count: -0.01 / jnp.sqrt(count + 1.0)),
        ),
    }.get(fault, (adamax, optax.scale(-0.01)))
    return trained("Adamax", *chain, lr=0.01, betas=(0.9, 0.99), eps=1e-3)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchTranslate,
        jax=JaxTranslate(fault),
        inputs={"source": Tokens(N, L, V), "target": Tokens(N, L, V)},
        targets={"y": Tokens(N, L, V)},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="translate",
    )


BIASED, ACROSS = ("attn.relative", "attn.softmax"), ("cross.k", "cross.softmax")
FAULTS = table(
    __name__,
    twin,
    {
        "embedding scaled": ("forward", ("embed", "norm1"), "EMB-04"),
        "eps of Flax": ("forward", "norm1", ("LN-01", "RMS-01")),
        "distances of the other sign": ("forward", "attn.relative", None),
        "distances without a sign": ("forward", "attn.relative", None),
        "relative bias reshaped": ("forward", BIASED, "FLAT-02"),
        "relative bias of the first head": ("forward", BIASED, None),
        "relative bias left out": ("forward", BIASED, None),
        "relative bias detached": ("gradients", BIASED, "GRAD-13"),
        "scores scaled unasked": ("forward", BIASED, "ATT-05"),
        "residual from the normed input": ("forward", ("attn", "norm2"), None),
        "mean subtracted in the RMS norm": ("forward", "norm2", None),
        "the other half gates": ("forward", ("gate", "gelu"), "ACT-12"),
        "gelu in exact form": ("forward", "gelu", "ACT-01"),
        "gate added": ("forward", ("up", "down"), None),
        "scale stored less one": ("forward", "memory", "RMS-02"),
        "target not shifted": ("forward", "embed#1", None),
        "target shifted the other way": ("forward", "embed#1", None),
        "target shifted in a circle": ("forward", "embed#1", None),
        "target begins with one": ("forward", "embed#1", None),
        "causal mask sees one more": ("forward", ("own.k", "own.softmax"), "ATT-07"),
        "causal mask left out": ("forward", ("own.k", "own.softmax"), None),
        "memory detached": ("gradients", ("memory", "cross.k"), "GRAD-13"),
        "keys of the memory before its norm": ("forward", ("memory", "cross.k"), None),
        "padding of the source seen": ("forward", ACROSS, None),
        "padding of the target instead": ("forward", ACROSS, None),
        "values of the decoder": ("forward", ("memory", "cross.v"), None),
        "softmax over the queries": ("forward", "cross.softmax", ("ACT-06", "ATT-09")),
        "weights masked once more": ("forward", ("cross.softmax", "cross.o"), None),
        "weights' gradient of straight lines": (
            "gradients",
            ("cross.softmax", "cross.o"),
            None,
        ),
        "eps beside the root": ("forward", "norm4", ("LN-01", "RMS-01")),
        "tied weights detached": ("gradients", "embed.weight", "GRAD-13"),
        "logits not scaled": ("forward", ("final", "the output"), None),
        "padding counted": ("forward", "the loss", "LOSS-02"),
        "padding learnt": ("forward", "the loss", "LOSS-02"),
        "mean of the sentences' sums": ("forward", "the loss", "LOSS-14"),
        "tokens of the next place": ("forward", "the loss", None),
        "Adam for Adamax": ("step", OPTIMIZER, None),
        "second beta of the default": ("step", OPTIMIZER, "OPT-17"),
        "a tenth of the rate": ("step", OPTIMIZER, "OPT-30"),
        "rate by the inverse root": ("step", OPTIMIZER, None),
    },
)
