"""Losses of regression that grow as the error does, and not as its square."""

import jax
import jax.numpy as jnp
import optax

from jaxnn.training.losses import reduce

__all__ = ["l1", "huber", "smooth_l1"]


def l1(outputs: jax.Array, targets: jax.Array, *, reduction: str = "mean") -> jax.Array:
    """Absolute error |outputs - targets|; its gradient at 0 is 0, where that of `jnp.abs` is 1.

    Args, raises: as `jaxnn.training.losses.mse`.
    """
    error = _error(outputs, targets)
    return reduce(error * jnp.sign(error), reduction)


def huber(
    outputs: jax.Array, targets: jax.Array, *, reduction: str = "mean", delta: float = 1.0
) -> jax.Array:
    """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), of e = outputs - targets.

    Args, raises: as `l1`; ValueError, too, if delta <= 0. torch: RuntimeError.

    Reference: P. Huber, Robust Estimation of a Location Parameter, 1964.
    """
    if delta <= 0:
        raise ValueError(f"delta={delta} is not positive")
    return reduce(optax.huber_loss(_error(outputs, targets), delta=delta), reduction)


def smooth_l1(
    outputs: jax.Array, targets: jax.Array, *, reduction: str = "mean", beta: float = 1.0
) -> jax.Array:
    """`huber` of delta = beta, divided by beta: the slope of its arms is 1; `l1` at beta = 0.

    Args, raises: as `l1`; ValueError, too, if beta < 0. torch: RuntimeError.

    Reference: R. Girshick, Fast R-CNN, 2015, https://arxiv.org/abs/1504.08083
    """
    if beta < 0:
        raise ValueError(f"beta={beta} is negative")
    if beta == 0:
        return l1(outputs, targets, reduction=reduction)
    return huber(outputs, targets, reduction=reduction, delta=beta) / beta


def _error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    if outputs.shape != targets.shape:
        raise ValueError(f"targets of shape {targets.shape} for outputs of {outputs.shape}")
    return outputs - targets
