"""Resampling of images: another number of pixels, by values between them or by channels.

A resized image is a product with one matrix for each axis, Y = A X B^T: row i of A holds what the
new pixel i takes of each old one. The matrices hold no data, so NumPy builds them while tracing. A
product spreads inf and NaN along its row and column. torch: no farther than the pixels in reach.

`jax.image.resize` knows one rule for all of torch's options: half-pixel positions, antialias=True,
the cubic of a = -0.5 renormalised at the edge.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.layers.adaptive import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

__all__ = ["pixel_shuffle", "pixel_unshuffle", "interpolate"]

MODES = {
    1: ("nearest", "nearest-exact", "area", "linear"),
    2: ("nearest", "nearest-exact", "area", "bilinear", "bicubic"),
    3: ("nearest", "nearest-exact", "area", "trilinear"),
}


def pixel_shuffle(x: jax.Array, upscale_factor: int) -> jax.Array:
    """y[h r + i, w r + j, c] = x[h, w, (c r + i) r + j]: channels become pixels.

    The usual `depth_to_space` of channels-last frameworks takes the channels as (i, j, c).

    Args:
      x: (..., H, W, C r^2). torch: (..., C r^2, H, W).
      upscale_factor: r.

    Returns: (..., H r, W r, C).

    Raises:
      ValueError: if r is below 1, or if r^2 does not divide the channels.

    Reference:
      Shi et al., Real-Time Single Image and Video Super-Resolution, 2016,
      https://arxiv.org/abs/1609.05158
    """
    *lead, h, w, channels = x.shape
    r = upscale_factor
    if r < 1 or channels % r**2:
        raise ValueError(f"upscale_factor={r} does not fit {channels} channels")
    x = x.reshape(*lead, h, w, channels // r**2, r, r)
    x = jnp.moveaxis(x, (-2, -1), (-4, -2))  # (h, w, c, i, j) -> (h, i, w, j, c)
    return x.reshape(*lead, h * r, w * r, channels // r**2)


def pixel_unshuffle(x: jax.Array, downscale_factor: int) -> jax.Array:
    """The inverse of `pixel_shuffle`: pixels become channels.

    Args:
      x: (..., H r, W r, C). torch: (..., C, H r, W r).
      downscale_factor: r.

    Returns: (..., H, W, C r^2).

    Raises:
      ValueError: if r is below 1, or does not divide height and width.
    """
    *lead, h, w, channels = x.shape
    r = downscale_factor
    if r < 1 or h % r or w % r:
        raise ValueError(f"downscale_factor={r} does not divide {h} by {w} pixels")
    x = x.reshape(*lead, h // r, r, w // r, r, channels)
    x = jnp.moveaxis(x, (-4, -2), (-2, -1))  # (h, i, w, j, c) -> (h, w, c, i, j)
    return x.reshape(*lead, h // r, w // r, channels * r**2)


def interpolate(
    x: jax.Array,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> jax.Array:
    """Resizes to `size`, or to floor(scale_factor n) pixels of n.

    New pixel i of m lies at u = (i + 1/2) s - 1/2 on the old grid, s = n / m, or 1 / scale_factor
    where that is given, even where floor then makes another ratio of the sizes. (Not, as in
    torch, if that ratio is 1 under antialias=True, or 1 or 2 in mode="nearest" on images.)

      nearest          pixel floor(i s), which is off by half a pixel
      nearest-exact    pixel floor((i + 1/2) s)
      linear, bilinear, trilinear   1 - |t| of the pixels at distance t < 1
      bicubic          Keys's cubic at distance t < 2, a = -3/4; pixels repeat beyond the edge
      area             `adaptive_avg_pool`, whatever the factor

    Args:
      x: (N, L, C), (N, H, W, C) or (N, D, H, W, C). torch: channels on axis 1.
      size: one number, or one for each axis.
      scale_factor: the same, in place of a size.
      mode: as above; the name of a linear one goes by the rank.
      align_corners: of the linear and cubic modes, True for u = i (n - 1) / (m - 1), by which the
        outer pixels stay in place.
      recompute_scale_factor: whether s is n / m although a factor is given.
      antialias: of bilinear and bicubic, stretches the kernel by s where s > 1, takes a = -1/2, and
        divides by the sum of the weights inside.

    Raises:
      ValueError: if the mode does not fit x or the options, if not one of size and scale_factor is
        given, or if no pixel is left. torch: NotImplementedError for the mode.

    Reference:
      Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981.
    """
    rank = x.ndim - 2
    if mode not in MODES.get(rank, ()):
        raise ValueError(f"mode={mode!r} does not fit x of shape {x.shape}")
    if align_corners is not None and not mode.endswith(("linear", "cubic")):
        raise ValueError(f"align_corners={align_corners} has no meaning in mode={mode!r}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"antialias=True has no meaning in mode={mode!r}")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"one of size={size} and scale_factor={scale_factor} is to be given")
    if recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor=True needs a scale_factor")
    old = x.shape[1:-1]
    wanted = np.asarray(scale_factor if size is None else size)
    if wanted.shape not in ((), (rank,)):
        raise ValueError(f"size={size}, scale_factor={scale_factor}: one number or {rank}")
    given = np.broadcast_to(wanted, rank).tolist()
    factors = zip(old, given, strict=True)
    new = given if scale_factor is None else [math.floor(n * f) for n, f in factors]
    if min(new) < 1:
        raise ValueError(f"size={size}, scale_factor={scale_factor}: no pixel of {old} is left")

    if mode == "area":
        pool = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[rank - 1]
        return pool(x, new)
    for axis, (n, m, f) in enumerate(zip(old, new, given, strict=True), 1):
        s = n / m if scale_factor is None or recompute_scale_factor else 1 / f
        if (m == n and antialias) or (m in (n, 2 * n) and mode == "nearest" and rank == 2):
            s = n / m
        if mode.startswith("nearest"):
            # The pixel hangs on rounding: torch multiplies in float32, in float64 only where x is
            # float64 and no image.
            real = np.float64 if x.dtype == np.float64 and rank != 2 else np.float32
            at = (np.arange(m, dtype=real) + real(0.5 * (mode == "nearest-exact"))) * real(s)
            x = jnp.take(x, np.minimum(np.float32(at).astype(int), n - 1), axis)
            continue
        if align_corners:
            s = (n - 1) / (m - 1) if m > 1 else 0
        at = np.arange(m) * s if align_corners and not antialias else (np.arange(m) + 0.5) * s - 0.5
        weights = _antialiased(at, n, s, mode) if antialias else _weights(at, n, mode)
        weights = jnp.asarray(weights, x.dtype)
        x = jnp.tensordot(weights, x, (1, axis), precision=jax.lax.Precision.HIGHEST)
        x = jnp.moveaxis(x, 0, axis)
    return x


def _weights(at, n, mode):
    """The matrix (m, n) of one axis: of each position, the weights of the pixels around it."""
    weights = np.zeros((len(at), n))
    for tap in range(-1, 3):
        pixel = np.floor(at) + tap
        inside = np.clip(pixel, 0, n - 1).astype(int)  # beyond the edge, its pixel again
        np.add.at(weights, (np.arange(len(at)), inside), _kernel(at - pixel, mode, -0.75))
    return weights


def _antialiased(at, n, s, mode):
    """The same with the kernel as wide as a new pixel, and cut off at the edge."""
    weights = _kernel((np.arange(n) - at[:, None]) / max(s, 1), mode, -0.5)
    return weights / weights.sum(1, keepdims=True)


def _kernel(t, mode, a):
    """A pixel's weight at distance t."""
    t = abs(t)
    if not mode.endswith("cubic"):
        return np.maximum(1 - t, 0)
    near = ((a + 2) * t - (a + 3)) * t**2 + 1
    far = a * (((t - 5) * t + 8) * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0))
