"""A small U-Net: group norms, a transposed convolution, a skip that is concatenated; SGD."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Image, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import same, trained

N, C = 4, 6


class TorchUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inc, self.gn1 = nn.Conv2d(2, C, 3, padding=1), nn.GroupNorm(2, C)
        self.down, self.gn2 = nn.Conv2d(C, C, 3, stride=2, padding=1), nn.GroupNorm(3, C)
        self.mid = nn.Conv2d(C, C, 1)
        self.up = nn.ConvTranspose2d(C, C, 4, stride=2, padding=1)
        self.outc = nn.Conv2d(2 * C, 2, 3, padding=1)

    def forward(self, x):
        skip = F.leaky_relu(self.gn1(self.inc(x)), 0.1)
        x = F.relu(self.gn2(self.down(skip)))
        x = torch.clamp(self.mid(x), -0.5, 0.5)
        x = F.selu(self.up(x))
        return self.outc(torch.cat([skip, x], 1))


class GroupNorm(fnn.Module):
    """torch's GroupNorm, channels last."""

    groups: int
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        on, shape, groups = self.fault.__eq__, x.shape, self.groups
        scale = self.param("scale", fnn.initializers.ones, shape[-1:])
        bias = self.param("bias", fnn.initializers.zeros, shape[-1:])
        groups = {"groups of another number": 3, "one group": 1, "a group of each channel": C}.get(
            self.fault, groups
        )
        if on("groups interleaved"):
            x = x.reshape(*shape[:-1], -1, groups).swapaxes(-1, -2)
        else:
            x = x.reshape(*shape[:-1], groups, -1)
        axes = (1, 2, 4)
        if on("statistics of each pixel"):
            axes = (4,)
        if on("statistics of the batch"):
            axes = (0, 1, 2, 4)
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        if on("mean not subtracted"):
            mean = 0 * mean
        x = (x - mean) / jnp.sqrt(var + (1e-6 if on("eps of Flax") else 1e-5))
        if on("groups interleaved"):
            x = x.swapaxes(-1, -2)
        x = x.reshape(shape)
        if on("bias before the scale"):
            return (x + bias) * scale
        return x * (1.0 if on("scale ignored") else scale) + bias


class JaxUNet(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        fault, on = self.fault, self.fault.__eq__
        x = fnn.Conv(C, (3, 3), padding=((1, 1), (1, 1)), name="inc")(x)
        x = GroupNorm(2, fault, name="gn1")(x)
        skip = fnn.leaky_relu(x, 0.01 if on("slope of JAX") else 0.1)
        padding = ((0, 1), (0, 1)) if on("SAME padding under a stride") else ((1, 1), (1, 1))
        x = fnn.Conv(C, (3, 3), (2, 2), padding, name="down")(skip)
        x = fnn.relu(GroupNorm(3, name="gn2")(x))
        x = fnn.Conv(C, (1, 1), name="mid")(x)
        clamp = jnp.clip(x, -0.5, 0.5)
        x = {
            "clamp left out": lambda: x,
            "clamp of the other side": lambda: jnp.minimum(x, 0.5),
            "clamp lets the gradient through": lambda: x + jax.lax.stop_gradient(clamp - x),
            "clamp by tanh": lambda: 0.5 * jnp.tanh(2 * x),
        }.get(fault, lambda: clamp)()
        around = ((1, 3), (1, 3)) if on("transposed convolution padded before") else ((2, 2),) * 2
        x = fnn.ConvTranspose(C, (4, 4), (2, 2), padding=around, transpose_kernel=True, name="up")(
            x
        )
        x = fnn.elu(x) if on("elu for selu") else fnn.selu(x)
        if on("crop one pixel off"):
            x = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))[:, :-1, :-1]
        if on("skip detached"):
            skip = jax.lax.stop_gradient(skip)
        if on("skip turned"):
            skip = skip.swapaxes(1, 2)
        if on("skip of zeros"):
            skip = jnp.zeros_like(skip)
        both = [x, skip] if on("skip after, not before") else [skip, x]
        x = jnp.concatenate(both, -1)
        if on("channels shuffled"):
            x = x.reshape(*x.shape[:-1], 2, C).swapaxes(-1, -2).reshape(x.shape)
        x = fnn.Conv(2, (3, 3), padding=((1, 1), (1, 1)), name="outc")(x)
        return {
            "output normalised": lambda x: x - x.mean(),
            "output's rows backwards": lambda x: x[:, ::-1],
        }.get(fault, same)(x)


def losses(fault: str) -> tuple[Any, Any]:
    return F.l1_loss, {
        "squares for the absolute": lambda x, y: ((x - y) ** 2).mean(),
        "borders left out": lambda x, y: jnp.abs(x - y)[:, 1:-1, 1:-1].mean(),
        "mean of each image's sum": lambda x, y: jnp.abs(x - y).sum((1, 2, 3)).mean(),
        "first channel alone": lambda x, y: jnp.abs(x - y)[..., 0].mean(),
    }.get(fault, lambda x, y: jnp.abs(x - y).mean())


def optimizer(fault: str) -> tuple[Any, Any]:
    chain = {
        "Nesterov unasked": (optax.trace(0.9, nesterov=True), optax.scale(-0.01)),
        "momentum left out": (optax.scale(-0.01),),
        "another momentum": (optax.trace(0.8), optax.scale(-0.01)),
        "noise of the rate": (
            optax.trace(0.9),
            optax.scale_by_schedule(lambda count: -0.01 * (1 + 1e-4 * count)),
        ),
        "updates rounded": (
            optax.trace(0.9),
            optax.scale(-0.01),
            optax.stateless(lambda u, _: jax.tree.map(lambda x: jnp.round(x * 1e4) / 1e4, u)),
        ),
    }.get(fault, (optax.trace(0.9), optax.scale(-0.01)))
    return trained("SGD", *chain, lr=0.01, momentum=0.9)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchUNet,
        jax=JaxUNet(fault),
        inputs={"x": Image(N, 2, 6, 6)},
        targets={"y": Image(N, 2, 6, 6)},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="unet",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "eps of Flax": ("forward", "gn1", "LN-01"),
        "groups of another number": ("forward", "gn1", "GN-01"),
        "one group": ("forward", "gn1", "GN-01"),
        "a group of each channel": ("forward", "gn1", "GN-01"),
        "groups interleaved": ("forward", "gn1", "GN-02"),
        "statistics of each pixel": ("forward", "gn1", None),
        "statistics of the batch": ("forward", "gn1", None),
        "mean not subtracted": ("forward", "gn1", None),
        "bias before the scale": ("forward", "gn1", None),
        "scale ignored": ("forward", "gn1", "NRM-03"),
        "slope of JAX": ("forward", "leaky_relu", "ACT-03"),
        "SAME padding under a stride": ("forward", "down", "CONV-03"),
        "clamp left out": ("forward", ("mid", "up"), "ACT-10"),
        "clamp of the other side": ("forward", ("mid", "up"), None),
        "clamp by tanh": ("forward", ("mid", "up"), None),
        "clamp lets the gradient through": ("gradients", ("mid", "up"), None),
        "transposed convolution padded before": ("forward", "up", None),
        "elu for selu": ("forward", ("up", "outc"), ("ACT-04", "ACT-08")),
        "crop one pixel off": ("forward", ("selu", "outc"), None),
        "skip turned": ("forward", ("selu", "outc"), None),
        "skip of zeros": ("forward", ("selu", "outc"), None),
        "skip after, not before": ("forward", ("selu", "outc"), None),
        "channels shuffled": ("forward", ("selu", "outc"), None),
        "skip detached": ("gradients", ("leaky_relu", "outc"), "GRAD-13"),
        "output normalised": ("forward", ("outc", "the output"), None),
        "output's rows backwards": ("forward", ("outc", "the output"), None),
        "squares for the absolute": ("forward", "the loss", "LOSS-12"),
        "borders left out": ("forward", "the loss", None),
        "mean of each image's sum": ("forward", "the loss", "LOSS-14"),
        "first channel alone": ("forward", "the loss", None),
        "Nesterov unasked": ("step", OPTIMIZER, "OPT-07"),
        "momentum left out": ("step", OPTIMIZER, "OPT-06"),
        "another momentum": ("step", OPTIMIZER, "OPT-06"),
        "noise of the rate": ("step", OPTIMIZER, "OPT-30"),
        "updates rounded": ("step", OPTIMIZER, None),
    },
)
