"""Pooling: torch's own, over (N, C, ...) or (C, ...). jax: channels last.

What flax.linen's `max_pool` and `avg_pool` do otherwise:

  stride             of None is the window's size. flax: 1.
  padding            an even number of cells on either side. flax: also "SAME", which is not.
  dilation           of max_pool. flax: none.
  ceil_mode          a last window that is not all inside. flax: none.
  divisor_override   of avg_pool2d and avg_pool3d. flax: none.
  return_indices     places in one channel's plane, which unpooling takes. flax: none.

The gradient of max_pool goes to the first of equal elements in the order of the rows, or to the
last NaN. A window of max_pool with nothing inside, which dilation makes possible, gives -inf.
jax: ValueError.
"""

from torch.nn.functional import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)

__all__ = ["max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"]
