"""Adaptive pooling: as many windows as are asked for, of sizes that differ by one at most.

Flax has none. What pooling of any kind has in common is here, too: a window is a row of positions,
fixed while tracing, and rectangular windows are reduced along one axis after the other.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
]

Sizes = int | Sequence[int]  # one number for all axes, or one for each
Wanted = int | Sequence[int | None]  # the same, or None to leave an axis as it is


def adaptive_avg_pool1d(x: jax.Array, output_size: Wanted) -> jax.Array:
    """As `adaptive_avg_pool2d`, over one axis: (..., L, C) -> (..., L', C)."""
    return _average(1, x, output_size)


def adaptive_avg_pool2d(x: jax.Array, output_size: Wanted) -> jax.Array:
    """y[i, j] = mean of x over rows floor(i H / H') to ceil((i + 1) H / H') - 1, columns likewise.

    Windows overlap where H' does not divide H; at an output size of 1 there is one, the global
    mean.

    Args:
      x: float (..., H, W, C). torch: (N, C, H, W) or (C, H, W).
      output_size: H' and W', one number for both; None leaves an axis as it is.

    Returns: (..., H', W', C).

    Raises:
      ValueError: if a size is below 1. torch: 0 gives an empty result.
    """
    return _average(2, x, output_size)


def adaptive_avg_pool3d(x: jax.Array, output_size: Wanted) -> jax.Array:
    """As `adaptive_avg_pool2d`, over three axes: (..., D, H, W, C) -> (..., D', H', W', C)."""
    return _average(3, x, output_size)


def adaptive_max_pool1d(
    x: jax.Array, output_size: Wanted, return_indices: bool = False
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """As `adaptive_max_pool2d`, over one axis: (..., L, C) -> (..., L', C)."""
    return largest(x, _windows(1, x, output_size), return_indices)


def adaptive_max_pool2d(
    x: jax.Array, output_size: Wanted, return_indices: bool = False
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """The largest of each window of `adaptive_avg_pool2d`; ties and indices as in `max_pool2d`.

    Args:
      x, output_size: as in `adaptive_avg_pool2d`.
      return_indices: whether the places come, too.

    Returns: (..., H', W', C), and the integer indices h W + w of the same shape.

    Raises:
      ValueError: as `adaptive_avg_pool2d`.
    """
    return largest(x, _windows(2, x, output_size), return_indices)


def adaptive_max_pool3d(
    x: jax.Array, output_size: Wanted, return_indices: bool = False
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """As `adaptive_max_pool2d`, over three axes, with indices (d H + h) W + w."""
    return largest(x, _windows(3, x, output_size), return_indices)


def largest(x, tables, return_indices):
    """The largest element of each window, found along one axis after the other.

    Args:
      x: (..., *sizes, C).
      tables: of each axis, the positions in each window, int (windows, elements); what lies
        outside is no part of the window.
      return_indices: as in `max_pool2d`.
    """
    rank = len(tables)
    sizes = x.shape[-rank - 1 : -1]
    n = math.prod(sizes)
    best = jax.lax.stop_gradient(x)
    places = jnp.broadcast_to(jnp.arange(n).reshape(*sizes, 1), x.shape)
    nothing = jnp.array(-jnp.inf, x.dtype), jnp.array(n, places.dtype)
    for axis, table in enumerate(tables, x.ndim - 1 - rank):
        taps = _taps(best, table, axis, -jnp.inf), _taps(places, table, axis, n)
        best, places = jax.lax.reduce(taps, nothing, _larger, [axis + 1])
    # Fetched by their places, the elements hand the gradient back to these alone.
    flat = x.reshape(*x.shape[: -rank - 1], n, x.shape[-1])
    index = places.reshape(*flat.shape[:-2], -1, x.shape[-1])
    found = jnp.take_along_axis(flat, index, axis=-2, mode="clip").reshape(places.shape)
    return (found, places) if return_indices else found


def _larger(one, other):
    """Of two elements and their places, those torch keeps: the larger, first of equal, last NaN."""
    (x, i), (y, j) = one, other
    take = jnp.where(i < j, (y > x) | jnp.isnan(y), ~((x > y) | jnp.isnan(x)))
    return jnp.where(take, y, x), jnp.where(take, j, i)


def _taps(x, table, axis, fill):
    """The windows of one axis, (..., windows, elements, ...), with `fill` for what lies outside."""
    n = x.shape[axis]
    table = np.where((table >= 0) & (table < n), table, n)
    return jnp.take(x, table, axis, mode="fill", fill_value=fill)


def total(x, tables):
    """The sum over each window, with arguments as of `largest`, and how many are summed."""
    numbers = []
    for axis, table in enumerate(tables, x.ndim - 1 - len(tables)):
        numbers.append(((table >= 0) & (table < x.shape[axis])).sum(1))
        x = _taps(x, table, axis, 0).sum(axis + 1)
    return x, functools.reduce(np.multiply.outer, numbers)[..., None]


def each(name: str, value: Sizes, rank: int, least: int) -> tuple[int, ...]:
    """An argument as one number for each axis."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or min(values) < least:
        raise ValueError(f"{name}={value}: one number or {rank}, each {least} or more")
    return values


def _windows(rank, x, output_size):
    """Of each axis, the positions in each window, int (windows, elements); short rows run out."""
    if x.ndim <= rank:
        raise ValueError(f"x of shape {x.shape} has no {rank} axes before the channels")
    sizes = x.shape[-rank - 1 : -1]
    if not isinstance(output_size, int) and len(output_size) == rank:
        output_size = [n if o is None else o for n, o in zip(sizes, output_size, strict=True)]
    tables = []
    for n, o in zip(sizes, each("output_size", output_size, rank, 1), strict=True):
        i = np.arange(o)[:, None]
        start, end = i * n // o, -(-(i + 1) * n // o)
        table = start + np.arange((end - start).max())
        tables.append(np.where(table < end, table, n))
    return tables


def _average(rank, x, output_size):
    y, number = total(x, _windows(rank, x, output_size))
    return y / number
