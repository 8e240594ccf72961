"""Dropout of elements and of whole channels, beside a residual: the masks are given; SGD."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch.nn.functional as F
from torch import nn

from compare import Array, Image, Twin
from tests.faults import table
from tests.faults.parts import trained

N, C, H, P = 4, 6, 8, 0.3


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.drop1 = nn.Conv2d(2, C, 3, padding=1), nn.Dropout2d(0.2)
        self.fc1, self.fc2 = nn.Linear(C, H), nn.Linear(H, H)
        self.drop2, self.drop3, self.head = nn.Dropout(P), nn.Dropout(P), nn.Linear(H, 3)

    def forward(self, x):
        x = self.drop1(F.relu(self.conv(x))).mean((2, 3))
        x = self.drop2(F.silu(self.fc1(x)))
        return self.head(x + self.drop3(self.fc2(x)))


class Dropout(fnn.Module):
    """torch's Dropout, with the slips of one written by hand."""

    rate: float
    fault: str = ""
    over: tuple[int, ...] = ()

    @fnn.compact
    def __call__(self, x, *, train: bool, key: Any = None):
        on = self.fault.__eq__
        if (on("off in training") or not train) and not on("active in eval mode"):
            return (1 - self.rate) * x if on("scaled in eval mode") else x
        keep = {
            "rate taken for keeping": self.rate,
            "rate of another layer": 0.2,
            "rate a little off": self.rate + 1e-3,
        }.get(self.fault, 1 - self.rate)
        if on("rate of another layer"):
            keep = 1 - keep
        scale = {
            "scale left out": 1.0,
            "scaled by the rate of keeping": keep,
            "scaled by the rate of dropping": 1 / self.rate,
            "scaled in eval mode": 1.0,
        }.get(self.fault, 1 / keep)
        over = {
            "a mask for the whole batch": (0,),
            "a mask for all features": (1,),
            "elements for channels": (),
        }.get(self.fault, self.over)
        shape = tuple(1 if axis in over else size for axis, size in enumerate(x.shape))
        key = self.make_rng("dropout") if key is None else key
        mask = jax.random.bernoulli(key, keep, shape)
        if on("the kept dropped"):
            mask = ~mask
        if on("mask of the first example"):
            mask = jnp.broadcast_to(mask[:1], x.shape)
        if on("mask turned"):
            mask = mask[::-1]
        if on("noise for zeros"):
            return jnp.where(mask, x * scale, -0.1)
        if on("gradient of what is dropped"):
            return x + jax.lax.stop_gradient(x * mask * scale - x)
        return x * mask * scale


class JaxNet(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        fault, on = self.fault, self.fault.__eq__
        x = fnn.relu(fnn.Conv(C, (3, 3), padding=((1, 1), (1, 1)), name="conv")(x))
        channels = fault if on("elements for channels") else ""
        x = Dropout(0.2, channels, (1, 2), name="drop1")(x, train=train).mean((1, 2))
        x = fnn.silu(fnn.Dense(H, name="fc1")(x))
        key = self.make_rng("dropout") if train and on("one key for two masks") else None
        mine = "" if on("elements for channels") else fault
        x = Dropout(P, mine, name="drop2")(x, train=train, key=key)
        last = Dropout(P, name="drop3")
        y = fnn.Dense(H, name="fc2")(x)
        if on("after the sum"):
            x = last(x + y, train=train)
        elif on("of the shortcut"):
            x = last(x, train=train) + y
        elif on("third left out"):
            x = x + y
        else:
            x = x + last(y, train=train, key=key)
        return fnn.Dense(3, name="head")(x)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchNet,
        jax=JaxNet(fault),
        inputs={"x": Image(N, 2, 5, 5)},
        targets={"y": Array((N, 3))},
        loss=(F.mse_loss, lambda x, y: ((x - y) ** 2).mean()),
        optimizer=trained("SGD", optax.scale(-0.1), lr=0.1),
        name="dropout",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "scale left out": ("forward", "drop2", "DROP-01"),
        "scaled by the rate of keeping": ("forward", "drop2", "DROP-01"),
        "scaled by the rate of dropping": ("forward", "drop2", "DROP-01"),
        "scaled in eval mode": ("forward", "drop2", "DROP-01"),
        "rate taken for keeping": ("forward", "drop2", "DROP-01"),
        "rate of another layer": ("forward", "drop2", "DROP-01"),
        "rate a little off": ("forward", "drop2", "DROP-01"),
        "the kept dropped": ("forward", "drop2", "DROP-01"),
        "off in training": ("forward", "drop2", "DROP-01"),
        "active in eval mode": ("forward", "drop2", "DROP-01"),
        "mask turned": ("forward", "drop2", None),
        "mask of the first example": ("forward", "drop2", None),
        "noise for zeros": ("forward", "drop2", None),
        "gradient of what is dropped": ("gradients", "drop2", "GRAD-13"),
        "one key for two masks": ("forward", "drop3", "DROP-01"),
        "a mask for the whole batch": ("forward", "drop2", None),
        "a mask for all features": ("forward", "drop2", None),
        "elements for channels": ("forward", "drop1", "DROP-02"),
        "after the sum": ("forward", ("fc2", "drop3"), None),
        "of the shortcut": ("forward", ("fc2", "drop3"), None),
        "third left out": ("forward", ("fc2", "head"), "DROP-01"),
    },
)
