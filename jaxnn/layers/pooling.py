"""Pooling: the largest element, or the mean, of every window that slides over the grid.

`flax.linen.max_pool` and `avg_pool` do the same with other defaults (stride 1 and not the window's
size), have neither `ceil_mode` nor `divisor_override`, and return no indices.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.layers.adaptive import Sizes, each, largest, total

__all__ = ["max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"]


def max_pool1d(
    x: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """As `max_pool2d`, over one axis: (..., L, C) -> (..., L', C)."""
    tables = _windows(1, x, kernel_size, stride, padding, dilation, ceil_mode)
    return largest(x, tables, return_indices)


def max_pool2d(
    x: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """y[i, j] = the largest x[i s - p + d a, j s - p + d b] with 0 <= a, b < k that is inside x.

    The gradient of y goes to one element alone: the first of equal ones in the order of the rows,
    or the last NaN if there is one, as in torch. (`jnp.max` shares it among equal ones.)

    Args:
      x: float (..., H, W, C). torch: (N, C, H, W) or (C, H, W).
      kernel_size: k, elements of a window.
      stride: s, from one window to the next; None for k.
      padding: p, how far windows reach out on either side, where nothing is found.
      dilation: d, from one element of a window to the next.
      ceil_mode: whether a last window that is not all inside counts, provided that it starts
        before the padding on the far side.
      return_indices: whether the places come, too.

    Returns:
      (..., H', W', C) with H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1, and the integer indices
      h W + w into one channel's plane, of the same shape.

    Raises:
      ValueError: if a window's size, stride or dilation is below 1, if the padding is negative or
        more than half a window, and if there is no window or one with nothing inside (torch:
        -inf).
    """
    tables = _windows(2, x, kernel_size, stride, padding, dilation, ceil_mode)
    return largest(x, tables, return_indices)


def max_pool3d(
    x: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """As `max_pool2d`, over three axes: (..., D, H, W, C), with indices (d H + h) W + w."""
    tables = _windows(3, x, kernel_size, stride, padding, dilation, ceil_mode)
    return largest(x, tables, return_indices)


def avg_pool1d(
    x: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> jax.Array:
    """As `avg_pool2d`, over one axis: (..., L, C) -> (..., L', C)."""
    return _average(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    x: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """y[i, j] = sum of x[i s - p + a, j s - p + b] with 0 <= a, b < k, divided by their number.

    Args:
      x, kernel_size, stride, padding, ceil_mode: as in `max_pool2d`; padding holds zeros.
      count_include_pad: whether the zeros count. What a window of `ceil_mode` covers beyond them
        never does.
      divisor_override: divides in place of the number.

    Returns: (..., H', W', C).

    Raises:
      ValueError: as `max_pool2d`, and if the divisor is 0. torch: avg_pool3d also refuses an x
        below the window's size.
    """
    more = (count_include_pad, divisor_override)
    return _average(2, x, kernel_size, stride, padding, ceil_mode, *more)


def avg_pool3d(
    x: jax.Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """As `avg_pool2d`, over three axes: (..., D, H, W, C) -> (..., D', H', W', C)."""
    more = (count_include_pad, divisor_override)
    return _average(3, x, kernel_size, stride, padding, ceil_mode, *more)


def _windows(rank, x, kernel_size, stride, padding, dilation, ceil_mode):
    """Of each axis, the positions in each window, int (windows, elements)."""
    if x.ndim <= rank:
        raise ValueError(f"x of shape {x.shape} has no {rank} axes before the channels")
    kernels = each("kernel_size", kernel_size, rank, 1)
    strides = each("stride", kernel_size if stride is None else stride, rank, 1)
    paddings = each("padding", padding, rank, 0)
    dilations = each("dilation", dilation, rank, 1)
    tables = []
    sizes = x.shape[-rank - 1 : -1]
    for n, k, s, p, d in zip(sizes, kernels, strides, paddings, dilations, strict=True):
        span = d * (k - 1) + 1
        if 2 * p > span:
            raise ValueError(f"padding={p} is more than half a window of {span}")
        windows = (n + 2 * p - span + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (windows - 1) * s >= n + p:
            windows -= 1
        if windows < 1:
            raise ValueError(f"kernel_size={k}: no window of {span} fits into x of shape {x.shape}")
        table = s * np.arange(windows)[:, None] - p + d * np.arange(k)
        if not ((table >= 0) & (table < n)).any(1).all():
            raise ValueError(f"dilation={d}: a window has nothing inside x of shape {x.shape}")
        tables.append(table)
    return tables


def _average(rank, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    if divisor_override == 0:
        raise ValueError("divisor_override=0")
    tables = _windows(rank, x, kernel_size, stride, padding, 1, ceil_mode)
    if count_include_pad:  # real zeros, which windows then reach from 0 on
        pads = each("padding", padding, rank, 0)
        widths = [(0, 0)] * (x.ndim - rank - 1) + [(p, p) for p in pads] + [(0, 0)]
        x, tables = jnp.pad(x, widths), [t + p for t, p in zip(tables, pads, strict=True)]
    y, number = total(x, tables)
    return y / (divisor_override or number)
