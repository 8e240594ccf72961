"""A variational autoencoder whose noise is an input; the likelihood and the divergence; Adam."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import Dense, trained

N, D, H, Z = 4, 6, 8, 3


class TorchVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.mean, self.logvar = nn.Linear(D, H), nn.Linear(H, Z), nn.Linear(H, Z)
        self.dec1, self.dec2, self.out = nn.Linear(Z, H), nn.Linear(H, H), nn.Linear(H, D)

    def forward(self, x, noise):
        h = F.relu(self.enc(x))
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + torch.exp(0.5 * logvar) * noise
        h = F.softplus(self.dec1(z))
        return torch.sigmoid(self.out(F.silu(self.dec2(h)))), mean, logvar


class JaxVAE(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, noise):
        fault, on = self.fault, self.fault.__eq__
        raw = fnn.Dense(H, name="enc")(x)
        h = fnn.relu(raw)
        mean = fnn.Dense(Z, name="mean")(h)
        logvar = fnn.Dense(Z, name="logvar")(raw if on("logvar before the relu") else h)
        if on("logvar clipped"):
            logvar = jnp.clip(logvar, -0.1, 0.1)
        z = {
            "variance for the deviation": lambda: mean + jnp.exp(logvar) * noise,
            "logvar for the deviation": lambda: mean + logvar * noise,
            "deviation as a root": lambda: mean + jnp.sqrt(jnp.exp(logvar)) * noise,
            "noise subtracted": lambda: mean - jnp.exp(0.5 * logvar) * noise,
            "mean for the sample": lambda: mean,
            "sample detached": lambda: jax.lax.stop_gradient(mean + jnp.exp(0.5 * logvar) * noise),
            "deviation detached": lambda: (
                mean + jax.lax.stop_gradient(jnp.exp(0.5 * logvar)) * noise
            ),
            "noise of the other examples": lambda: mean + jnp.exp(0.5 * logvar) * noise[::-1],
            "noise of one example": lambda: mean + jnp.exp(0.5 * logvar) * noise[:1],
        }.get(fault, lambda: mean + jnp.exp(0.5 * logvar) * noise)()
        h = fnn.Dense(H, name="dec1")(z)
        h = jax.nn.softplus(2 * h) / 2 if on("beta of softplus") else jax.nn.softplus(h)
        untransposed = "kernel not transposed" if on("square kernel not transposed") else ""
        h = Dense(H, untransposed, name="dec2")(h)
        h = fnn.silu(1.702 * h) / 1.702 if on("another silu") else fnn.silu(h)
        x = fnn.Dense(D, name="out")(h)
        x = x if on("logits for probabilities") else fnn.sigmoid(x)
        if on("mean and logvar swapped"):
            mean, logvar = logvar, mean
        return x, mean, logvar


def torch_loss(outputs, x):
    y, mean, logvar = outputs
    divergence = -0.5 * torch.mean(1 + logvar - mean**2 - logvar.exp())
    return F.mse_loss(y, x) + 0.1 * divergence


def losses(fault: str) -> tuple[Any, Any]:
    def loss(outputs, x):
        y, mean, logvar = outputs
        likelihood = {
            "likelihood summed": lambda: ((y - x) ** 2).sum(),
            "a half of the likelihood": lambda: 0.5 * ((y - x) ** 2).mean(),
            "likelihood of the absolute": lambda: jnp.abs(y - x).mean(),
        }.get(fault, lambda: ((y - x) ** 2).mean())()
        inside = 1 + logvar - mean**2 - jnp.exp(logvar)
        divergence = {
            "divergence left out": lambda: 0.0,
            "divergence of the other sign": lambda: 0.5 * inside.mean(),
            "divergence without its half": lambda: -inside.mean(),
            "divergence summed": lambda: -0.5 * inside.sum(),
            "divergence turned round": lambda: (
                0.5 * (logvar + (1 + mean**2) / jnp.exp(logvar) - 1).mean()
            ),
            "logvar taken for the deviation": lambda: (
                -0.5 * (1 + 2 * logvar - mean**2 - jnp.exp(2 * logvar)).mean()
            ),
            "divergence of the mean detached": lambda: (
                -0.5 * (inside + mean**2 - jax.lax.stop_gradient(mean) ** 2).mean()
            ),
        }.get(fault, lambda: -0.5 * inside.mean())()
        return likelihood + (1.0 if fault == "divergence not weighed" else 0.1) * divergence

    return torch_loss, loss


def optimizer(fault: str) -> tuple[Any, Any]:
    decay = optax.add_decayed_weights(0.01 if fault == "weight decay unasked" else 0.0)
    chain = (decay, optax.scale_by_adam(0.9, 0.99, 1e-3), optax.scale(-0.01))
    return trained("Adam", *chain, lr=0.01, eps=1e-3, betas=(0.9, 0.99))


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchVAE,
        jax=JaxVAE(fault),
        inputs={"x": Array((N, D)), "noise": Array((N, Z))},
        targets={"y": Array((N, D))},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="vae",
    )


SAMPLE = ("logvar", "dec1")
FAULTS = table(
    __name__,
    twin,
    {
        "logvar clipped": ("forward", SAMPLE, None),
        "logvar before the relu": ("forward", ("relu", "logvar"), None),
        "variance for the deviation": ("forward", SAMPLE, None),
        "logvar for the deviation": ("forward", SAMPLE, None),
        "noise subtracted": ("forward", SAMPLE, None),
        "mean for the sample": ("forward", SAMPLE, None),
        "noise of the other examples": ("forward", SAMPLE, None),
        "noise of one example": ("forward", SAMPLE, None),
        "sample detached": ("gradients", SAMPLE, "GRAD-13"),
        "deviation detached": ("gradients", SAMPLE, "GRAD-13"),
        "beta of softplus": ("forward", ("dec1", "softplus"), "ACT-05"),
        "another silu": ("forward", ("dec2", "silu"), None),
        "square kernel not transposed": ("forward", "dec2", "LIN-01"),
        "logits for probabilities": ("forward", ("out", "the output"), "ACT-10"),
        "mean and logvar swapped": ("forward", ("mean", "the output"), None),
        "likelihood summed": ("forward", "the loss", "LOSS-14"),
        "a half of the likelihood": ("forward", "the loss", "LOSS-01"),
        "likelihood of the absolute": ("forward", "the loss", "LOSS-12"),
        "divergence left out": ("forward", "the loss", None),
        "divergence of the other sign": ("forward", "the loss", None),
        "divergence without its half": ("forward", "the loss", None),
        "divergence summed": ("forward", "the loss", None),
        "divergence turned round": ("forward", "the loss", None),
        "logvar taken for the deviation": ("forward", "the loss", None),
        "divergence not weighed": ("forward", "the loss", None),
        "divergence of the mean detached": ("gradients", ("mean", "the loss"), "GRAD-13"),
        "weight decay unasked": ("step", OPTIMIZER, "OPT-03"),
    },
)
EQUIVALENT = {"deviation as a root": "sqrt(exp(v)) = exp(v / 2)"}
