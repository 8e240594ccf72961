"""What the ports of several architectures share: a batch norm, wrong backward rules, optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch


class BatchNorm(fnn.Module):
    """torch's BatchNorm2d, channels last; a fault it does not know is somebody else's."""

    fault: str = ""
    eps: float = 1e-5

    @fnn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        on = self.fault.__eq__
        shape, axes = x.shape[-1:], tuple(range(x.ndim - 1))
        scale = self.param("scale", fnn.initializers.ones, shape)
        bias = self.param("bias", fnn.initializers.zeros, shape)
        running = self.variable("batch_stats", "mean", jnp.zeros, shape)
        spread = self.variable("batch_stats", "var", jnp.ones, shape)
        count = x.size // shape[0]
        momentum = 0.01 if on("momentum of TensorFlow") else 0.1
        momentum = 0.9 if on("momentum of the old value") else momentum
        if train and on("statistics of each image"):
            axes = axes[1:]
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        if on("variance from the squares"):
            var = (x * x).mean(axes, keepdims=True) - mean**2
        unbiased = var * count / (count - 1)
        if train and not self.is_initializing() and not on("statistics never updated"):
            estimate = var if on("biased running variance") else unbiased
            kept = jnp.sqrt(estimate) if on("running deviation") else estimate
            running.value += momentum * (mean.mean(tuple(range(x.ndim - 1))) - running.value)
            spread.value += momentum * (kept.mean(tuple(range(x.ndim - 1))) - spread.value)
        if on("unbiased variance to normalise"):
            var = unbiased
        if on("statistics behind a stop_gradient"):
            mean, var = jax.lax.stop_gradient((mean, var))
        if train == on("train and eval mixed up"):
            mean, var = running.value, spread.value
        eps = 1e-3 if on("eps of Keras") else self.eps
        root = jnp.sqrt(var) + eps if on("eps beside the root") else jnp.sqrt(var + eps)
        x = (x - mean) / root
        return x * (1.0 if on("scale ignored") else scale) + bias


class Dense(fnn.Module):
    """torch's Linear, with the slips of one written by hand."""

    features: int
    fault: str = ""

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", fnn.initializers.lecun_normal(), shape)
        bias = self.param("bias", fnn.initializers.zeros, (self.features,))
        if self.fault == "kernel not transposed":
            kernel = kernel.T
        return x @ kernel + (0.0 if self.fault == "bias ignored" else bias)


def same(x: jax.Array) -> jax.Array:
    return x


def graded(x: jax.Array, backward: Callable) -> jax.Array:
    """The identity with a backward rule of its own."""
    rule = jax.custom_vjp(same)
    rule.defvjp(lambda x: (x, None), lambda _, g: (backward(g),))
    return rule(x)


def trained(cls: str, *transformations: Any, **options: Any) -> tuple[Callable, Any]:
    """An optimizer of torch.optim beside a chain of optax's."""
    make = getattr(torch.optim, cls)
    return (lambda parameters: make(parameters, **options)), optax.chain(*transformations)
