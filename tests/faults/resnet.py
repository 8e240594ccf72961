"""A residual network with batch norms, strides and a dilated convolution; SGD with momentum."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch.nn.functional as F
from torch import nn

from compare import Array, Image, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import BatchNorm, trained


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.down = nn.Conv2d(4, 6, 1, stride=2, bias=False)

    def forward(self, x):
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + self.down(x))


class TorchResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.block = TorchBlock()
        self.wide, self.head = nn.Conv2d(6, 6, 3, padding=2, dilation=2), nn.Linear(6, 3)

    def forward(self, x):
        x = self.block(self.pool(F.relu(self.bn(self.stem(x)))))
        return self.head(F.silu(self.wide(x)).mean((2, 3)))


class JaxBlock(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        fault, on = self.fault, self.fault.__eq__
        padding = "SAME" if on("SAME padding under a stride") else ((1, 1), (1, 1))
        h = fnn.Conv(6, (3, 3), (2, 2), padding, use_bias=False, name="conv1")(x)
        h = fnn.relu(BatchNorm(fault, name="bn1")(h, train=train))
        h = fnn.Conv(6, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, name="conv2")(h)
        eps = 1e-3 if on("eps of another model") else 1e-5
        h = BatchNorm(eps=eps, name="bn2")(h, train=train)
        if on("shortcut one pixel off"):
            x = jnp.roll(x, -1, axis=1)
        short = fnn.Conv(6, (1, 1), (2, 2), use_bias=False, name="down")(x)
        return {
            "shortcut left out": lambda: fnn.relu(h),
            "relu before the sum": lambda: fnn.relu(h) + short,
            "branches averaged": lambda: fnn.relu((h + short) / 2),
            "shortcut detached": lambda: fnn.relu(h + jax.lax.stop_gradient(short)),
            "shortcut subtracted": lambda: fnn.relu(h - short),
        }.get(fault, lambda: fnn.relu(h + short))()


class JaxResNet(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        fault, on = self.fault, self.fault.__eq__
        x = fnn.Conv(4, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, name="stem")(x)
        x = fnn.relu(BatchNorm(name="bn")(x, train=train))
        last = 0 if on("ceil_mode left out") else 1
        x = fnn.max_pool(x, (2, 2), (2, 2), ((0, last), (0, last)))
        x = JaxBlock(fault, name="block")(x, train=train)
        dilation = 1 if on("dilation left out") else 2
        padding = ((dilation, dilation),) * 2
        x = fnn.Conv(6, (3, 3), padding=padding, kernel_dilation=dilation, name="wide")(x)
        x = fnn.relu(x) if on("relu for silu") else fnn.silu(x)
        x = {
            "maximum over the pixels": lambda: x.max((1, 2)),
            "mean of the first rows": lambda: x[:, :-1].mean((1, 2)),
            "mean over the channels": lambda: x.mean((1, 3)) @ jnp.ones((x.shape[2], 6)),
            "sum over the pixels": lambda: x.sum((1, 2)),
            "mean without its gradient": lambda: jax.lax.stop_gradient(x).mean((1, 2)),
        }.get(fault, lambda: x.mean((1, 2)))()
        return fnn.Dense(3, name="head")(x)


def losses(fault: str) -> tuple[Any, Any]:
    huber = optax.huber_loss
    return F.smooth_l1_loss, {
        "squares for the Huber loss": lambda x, y: ((x - y) ** 2).mean(),
        "a half of the squares": lambda x, y: optax.l2_loss(x, y).mean(),
        "Huber's delta": lambda x, y: huber(x, y, delta=0.5).mean(),
        "absolute for the Huber loss": lambda x, y: jnp.abs(x - y).mean(),
        "mean of the sums": lambda x, y: huber(x, y).sum(1).mean(),
    }.get(fault, lambda x, y: huber(x, y).mean())


def optimizer(fault: str) -> tuple[Any, Any]:
    def cycled(count: Any) -> Any:
        return jnp.where(count % 3 == 2, -0.025, -0.05)

    return trained(
        "SGD",
        optax.ema(0.9, debias=False) if fault == "averaged momentum" else optax.trace(0.9),
        optax.scale_by_schedule(cycled)
        if fault == "rate halved in every third step"
        else optax.scale(-0.05),
        *([optax.scale(0.5)] if fault == "half of every update" else []),
        lr=0.05,
        momentum=0.9,
    )


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchResNet,
        jax=JaxResNet(fault),
        inputs={"x": Image(4, 2, 7, 7)},
        targets={"y": Array((4, 3))},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="resnet",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "ceil_mode left out": ("forward", "pool", "POOL-03"),
        "SAME padding under a stride": ("forward", "block.conv1", "CONV-03"),
        "momentum of TensorFlow": ("forward", "block.bn1.running_mean", "BN-01"),
        "momentum of the old value": ("forward", "block.bn1.running_mean", "BN-01"),
        "biased running variance": ("forward", "block.bn1.running_var", "BN-02"),
        "running deviation": ("forward", "block.bn1.running_var", None),
        "statistics never updated": ("forward", "block.bn1.running_mean", "BN-08"),
        "statistics of each image": ("forward", "block.bn1", "BN-03"),
        "unbiased variance to normalise": ("forward", "block.bn1", "LN-04"),
        "statistics behind a stop_gradient": ("gradients", "block.bn1", "GRAD-13"),
        "train and eval mixed up": ("forward", "block.bn1", "BN-06"),
        "eps of Keras": ("forward", "block.bn1", "LN-01"),
        "eps beside the root": ("forward", "block.bn1", "LN-01"),
        "scale ignored": ("forward", "block.bn1", "NRM-03"),
        "eps of another model": ("forward", "block.bn2", "LN-01"),
        "shortcut one pixel off": ("forward", ("pool", "block.down"), None),
        "shortcut left out": ("forward", ("block.down", "block.relu#1"), None),
        "relu before the sum": ("forward", ("block.down", "block.relu#1"), None),
        "branches averaged": ("forward", ("block.down", "block.relu#1"), None),
        "shortcut detached": ("gradients", ("block.down", "block.relu#1"), "GRAD-13"),
        "shortcut subtracted": ("forward", ("block.down", "block.relu#1"), None),
        "dilation left out": ("forward", "wide", "CONV-04"),
        "relu for silu": ("forward", ("wide", "head"), "ACT-08"),
        "maximum over the pixels": ("forward", ("silu", "head"), None),
        "mean of the first rows": ("forward", ("silu", "head"), None),
        "mean over the channels": ("forward", ("silu", "head"), None),
        "sum over the pixels": ("forward", ("silu", "head"), None),
        "mean without its gradient": ("gradients", ("silu", "head"), "GRAD-13"),
        "squares for the Huber loss": ("forward", "the loss", "LOSS-12"),
        "a half of the squares": ("forward", "the loss", ("LOSS-10", "LOSS-12")),
        "Huber's delta": ("forward", "the loss", "LOSS-10"),
        "absolute for the Huber loss": ("forward", "the loss", "LOSS-12"),
        "mean of the sums": ("forward", "the loss", "LOSS-14"),
        "averaged momentum": ("step", OPTIMIZER, "OPT-06"),
        "half of every update": ("step", OPTIMIZER, "OPT-30"),
        "rate halved in every third step": ("trajectory", OPTIMIZER, None),
    },
)
EQUIVALENT = {"variance from the squares": "E[x^2] - E[x]^2 = E[(x - E[x])^2]"}
