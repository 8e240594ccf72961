"""Divergences between distributions, and the likelihoods of Poisson and Gauss."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from jaxnn.training.losses import reduce

__all__ = ["kl_div", "js_div", "poisson_nll", "gaussian_nll"]


def kl_div(
    outputs: jax.Array, targets: jax.Array, *, reduction: str = "mean", log_target: bool = False
) -> jax.Array:
    """Kullback and Leibler's divergence from log-probabilities: p (log p - outputs), p the targets.

    "mean" divides by every element; the divergence of a batch is "batchmean". optax's
    `kl_divergence` sums over the last axis. At p = 0 the value is 0, its gradient to p not finite.

    Args:
      outputs: log-probabilities, any shape, the batch first.
      targets: probabilities of the same shape, or their logarithms.
      reduction: as in `reduce`, or "batchmean", the sum divided by the size of the batch.
      log_target: whether the targets are logarithms.

    Raises:
      ValueError: if reduction is none of these.
    """
    if log_target:
        return _reduce(jnp.exp(targets) * (targets - outputs), reduction)
    return _reduce(xlogy(targets, targets) - targets * outputs, reduction)


def js_div(outputs: jax.Array, targets: jax.Array, reduction: str = "mean") -> jax.Array:
    """Jensen and Shannon's divergence: half of KL(p, m) and half of KL(q, m), m = (p + q) / 2.

    Symmetric, and at most log 2 for a distribution. Neither framework has it.

    Args:
      outputs, targets: probabilities p and q of one shape, the batch first.
      reduction: as in `kl_div`.

    Reference:
      J. Lin, Divergence Measures Based on the Shannon Entropy, 1991.
    """
    m = (outputs + targets) / 2
    values = (xlogy(outputs, outputs) + xlogy(targets, targets)) / 2 - xlogy(m, m)
    return _reduce(values, reduction)


def poisson_nll(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> jax.Array:
    """Poisson's negative log likelihood: rate - t log rate, without log t!.

    Args:
      outputs: log rates or, without `log_input`, rates; any shape.
      targets: counts t, the same shape, float.
      log_input: whether the outputs are logarithms.
      full: add Stirling's t log t - t + log(2 pi t) / 2 where t > 1.
      eps: added to the rate inside of the logarithm.
      reduction: as in `reduce`.
    """
    if log_input:
        values = jnp.exp(outputs) - targets * outputs
    else:
        values = outputs - targets * jnp.log(outputs + eps)
    if full:
        t = jnp.where(targets > 1, targets, 1)
        stirling = t * jnp.log(t) - t + jnp.log(2 * math.pi * t) / 2
        values += jnp.where(targets > 1, stirling, 0)
    return reduce(values, reduction)


def gaussian_nll(
    outputs: jax.Array,
    targets: jax.Array,
    var: jax.Array,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> jax.Array:
    """Gauss's negative log likelihood: (log var + (outputs - targets)^2 / var) / 2.

    Args:
      outputs: expectations, any shape.
      targets: samples, the same shape.
      var: variances of the same shape, or of it without its last axis, or with axes of size 1.
        torch: raises where one is negative; here it counts as eps.
      full: add log(2 pi) / 2.
      eps: the least variance; the gradient passes as if there were none.
      reduction: as in `reduce`.

    Raises:
      ValueError: if var has another shape.

    Reference:
      Nix and Weigend, Estimating the Mean and Variance of the Target Distribution, 1994.
    """
    if var.shape == outputs.shape[:-1]:
        var = var[..., None]
    if var.ndim != outputs.ndim or any(
        n not in (1, size) for n, size in zip(var.shape, outputs.shape, strict=True)
    ):
        raise ValueError(f"var of shape {var.shape} does not fit outputs of {outputs.shape}")
    var = var + jax.lax.stop_gradient(jnp.maximum(var, eps) - var)
    values = (jnp.log(var) + (outputs - targets) ** 2 / var) / 2
    return reduce(values + math.log(2 * math.pi) / 2 if full else values, reduction)


def _reduce(values: jax.Array, reduction: str) -> jax.Array:
    """As `reduce`, with torch's fourth way."""
    if reduction == "batchmean":
        return values.sum() / values.shape[0]
    return reduce(values, reduction)
