"""Unpooling: what max pooling found goes back to its place, among zeros.

Max pooling fetches elements by their indices; unpooling puts them there, and is the backward pass
of the fetching. Flax has none.

Reference:
  Zeiler et al., Adaptive Deconvolutional Networks for Mid and High Level Feature Learning, 2011.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnn.layers.adaptive import Sizes, each

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


def max_unpool1d(
    x: jax.Array,
    indices: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """As `max_unpool2d`, over one axis: (..., L, C) -> (..., L', C)."""
    return _unpool(1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: jax.Array,
    indices: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """y[i] = x[k] at i = indices[k], 0 elsewhere: a partial inverse of `max_pool2d`.

    Where indices occur twice, as those of overlapping windows may, the last value stays (on
    accelerators: any), and the gradient of the place goes to all of them, as in torch.

    Args:
      x: float (..., H, W, C). torch: (N, C, H, W) or (C, H, W).
      indices: of `max_pool2d`, int (..., H, W, C); values whose index is outside are left out.
        torch: RuntimeError.
      kernel_size, stride, padding: as given to `max_pool2d`.
      output_size: (H', W') or the shape of the result, since several sizes are pooled to the same
        one; None for H' = (H - 1) s - 2 p + k.

    Returns: (..., H', W', C).

    Raises:
      ValueError: if a size is a stride or more from that of None, if indices have another shape
        than x, or if an argument is out of its range.
    """
    return _unpool(2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: jax.Array,
    indices: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """As `max_unpool2d`, over three axes: (..., D, H, W, C) -> (..., D', H', W', C)."""
    return _unpool(3, x, indices, kernel_size, stride, padding, output_size)


@jax.custom_vjp
def _put(zeros, index, values):
    """`values` at `index` along the axis before the last."""
    return jnp.put_along_axis(zeros, index, values, axis=-2, inplace=False)


def _put_forward(zeros, index, values):
    return _put(zeros, index, values), index


def _put_backward(index, g):
    return None, None, jnp.take_along_axis(g, index, axis=-2)


_put.defvjp(_put_forward, _put_backward)


def _unpool(rank, x, indices, kernel_size, stride, padding, output_size):
    if indices.shape != x.shape or x.ndim <= rank:
        raise ValueError(f"indices of shape {indices.shape} for x of shape {x.shape}")
    kernels = each("kernel_size", kernel_size, rank, 1)
    strides = each("stride", kernel_size if stride is None else stride, rank, 1)
    paddings = each("padding", padding, rank, 0)
    lead, sizes, channels = x.shape[: -rank - 1], x.shape[-rank - 1 : -1], x.shape[-1]
    usual = zip(sizes, kernels, strides, paddings, strict=True)
    usual = [(n - 1) * s - 2 * p + k for n, k, s, p in usual]
    if output_size is None:
        output_size = usual
    elif len(output_size) == x.ndim:
        output_size = output_size[-rank - 1 : -1]
    wanted = each("output_size", output_size, rank, 1)
    for size, own, s in zip(wanted, usual, strides, strict=True):
        if abs(size - own) >= s:
            raise ValueError(f"output_size={wanted} is a stride or more from {usual}")
    zeros = jnp.zeros((*lead, math.prod(wanted), channels), x.dtype)
    flat = (*lead, math.prod(sizes), channels)
    return _put(zeros, indices.reshape(flat), x.reshape(flat)).reshape(*lead, *wanted, channels)
