"""A small LeNet: convolutions, a maximum and an average pooled, flattened; Adam."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Image, Labels, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import graded, same, trained


class TorchLeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.pool1 = nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.pool2 = nn.AvgPool2d(3, stride=2, padding=1)
        self.fc1, self.fc2 = nn.Linear(24, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.pool1(torch.tanh(self.conv1(x)))
        x = self.pool2(F.relu(self.conv2(x)))
        return self.fc2(torch.sigmoid(self.fc1(x.flatten(1))))


class Conv(fnn.Module):
    """torch's Conv2d(padding=1) with 3x3 kernels, written with lax."""

    features: int
    groups: int = 1
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        on, groups = self.fault.__eq__, self.groups
        shape = (3, 3, x.shape[-1] // groups, self.features)
        kernel = self.param("kernel", fnn.initializers.lecun_normal(), shape)
        bias = self.param("bias", fnn.initializers.zeros, (self.features,))
        kernel = {
            "kernel's height and width swapped": lambda k: k.swapaxes(0, 1),
            "kernel flipped": lambda k: k[::-1, ::-1],
            "corner of the kernel lost": lambda k: k.at[0, 0].set(0.0),
        }.get(self.fault, same)(kernel)
        if on("groups interleaved"):
            x = x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)
        if on("outputs of the groups interleaved"):
            kernel = kernel.reshape(*shape[:-1], groups, -1).swapaxes(-1, -2).reshape(shape)
        padding = [(0, 2), (0, 2)] if on("padded after alone") else [(1, 1), (1, 1)]
        if on("padded by the edge"):
            x, padding = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge"), [(0, 0)] * 2
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip
        return x if on("convolution's bias ignored") else x + bias


class JaxLeNet(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        fault, on = self.fault, self.fault.__eq__
        if on("images upside down"):
            x = x[:, ::-1]
        grouped = fault.endswith("interleaved")
        x = Conv(4, 1, "" if grouped else fault, name="conv1")(x)
        activation = {"tanh left out": same, "sigmoid for tanh": fnn.sigmoid}
        x = activation.get(fault, jnp.tanh)(x)
        if on("one pixel off"):
            x = jnp.roll(x, 1, axis=2)
        if on("average for the first maximum"):
            x = fnn.avg_pool(x, (2, 2), (2, 2))
        else:
            x = fnn.max_pool(x, (2, 2), (2, 2))
        if on("a channel twice"):
            x = x.at[..., 1].set(x[..., 0])
        x = Conv(6, 2, fault if grouped else "", name="conv2")(x)
        x = fnn.relu(x)
        padding = ((1, 1), (1, 1))
        if on("maximum for the second average"):
            x = fnn.max_pool(x, (3, 3), (2, 2), padding)
        else:
            counted = not on("padding not counted")
            x = fnn.avg_pool(x, (3, 3), (2, 2), padding, count_include_pad=counted)
        if on("sum for the second average"):
            x = 9 * x
        order = {
            "flattened channels last": (0, 1, 2, 3),
            "flattened columns first": (0, 3, 2, 1),
        }.get(fault, (0, 3, 1, 2))
        x = x.transpose(order)
        if on("batch and channels mixed up"):
            x = x.reshape(len(x), -1).reshape(-1, len(x)).T
        x = fnn.Dense(8, name="fc1")(x.reshape(len(x), -1))
        if on("gradient of a straight line"):
            x = x + jax.lax.stop_gradient(fnn.sigmoid(x) - x)
        else:
            x = fnn.sigmoid(x)
            x = graded(x, jnp.negative) if on("gradient's sign") else x
        return fnn.Dense(4, name="fc2")(x)


def adam(fault: str) -> tuple[Any, Any]:
    """Adam with weight decay in the gradient; eps stands above rounding."""
    on = fault.__eq__
    options: dict[str, Any] = {"b1": 0.9, "b2": 0.99, "eps": 1e-3}
    options |= {
        "betas swapped": {"b1": 0.99, "b2": 0.9},
        "eps a hundredth": {"eps": 1e-5},
        "eps inside the root": {"eps": 0.0, "eps_root": 1e-6},
        "second beta of the default": {"b2": 0.999},
    }.get(fault, {})
    moments = optax.scale_by_adam(**options, nesterov=on("Nesterov's Adam"))
    if on("no bias correction"):
        moments = _uncorrected(moments)
    if on("one step ahead"):
        moments = _ahead(moments)
    decay, rate = optax.add_decayed_weights(0.1), optax.scale(-0.01)
    chain = (moments, decay, rate) if on("decay beside Adam") else (decay, moments, rate)
    if on("decay without the learning rate"):
        chain = (moments, rate, optax.add_decayed_weights(-0.1))
    if on("clipped by the norm"):
        chain = (optax.clip_by_global_norm(0.01), *chain)
    torch_options = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": 0.1}
    return trained("Adam", *chain, **torch_options)


def _uncorrected(moments: Any) -> Any:
    def update(updates, state, params=None):
        state = moments.update(updates, state, params)[1]
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + 1e-3), state.mu, state.nu), state

    return optax.GradientTransformation(moments.init, update)


def _ahead(moments: Any) -> Any:
    """Counts one step too many."""

    def update(updates, state, params=None):
        steps, after = moments.update(updates, state._replace(count=state.count + 1), params)
        return steps, after._replace(count=state.count + 1)

    return optax.GradientTransformation(moments.init, update)


def losses(fault: str) -> tuple[Any, Any]:
    entropy = optax.softmax_cross_entropy_with_integer_labels
    wrong = {
        "mean over the classes too": lambda x, y: entropy(x, y).mean() / 4,
        "halved loss": lambda x, y: entropy(x, y).mean() / 2,
        "logarithm to base two": lambda x, y: entropy(x, y).mean() / jnp.log(2.0),
        "softmax twice": lambda x, y: entropy(jax.nn.softmax(x), y).mean(),
    }
    return F.cross_entropy, wrong.get(fault, lambda x, y: entropy(x, y).mean())


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchLeNet,
        jax=JaxLeNet(fault),
        inputs={"x": Image(4, 2, 6, 8)},
        targets={"y": Labels(4, 4)},
        loss=losses(fault),
        optimizer=adam(fault),
        name="lenet",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "images upside down": ("forward", ("the input", "conv1"), None),
        "kernel's height and width swapped": ("forward", "conv1", "CONV-01"),
        "kernel flipped": ("forward", "conv1", "CONV-02"),
        "corner of the kernel lost": ("forward", "conv1", None),
        "padded after alone": ("forward", "conv1", "CONV-06"),
        "padded by the edge": ("forward", "conv1", "CONV-05"),
        "convolution's bias ignored": ("forward", "conv1", "LIN-02"),
        "tanh left out": ("forward", ("conv1", "pool1"), "ACT-10"),
        "sigmoid for tanh": ("forward", ("conv1", "pool1"), "ACT-08"),
        "one pixel off": ("forward", ("conv1", "pool1"), None),
        "average for the first maximum": ("forward", ("conv1", "conv2"), "POOL-10"),
        "a channel twice": ("forward", ("pool1", "conv2"), None),
        "groups interleaved": ("forward", "conv2", None),
        "outputs of the groups interleaved": ("forward", "conv2", "CONV-07"),
        "maximum for the second average": ("forward", ("relu", "fc1"), "POOL-10"),
        "padding not counted": ("forward", ("relu", "fc1"), "POOL-02"),
        "sum for the second average": ("forward", ("relu", "fc1"), "POOL-10"),
        "flattened channels last": ("forward", ("relu", "fc1"), "FLAT-01"),
        "flattened columns first": ("forward", ("relu", "fc1"), ("FLAT-01", "FLAT-02")),
        "batch and channels mixed up": ("forward", ("relu", "fc1"), "FLAT-02"),
        "gradient of a straight line": ("gradients", ("sigmoid", "fc2"), "GRAD-13"),
        "gradient's sign": ("gradients", ("sigmoid", "fc2"), None),
        "mean over the classes too": ("forward", "the loss", "LOSS-14"),
        "halved loss": ("forward", "the loss", None),
        "logarithm to base two": ("forward", "the loss", None),
        "softmax twice": ("forward", "the loss", "LOSS-06"),
        "betas swapped": ("step", OPTIMIZER, "OPT-17"),
        "second beta of the default": ("step", OPTIMIZER, "OPT-17"),
        "eps a hundredth": ("step", OPTIMIZER, "OPT-01"),
        "eps inside the root": ("step", OPTIMIZER, "OPT-01"),
        "no bias correction": ("step", OPTIMIZER, "OPT-15"),
        "one step ahead": ("step", OPTIMIZER, "OPT-16"),
        "decay beside Adam": ("step", OPTIMIZER, "OPT-04"),
        "decay without the learning rate": ("step", OPTIMIZER, "OPT-04"),
        "Nesterov's Adam": ("step", OPTIMIZER, "OPT-07"),
        "clipped by the norm": ("step", OPTIMIZER, "OPT-27"),
    },
)
