"""Convolution as patches times a matrix, and where that is how it should be computed.

XLA lowers a convolution on the CPU in one way for all shapes. Where a map is no larger than the
window's reach, its gradients fall into plain loops (3x3 on 16 maps of 2x2x512, forward and
backward: 200 ms; as patches 3), and a 1x1 window is a matrix product in any case. torch chooses
among its kernels by shape, unasked.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["conv_by_patches", "conv"]

# weights of a kernel from which on faster steps make up for views that take longer to compile
LARGE = 2**16


def conv_by_patches(
    x: jax.Array,
    kernel: jax.Array,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
) -> jax.Array:
    """y[n, i, :] = sum over k of x[n, i * stride + k * dilation - padding, :] @ kernel[k].

    The window's elements, as shifted views of x, stand side by side as a row of K * C numbers: one
    matrix product sums over all of them. The patches take K times the memory of x.

    Args:
      x: (N, H, W, C), or any other number of spatial axes. torch: (N, C, H, W), exactly two.
      kernel: (kh, kw, C, O). torch: (O, C, kh, kw).
      stride, padding, dilation: of every spatial axis, or one for each; zeros are padded.

    Returns: (N, H', W', O) with H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises:
      ValueError: if kernel has other channels than x, or does not fit into the padded x. torch:
        RuntimeError.
    """
    *window, channels, features = kernel.shape
    if kernel.ndim != x.ndim or x.shape[-1] != channels:
        raise ValueError(f"kernel of shape {kernel.shape} does not fit x of shape {x.shape}")
    stride, padding, dilation = (
        (given,) * len(window) if isinstance(given, int) else given
        for given in (stride, padding, dilation)
    )
    x = jnp.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)))
    reach = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
    steps = [(n - r - 1) // s for n, r, s in zip(x.shape[1:-1], reach, stride, strict=True)]
    if min(steps) < 0:
        raise ValueError(f"kernel of shape {kernel.shape} is larger than the padded x, {x.shape}")

    def view(*offset: int) -> jax.Array:
        start = [o * d for o, d in zip(offset, dilation, strict=True)]
        end = [a + n * s + 1 for a, n, s in zip(start, steps, stride, strict=True)]
        return lax.slice(x, (0, *start, 0), (x.shape[0], *end, channels), (1, *stride, 1))

    offsets = itertools.product(*map(range, window))
    patches = jnp.concatenate([view(*offset) for offset in offsets], axis=-1)
    rows = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, features)
    return rows.reshape(*patches.shape[:-1], features)


def conv(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`lax.conv_general_dilated`, but on the CPU by patches where that is faster.

    That is where the kernel has 2^16 weights, and its window is 1x1 or the output has at most 4x4
    places; with channels last, one group and no dilated input. torch: `F.conv2d` makes such a
    choice itself.

    Example::

      nn.Conv(64, (1, 1), use_bias=False, conv_general_dilated=conv)

    Args: as `lax.conv_general_dilated`.
    """

    def direct(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )

    rank = lhs.ndim - 2
    specs = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    last, kernel_last = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
    plain = specs == (last, kernel_last, last) and feature_group_count == 1 and precision is None
    if not plain or rhs.size < LARGE or max(lhs_dilation or (1,)) > 1:
        return direct(lhs, rhs)

    window, sizes, strides = rhs.shape[:-2], lhs.shape[1:-1], tuple(window_strides)
    dilation = tuple(rhs_dilation or (1,) * rank)
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    pads = (
        lax.padtype_to_pads(sizes, reach, strides, padding) if isinstance(padding, str) else padding
    )
    padded = [n + low + high for n, (low, high) in zip(sizes, pads, strict=True)]
    places = [(n - r) // s + 1 for n, r, s in zip(padded, reach, strides, strict=True)]
    if min(places) < 1 or (max(window) > 1 and max(places) > 4):
        return direct(lhs, rhs)

    def by_patches(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        around = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
        padded = lax.pad(lhs, jnp.zeros((), lhs.dtype), around)
        return conv_by_patches(padded, rhs, strides, 0, dilation)

    return lax.platform_dependent(lhs, rhs, cpu=by_patches, default=direct)
