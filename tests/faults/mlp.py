"""A perceptron with three hidden layers, a layer norm and a residual; cross entropy, SGD."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch.nn.functional as F
from torch import nn

from compare import Array, Labels, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import Dense, graded, same, trained


class TorchMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.act, self.norm = nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8)
        self.fc2, self.fc3, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        h = self.norm(self.act(self.fc1(x)))
        h = h + F.relu(self.fc2(h))
        return self.head(F.leaky_relu(self.fc3(h), 0.2))


class JaxMLP(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        fault, on = self.fault, self.fault.__eq__
        x = Dense(8, "bias ignored" if on("first bias ignored") else "", name="fc1")(x)
        if on("a factor of 1.01"):
            x = 1.01 * x
        x = fnn.gelu(x, approximate=on("gelu in tanh form"))
        if on("gelu twice"):
            x = fnn.gelu(x, approximate=False)
        axis = 0 if on("layer norm along the batch") else -1
        eps = 1e-6 if on("eps of Flax") else 1e-5
        h = fnn.LayerNorm(epsilon=eps, reduction_axes=axis, name="norm")(x)
        inner = {
            "gradient doubled": lambda x: graded(x, lambda g: 2 * g),
            "a constant added": lambda x: x + 1e-3,
        }.get(fault, same)(h)
        square = "kernel not transposed" if on("square kernel not transposed") else ""
        fc2 = Dense(8, square, name="fc2")
        inner = fc2(inner)
        if on("gradient clipped"):
            inner = graded(inner, lambda g: jnp.clip(g, -0.01, 0.01))
        inner = {"relu left out": same, "tanh for relu": jnp.tanh}.get(fault, fnn.relu)(inner)
        if on("half of the units lost"):
            inner = inner.at[:, :4].set(0.0)
        h = {
            "residual left out": lambda: inner,
            "residual halved": lambda: 0.5 * h + inner,
            "residual detached": lambda: jax.lax.stop_gradient(h) + inner,
            "residual of the layer before": lambda: x + inner,
            "minus for plus": lambda: h - inner,
        }.get(fault, lambda: h + inner)()
        h = fc2(h) if on("second layer used again") else Dense(8, name="fc3")(h)
        h = fnn.leaky_relu(h, 0.01 if on("slope of JAX") else 0.2)
        x = fnn.Dense(4, use_bias=not on("last bias left out"), name="head")(h)
        return {
            "softmax before the loss": fnn.softmax,
            "classes backwards": lambda x: x[:, ::-1],
        }.get(fault, same)(x)


def losses(fault: str) -> tuple[Any, Any]:
    entropy = optax.softmax_cross_entropy_with_integer_labels

    def smooth(x, y):
        target = optax.smooth_labels(jax.nn.one_hot(y, 4, dtype=x.dtype), 0.1)
        return optax.softmax_cross_entropy(x, target).mean()

    return F.cross_entropy, {
        "loss summed": lambda x, y: entropy(x, y).sum(),
        "labels smoothed": smooth,
        "labels from one": lambda x, y: entropy(x, (y + 1) % 4).mean(),
        "one example lost": lambda x, y: entropy(x[1:], y[1:]).mean(),
        "squared probabilities": lambda x, y: (
            (jax.nn.softmax(x) - jax.nn.one_hot(y, 4, dtype=x.dtype)) ** 2
        ).mean(),
    }.get(fault, lambda x, y: entropy(x, y).mean())


def optimizer(fault: str) -> tuple[Any, Any]:
    """SGD with Nesterov momentum and weight decay."""
    decay, rate = optax.add_decayed_weights(0.1), optax.scale(-0.05)
    momentum = optax.trace(0.9, nesterov=True)
    kernels = optax.add_decayed_weights(0.1, lambda p: jax.tree.map(lambda x: x.ndim > 1, p))
    after = optax.chain(optax.add_decayed_weights(0.1), rate)
    chain = {
        "plain momentum": (decay, optax.trace(0.9), rate),
        "momentum dampened": (decay, optax.scale(0.1), momentum, rate),
        "no weight decay": (momentum, rate),
        "decay beside the momentum": (momentum, after),
        "decay of kernels alone": (kernels, momentum, rate),
        "another learning rate": (decay, momentum, optax.scale(-0.0501)),
        "clipped by value": (optax.clip(0.01), decay, momentum, rate),
        "ascent": (decay, momentum, optax.scale(0.05)),
        "sign of the gradient": (decay, momentum, optax.stateless(_signs), rate),
    }.get(fault, (decay, momentum, rate))
    options = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
    return trained("SGD", *chain, **options)


def _signs(updates: Any, params: Any) -> Any:
    return jax.tree.map(jnp.sign, updates)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchMLP,
        jax=JaxMLP(fault),
        inputs={"x": Array((4, 6))},
        targets={"y": Labels(4, 4)},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="mlp",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "last bias left out": ("weights", "head", "LIN-02"),
        "second layer used again": ("weights", "fc3.weight", None),
        "first bias ignored": ("forward", "fc1", "LIN-02"),
        "a factor of 1.01": ("forward", ("fc1", "act"), None),
        "gelu in tanh form": ("forward", "act", "ACT-01"),
        "gelu twice": ("forward", ("fc1", "norm"), "ACT-10"),
        "eps of Flax": ("forward", "norm", "LN-01"),
        "layer norm along the batch": ("forward", "norm", "LN-02"),
        "a constant added": ("forward", ("norm", "fc2"), None),
        "square kernel not transposed": ("forward", "fc2", "LIN-01"),
        "relu left out": ("forward", ("fc2", "fc3"), "ACT-10"),
        "tanh for relu": ("forward", ("fc2", "fc3"), "ACT-08"),
        "half of the units lost": ("forward", ("relu", "fc3"), None),
        "residual left out": ("forward", ("relu", "fc3"), None),
        "residual halved": ("forward", ("relu", "fc3"), None),
        "residual of the layer before": ("forward", ("relu", "fc3"), None),
        "minus for plus": ("forward", ("relu", "fc3"), None),
        "slope of JAX": ("forward", "leaky_relu", "ACT-03"),
        "softmax before the loss": ("forward", ("head", "the output"), ("ACT-07", "ACT-11")),
        "classes backwards": ("forward", ("head", "the output"), None),
        "loss summed": ("forward", "the loss", "LOSS-14"),
        "labels smoothed": ("forward", "the loss", "LOSS-04"),
        "labels from one": ("forward", "the loss", None),
        "one example lost": ("forward", "the loss", None),
        "squared probabilities": ("forward", "the loss", None),
        "gradient doubled": ("gradients", ("norm", "fc2"), None),
        "gradient clipped": ("gradients", ("fc2", "relu"), None),
        "residual detached": ("gradients", ("norm", "fc3"), "GRAD-13"),
        "plain momentum": ("step", OPTIMIZER, "OPT-07"),
        "momentum dampened": ("step", OPTIMIZER, "OPT-06"),
        "no weight decay": ("step", OPTIMIZER, "OPT-03"),
        "decay beside the momentum": ("step", OPTIMIZER, "OPT-05"),
        "decay of kernels alone": ("step", OPTIMIZER, "OPT-03"),
        "another learning rate": ("step", OPTIMIZER, "OPT-30"),
        "clipped by value": ("step", OPTIMIZER, "OPT-27"),
        "ascent": ("step", OPTIMIZER, "OPT-11"),
        "sign of the gradient": ("step", OPTIMIZER, None),
    },
)
