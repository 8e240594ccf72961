"""Resampling: torch's own, over (N, C, ...). jax: channels last.

  pixel_shuffle   takes channels as (c, i, j). `depth_to_space` elsewhere: (i, j, c).
  nearest         pixel floor(i s). jax.image: floor((i + 1/2) s), which is nearest-exact here.
  bilinear        no antialiasing unless asked for. jax.image: always, unless told otherwise.
  bicubic         a = -3/4 with repeated edge pixels; a = -1/2 renormalised with antialias=True,
                  which is all that jax.image does.
  align_corners   the corner pixels' centres stay. jax.image: none.
  scale_factor    is used as it is. jax.image: the ratio of the sizes, recompute_scale_factor=True.
  area            adaptive_avg_pool. jax.image: none.

`interpolate` also has mode="lanczos". jax: ValueError.

Some results of torch 2.13 on the CPU are its own. With antialias=True and a new width of 1, all
rows are the first one, unless x is stored with channels last. Where a scale_factor leaves a size as
it is, antialias=True copies the axis, but its gradient is not that of a copy; mode="nearest" copies
no axis of sequences and volumes, but its gradient is that of a copy (likewise where a factor that
is not 2 doubles a size). jax: the gradient of what was computed. At a few sizes, such as 2 to 41,
mode="nearest-exact" takes another pixel of float32 sequences than of images.
"""

from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

__all__ = ["pixel_shuffle", "pixel_unshuffle", "interpolate"]
