"""Adaptive pooling: torch's own, over (N, C, ...) or (C, ...). jax: channels last.

Window i of H' over H elements runs from floor(i H / H') to ceil((i + 1) H / H') - 1; an output size
of 1 is global pooling. A size of 0 gives an empty result. jax: ValueError. Flax has none of these.
"""

from torch.nn.functional import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
]
