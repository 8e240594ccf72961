"""Losses of regression that grow as the error does, and not as its square: torch's own.

They broadcast (N,) against (N, 1) with a warning. jax: raises. Options by keyword, for between them
stand the deprecated `size_average` and `reduce`.

  l1         has a gradient of 0 at 0. jax: that of `jnp.abs` is 1.
  huber      raises RuntimeError if delta <= 0. jax: ValueError.
  smooth_l1  the same if beta < 0; it is `huber` of delta = beta, divided by beta. jax: optax has it
             not.
"""

from torch.nn.functional import huber_loss as huber
from torch.nn.functional import l1_loss as l1
from torch.nn.functional import smooth_l1_loss as smooth_l1

__all__ = ["l1", "huber", "smooth_l1"]
