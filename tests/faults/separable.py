"""Depthwise-separable convolutions with squeeze and excitation; smoothed labels, Nesterov's SGD."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch.nn.functional as F
from torch import nn

from compare import Image, Labels, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import BatchNorm, graded, trained

HELD_OUT = True
N, C, E, CLASSES = 4, 4, 6, 5


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(C, E, 1, bias=False), nn.BatchNorm2d(E)
        self.depth = nn.Conv2d(E, E, 5, padding=2, groups=E, bias=False)
        self.bn2 = nn.BatchNorm2d(E)
        self.squeeze, self.excite = nn.Conv2d(E, 8, 1), nn.Conv2d(8, E, 1)
        self.project, self.bn3 = nn.Conv2d(E, C, 1, bias=False), nn.BatchNorm2d(C)

    def forward(self, x):
        h = F.relu6(self.bn1(self.expand(x)))
        h = F.relu6(self.bn2(self.depth(h)))
        s = F.relu(self.squeeze(h.mean((2, 3), keepdim=True)))
        h = h * F.sigmoid(self.excite(s))
        return x + self.bn3(self.project(h))


class TorchSeparable(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, C, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(C)
        self.block = TorchBlock()
        self.down = nn.Conv2d(C, 2 * C, 3, padding=1, groups=C)
        self.head = nn.Linear(2 * C, CLASSES)

    def forward(self, x):
        x = self.block(F.hardswish(self.bn(self.stem(x))))
        return self.head(F.silu(self.down(x)).mean((2, 3)))


class Depthwise(fnn.Module):
    """torch's Conv2d with as many groups as inputs, channels last."""

    size: int
    outputs: int = 1
    fault: str = ""
    use_bias: bool = False

    @fnn.compact
    def __call__(self, x):
        on, channels = self.fault.__eq__, x.shape[-1]
        shape = (self.size, self.size, 1, channels * self.outputs)
        kernel = self.param("kernel", fnn.initializers.lecun_normal(), shape)
        if on("depthwise kernel's axes swapped"):
            kernel = kernel.swapaxes(0, 1)
        if on("multiplier before the channels"):
            kernel = kernel.reshape(*shape[:-1], channels, -1).swapaxes(-1, -2).reshape(shape)
        pad = self.size // 2
        around = ((pad, pad), (pad, pad))
        if on("depthwise padded by reflection"):
            x, around = jnp.pad(x, ((0, 0), *around, (0, 0)), mode="reflect"), ((0, 0), (0, 0))
        if on("depthwise padded on one side"):
            around = ((2 * pad, 0), (2 * pad, 0))
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), around, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )  # fmt: skip
        if self.use_bias:
            x = x + self.param("bias", fnn.initializers.zeros, shape[-1:])
        return x


class JaxBlock(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        fault, on = self.fault, self.fault.__eq__
        h = fnn.Conv(E, (1, 1), use_bias=False, name="expand")(x)
        h = BatchNorm(name="bn1")(h, train=train)
        h = h if on("relu6 left out") else jax.nn.relu6(h)
        h = Depthwise(5, fault=fault, name="depth")(h)
        frozen = on("batch norm left in eval mode")
        h = BatchNorm(fault, name="bn2")(h, train=train and not frozen)
        h = jax.nn.relu6(h)
        seen = jax.lax.stop_gradient(h) if on("squeeze detached") else h
        s = {
            "squeezed by the maximum": lambda: seen.max((1, 2), keepdims=True),
            "squeezed by the sum": lambda: seen.sum((1, 2), keepdims=True),
            "squeezed along one axis": lambda: seen.mean(1, keepdims=True)[:, :, :1],
            "squeezed over the batch": lambda: 0 * h[:, :1, :1] + seen.mean((0, 1, 2)),
        }.get(fault, lambda: seen.mean((1, 2), keepdims=True))()
        s = fnn.Conv(8, (1, 1), name="squeeze")(s)
        s = fnn.Conv(E, (1, 1), name="excite")(fnn.relu(s))
        s = jax.nn.hard_sigmoid(s) if on("hard sigmoid for the gate") else jax.nn.sigmoid(s)
        h = {
            "gate added": lambda: h + s,
            "gate left out": lambda: h,
            "gate about one": lambda: h * (1 + s),
            "gate detached": lambda: h * jax.lax.stop_gradient(s),
            "gate's gradient doubled": lambda: h * graded(s, lambda g: 2 * g),
        }.get(fault, lambda: h * s)()
        h = fnn.Conv(C, (1, 1), use_bias=False, name="project")(h)
        h = BatchNorm(eps=1e-3 if on("eps of TensorFlow") else 1e-5, name="bn3")(h, train=train)
        return {
            "shortcut left out": lambda: h,
            "relu behind the bottleneck": lambda: fnn.relu(x + h),
        }.get(fault, lambda: x + h)()


class JaxSeparable(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        fault, on = self.fault, self.fault.__eq__
        if on("images standardised once more"):
            x = (x - 0.485) / 0.229
        padding = "SAME" if on("SAME padding in the stem") else ((1, 1), (1, 1))
        x = fnn.Conv(C, (3, 3), (2, 2), padding, use_bias=False, name="stem")(x)
        x = BatchNorm(name="bn")(x, train=train)
        x = {
            "hard swish of Keras": lambda: x * jnp.clip(0.2 * x + 0.5, 0, 1),
            "silu for hard swish": lambda: jax.nn.silu(x),
            "hard sigmoid for hard swish": lambda: jax.nn.hard_sigmoid(x),
        }.get(fault, lambda: jax.nn.hard_swish(x))()
        x = JaxBlock(fault, name="block")(x, train=train)
        multiplied = fault if on("multiplier before the channels") else ""
        x = fnn.silu(Depthwise(3, 2, multiplied, use_bias=True, name="down")(x))
        x = x[:, 0, 0] if on("first pixel for the mean") else x.mean((1, 2))
        return fnn.Dense(CLASSES, name="head")(x)


def losses(fault: str) -> tuple[Any, Any]:
    def ours(x, y):
        return F.cross_entropy(x, y, label_smoothing=0.1)

    def loss(x, y):
        y = (y + 1) % CLASSES if fault == "classes counted from one" else y
        hot = jax.nn.one_hot(y, CLASSES, dtype=x.dtype)
        smooth = {
            "smoothing left out": lambda: hot,
            "smoothed over the other classes": lambda: 0.9 * hot + 0.1 * (1 - hot) / (CLASSES - 1),
            "smoothing not taken from the label": lambda: hot + 0.1 / CLASSES,
        }.get(fault, lambda: optax.smooth_labels(hot, 0.1))()
        each = optax.softmax_cross_entropy(x, smooth)
        return each.sum() if fault == "loss summed over the batch" else each.mean()

    return ours, loss


def optimizer(fault: str) -> tuple[Any, Any]:
    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    masked = matrices if fault == "biases and scales not decayed" else None
    decay = optax.add_decayed_weights(0.02, masked)
    trace = optax.trace(0.9, nesterov=fault != "Nesterov left out")
    rate = optax.scale(-0.02)
    chain = (trace, decay, rate) if fault == "decay after the momentum" else (decay, trace, rate)
    return trained("SGD", *chain, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.02)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchSeparable,
        jax=JaxSeparable(fault),
        inputs={"x": Image(N, 2, 8, 8)},
        targets={"y": Labels(N, CLASSES)},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="separable",
    )


SWISH, SQUEEZE = ("bn", "block.expand"), ("block.relu6#1", "block.squeeze")
GATE = ("block.sigmoid", "block.project")
FAULTS = table(
    __name__,
    twin,
    {
        "images standardised once more": ("forward", ("the input", "stem"), None),
        "SAME padding in the stem": ("forward", "stem", "CONV-03"),
        "hard swish of Keras": ("forward", SWISH, "ACT-09"),
        "silu for hard swish": ("forward", SWISH, "ACT-08"),
        "hard sigmoid for hard swish": ("forward", SWISH, ("ACT-08", "ACT-09")),
        "relu6 left out": ("forward", ("block.bn1", "block.depth"), "ACT-10"),
        "depthwise kernel's axes swapped": ("forward", "block.depth", "CONV-01"),
        "depthwise padded by reflection": ("forward", "block.depth", "CONV-05"),
        "depthwise padded on one side": ("forward", "block.depth", "CONV-06"),
        "batch norm left in eval mode": ("forward", "block.bn2", "BN-06"),
        "biased running variance": ("forward", "block.bn2.running_var", "BN-02"),
        "momentum of TensorFlow": ("forward", "block.bn2.running_mean", "BN-01"),
        "running deviation": ("forward", "block.bn2.running_var", None),
        "squeezed by the maximum": ("forward", SQUEEZE, None),
        "squeezed by the sum": ("forward", SQUEEZE, None),
        "squeezed along one axis": ("forward", SQUEEZE, None),
        "squeezed over the batch": ("forward", SQUEEZE, None),
        "squeeze detached": ("gradients", SQUEEZE, "GRAD-13"),
        "hard sigmoid for the gate": (
            "forward",
            ("block.excite", "block.project"),
            ("ACT-08", "ACT-09"),
        ),
        "gate added": ("forward", GATE, None),
        "gate left out": ("forward", GATE, None),
        "gate about one": ("forward", GATE, None),
        "gate detached": ("gradients", GATE, "GRAD-13"),
        "gate's gradient doubled": ("gradients", GATE, None),
        "eps of TensorFlow": ("forward", "block.bn3", "LN-01"),
        "shortcut left out": ("forward", "block", None),
        "relu behind the bottleneck": ("forward", "block", "ACT-11"),
        "multiplier before the channels": ("forward", "down", "CONV-07"),
        "first pixel for the mean": ("forward", ("silu", "head"), None),
        "classes counted from one": ("forward", "the loss", None),
        "smoothing left out": ("forward", "the loss", "LOSS-04"),
        "smoothed over the other classes": ("forward", "the loss", "LOSS-04"),
        "smoothing not taken from the label": ("forward", "the loss", "LOSS-04"),
        "loss summed over the batch": ("forward", "the loss", "LOSS-14"),
        "biases and scales not decayed": ("step", OPTIMIZER, "OPT-03"),
        "Nesterov left out": ("step", OPTIMIZER, "OPT-07"),
        "decay after the momentum": ("step", OPTIMIZER, "OPT-05"),
    },
)
