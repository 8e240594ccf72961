"""Padded tokens, embedded, pooled by attention and by their mean; the divergence of two; AdamW."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Tokens, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import Dense, graded, same, trained

N, L, V, D = 4, 5, 7, 6
LOW = -1e9


class TorchText(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.norm = nn.LayerNorm(D)
        self.mix, self.score = nn.Conv1d(D, D, 3, padding=1), nn.Linear(D, 1)
        self.fc, self.head = nn.Linear(2 * D, D), nn.Linear(D, 3)

    def forward(self, tokens):
        valid = tokens != 0
        x = self.norm(self.embed(tokens))
        x = F.relu(self.mix(x.transpose(1, 2)).transpose(1, 2))
        scores = self.score(x).squeeze(-1).masked_fill(~valid, LOW)
        weights = F.softmax(scores, -1)
        pooled = (weights[..., None] * x).sum(1)
        count = valid.sum(1, keepdim=True).clamp(min=1)
        mean = (x * valid[..., None]).sum(1) / count
        x = F.gelu(self.fc(torch.cat([pooled, mean], 1)), approximate="tanh")
        return F.log_softmax(self.head(x), -1)


class Conv1d(fnn.Module):
    """torch's Conv1d(padding=1) over the middle axis."""

    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        on = self.fault.__eq__
        kernel = self.param("kernel", fnn.initializers.lecun_normal(), (3, D, D))
        bias = self.param("bias", fnn.initializers.zeros, (D,))
        if on("convolution by jnp.convolve"):
            kernel = kernel[::-1]
        if on("inputs and outputs of the kernel swapped"):
            kernel = kernel.swapaxes(1, 2)
        if on("padded in a circle"):
            x = jnp.concatenate([x[:, -1:], x, x[:, :1]], 1)
        pads = {"padded in a circle": (0, 0), "causal convolution": (2, 0)}
        pad = pads.get(self.fault, (1, 1))
        return bias + jax.lax.conv_general_dilated(
            x, kernel, (1,), [pad], dimension_numbers=("NWC", "WIO", "NWC")
        )


class JaxText(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, tokens):
        fault, on = self.fault, self.fault.__eq__
        valid = tokens != (1 if on("another token pads") else 0)
        ids = {
            "tokens off by one": lambda: (tokens + 1) % V,
            "tokens backwards": lambda: tokens[:, ::-1],
            "first token lost": lambda: tokens.at[:, 0].set(0),
        }.get(fault, lambda: tokens)()
        x = fnn.Embed(V, D, name="embed")(ids)
        if on("embedding scaled"):
            x = x * D**0.5
        if on("embedding of the padding zero"):
            x = x * valid[..., None]
        if on("embedding detached"):
            x = jax.lax.stop_gradient(x)
        if on("layer norm of torch's std"):
            x = Norm(name="norm")(x)
        else:
            x = fnn.LayerNorm(
                epsilon=1e-5, use_scale=not on("scale of the norm left out"), name="norm"
            )(x)
        x = fnn.relu(Conv1d(fault, name="mix")(x))
        scores = fnn.Dense(1, name="score")(x)[..., 0]
        mask = ~valid if on("mask of the other sense") else valid
        low = 0.0 if on("mask of zeros") else LOW
        if on("mask added to the scores"):
            scores = scores + valid
        else:
            scores = jnp.where(mask, scores, low)
        scores = 2 * scores if on("scores doubled") else scores
        weights = fnn.softmax(scores)
        if on("weights not of one"):
            weights = weights * valid.mean(1, keepdims=True)
        pooled = (weights[..., None] * x).sum(1)
        count = jnp.maximum(valid.sum(1, keepdims=True), 1)
        mean = (x * valid[..., None]).sum(1) / count
        mean = {
            "mean over the padding too": lambda: (x * valid[..., None]).mean(1),
            "padding in the mean": lambda: x.sum(1) / count,
            "maximum for the mean": lambda: x.max(1),
        }.get(fault, lambda: mean)()
        both = [mean, pooled] if on("two inputs swapped") else [pooled, mean]
        x = jnp.concatenate(both, 1)
        if on("gradient clipped"):
            x = graded(x, lambda g: jnp.clip(g, -1e-3, 1e-3))
        x = fnn.Dense(D, name="fc")(x)
        x = fnn.gelu(x, approximate=not on("gelu in exact form"))
        x = Dense(3, "bias ignored" if on("last bias ignored") else "", name="head")(x)
        axis = 0 if on("softmax over the batch") else -1
        if on("softmax for its logarithm"):
            return fnn.softmax(x)
        return {"rescaled": lambda x: 0.99 * x}.get(fault, same)(fnn.log_softmax(x, axis))


class Norm(fnn.Module):
    """A layer norm with torch.std, which divides by n - 1."""

    @fnn.compact
    def __call__(self, x):
        scale = self.param("scale", fnn.initializers.ones, (D,))
        bias = self.param("bias", fnn.initializers.zeros, (D,))
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True, ddof=1)
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def losses(fault: str) -> tuple[Any, Any]:
    """torch wants logarithms of the outputs, and divides by the batch."""

    def ours(outputs, logits):
        return F.kl_div(outputs, F.softmax(logits, -1), reduction="batchmean")

    def loss(outputs, logits):
        target = jax.nn.softmax(logits)
        logs = jnp.log(target)
        return {
            "mean over all elements": lambda: (target * (logs - outputs)).mean(),
            "arguments swapped": lambda: (jnp.exp(outputs) * (outputs - logs)).sum(1).mean(),
            "entropy of the target left out": lambda: -(target * outputs).sum(1).mean(),
            "targets as they are": lambda: (logits * (logs - outputs)).sum(1).mean(),
            "a temperature of two": lambda: 4 * (target * (logs - outputs)).sum(1).mean(),
            "the likeliest class alone": lambda: -outputs[jnp.arange(N), logits.argmax(1)].mean(),
        }.get(fault, lambda: (target * (logs - outputs)).sum(1).mean())()

    return ours, loss


def optimizer(fault: str) -> tuple[Any, Any]:
    on = fault.__eq__
    moments = optax.scale_by_amsgrad if on("AMSGrad unasked") else optax.scale_by_adam
    decay, rate = optax.add_decayed_weights(0.1), optax.scale(-0.01)
    moments = moments(0.9, 0.99, eps=1e-3)
    if on("decay of the rate's square"):
        decay = optax.add_decayed_weights(0.001)
    chain = {
        "decay left out": (moments, rate),
        "decay after the rate": (moments, rate, optax.add_decayed_weights(-0.1)),
        "trust ratio": (moments, decay, optax.scale_by_trust_ratio(), rate),
        "gradient centred": (
            optax.stateless(lambda u, _: jax.tree.map(lambda x: x - x.mean(), u)),
            moments,
            decay,
            rate,
        ),
    }.get(fault, (moments, decay, rate))
    options = {"betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": 0.1}
    return trained("AdamW", *chain, lr=0.01, **options)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchText,
        jax=JaxText(fault),
        inputs={"tokens": Tokens(N, L, V)},
        targets={"y": Array((N, 3))},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="text",
    )


SCORES, POOLED, OUT = ("score", "softmax"), ("softmax", "fc"), ("log_softmax", "the output")
FAULTS = table(
    __name__,
    twin,
    {
        "tokens off by one": ("forward", "embed", "EMB-02"),
        "tokens backwards": ("forward", "embed", None),
        "first token lost": ("forward", "embed", None),
        "embedding scaled": ("forward", ("embed", "norm"), "EMB-04"),
        "embedding of the padding zero": ("forward", ("embed", "norm"), "EMB-01"),
        "embedding detached": ("gradients", ("embed", "norm"), "GRAD-13"),
        "layer norm of torch's std": ("forward", "norm", "LN-04"),
        "scale of the norm left out": ("weights", "norm", "NRM-03"),
        "convolution by jnp.convolve": ("forward", "mix", "CONV-02"),
        "inputs and outputs of the kernel swapped": ("forward", "mix", "CONV-01"),
        "causal convolution": ("forward", "mix", "CONV-06"),
        "padded in a circle": ("forward", "mix", "CONV-05"),
        "another token pads": ("forward", SCORES, None),
        "mask of the other sense": ("forward", SCORES, "ATT-03"),
        "mask of zeros": ("forward", SCORES, None),
        "mask added to the scores": ("forward", SCORES, None),
        "scores doubled": ("forward", SCORES, "ATT-05"),
        "weights not of one": ("forward", POOLED, None),
        "mean over the padding too": ("forward", POOLED, None),
        "padding in the mean": ("forward", POOLED, None),
        "maximum for the mean": ("forward", POOLED, None),
        "two inputs swapped": ("forward", POOLED, None),
        "gradient clipped": ("gradients", POOLED, None),
        "gelu in exact form": ("forward", "gelu", "ACT-01"),
        "last bias ignored": ("forward", "head", "LIN-02"),
        "softmax over the batch": ("forward", "log_softmax", "ACT-06"),
        "softmax for its logarithm": ("forward", ("head", "the output"), "ACT-07"),
        "rescaled": ("forward", OUT, None),
        "mean over all elements": ("forward", "the loss", ("LOSS-14", "LOSS-09")),
        "arguments swapped": ("forward", "the loss", "LOSS-09"),
        "entropy of the target left out": ("forward", "the loss", "LOSS-09"),
        "targets as they are": ("forward", "the loss", None),
        # of four examples: four times the mean is the sum
        "a temperature of two": ("forward", "the loss", ("LOSS-09", "LOSS-14")),
        "the likeliest class alone": ("forward", "the loss", None),
        "AMSGrad unasked": ("step", OPTIMIZER, "OPT-02"),
        "decay left out": ("step", OPTIMIZER, "OPT-03"),
        "decay of the rate's square": ("step", OPTIMIZER, "OPT-03"),
        "decay after the rate": ("step", OPTIMIZER, "OPT-04"),
        "trust ratio": ("step", OPTIMIZER, None),
        "gradient centred": ("step", OPTIMIZER, None),
    },
)
