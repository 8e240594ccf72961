"""Initial weights with a structure: the identity, orthogonal matrices and sparse ones.

What is random is a function of standard draws, for `initialiser`. `eye` is jax.numpy's.
"""

import math

import jax
import jax.numpy as jnp
from jax.numpy import eye

__all__ = ["eye", "orthogonal", "sparse", "dirac"]


def orthogonal(draw: jax.Array, gain: float = 1) -> jax.Array:
    """A (semi-)orthogonal matrix, rows the outputs and columns the rest, of normal draws.

    The Q of a QR decomposition, whose signs are those that make it uniform.

    Reference: Saxe et al., Exact solutions to the nonlinear dynamics of learning, 2013.
    """
    if draw.ndim < 2:
        raise ValueError(f"draw of shape {draw.shape} has fewer than two axes")
    rows = jnp.moveaxis(draw, (-1, -2), (0, 1))  # torch's (out, in, ...)
    matrix = rows.reshape(len(rows), -1)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = jnp.linalg.qr(matrix.T if wide else matrix)
    q = q * jnp.sign(jnp.diagonal(r))
    return gain * jnp.moveaxis((q.T if wide else q).reshape(rows.shape), (0, 1), (-1, -2))


def sparse(draw: jax.Array, order: jax.Array, sparsity: float, std: float = 0.01) -> jax.Array:
    """Normal, with a fraction of zeros among the weights of each input.

    Args:
      draw: standard normal (in, out).
      order: uniform, the same shape; of every input the outputs with the smallest are zeroed.
      sparsity: that fraction, rounded up to whole weights.
      std: standard deviation of the others.

    Reference: J. Martens, Deep learning via Hessian-free optimization, 2010.
    """
    if draw.ndim != 2:
        raise ValueError(f"draw of shape {draw.shape} has not two axes")
    zeroed = order.argsort(1).argsort(1) < math.ceil(sparsity * draw.shape[1])
    return jnp.where(zeroed, 0, std * draw)


def dirac(shape: tuple[int, ...], groups: int = 1) -> jax.Array:
    """A convolution that passes its channels on: 1 in the middle of channel d -> d, 0 elsewhere.

    Args:
      shape: (..., in, out), three to five axes.
      groups: each passes on channels of its own.

    Raises:
      ValueError: if shape has other axes, or its outputs do not divide into groups.
    """
    if not 3 <= len(shape) <= 5 or shape[-1] % groups:
        raise ValueError(f"shape={shape} does not have three to five axes, or {groups} groups")
    middle = tuple(n // 2 for n in shape[:-2])
    each = shape[-1] // groups
    passed = jnp.arange(min(each, shape[-2]))
    weight = jnp.zeros(shape)
    for group in range(groups):
        weight = weight.at[(*middle, passed, group * each + passed)].set(1)
    return weight
