"""Losses, averaged as torch averages them: optax returns one value per example."""

import jax
import jax.numpy as jnp
import optax

__all__ = ["mse", "cross_entropy", "binary_cross_entropy_with_logits"]


def mse(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean squared error over all elements: mean((outputs - targets)^2).

    Args:
      outputs: predictions, any shape.
      targets: the same shape. torch: broadcasts (N,) against (N, 1), with a warning.

    Returns:
      A scalar. (`optax.l2_loss` is half of it.)

    Raises:
      ValueError: if the shapes differ.
    """
    return jnp.mean(optax.squared_error(outputs, targets))


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Softmax cross entropy with integer labels: mean(-log softmax(outputs)[targets]).

    Args:
      outputs: logits (N, ..., K), classes last. torch: classes on axis 1.
      targets: labels (N, ...), integers in 0..K-1. torch: skips the label -100 and raises on any
        other outside the range; here both are NaN.

    Returns:
      A scalar, the mean over all labels.
    """
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, targets))


def binary_cross_entropy_with_logits(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Sigmoid cross entropy: mean(-t log sigmoid(o) - (1 - t) log(1 - sigmoid(o))).

    Args:
      outputs: logits, any shape.
      targets: probabilities in [0, 1], the same shape and dtype.

    Returns:
      A scalar, the mean over all elements.
    """
    return jnp.mean(optax.sigmoid_binary_cross_entropy(outputs, targets))
