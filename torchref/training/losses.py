"""Losses: torch's own, which average over all elements or labels by default.

`mse` broadcasts (N,) against (N, 1) with a warning, where optax raises. `cross_entropy` expects the
classes on axis 1, skips the label -100 and raises on any other outside the range.
"""

from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.nn.functional import mse_loss as mse

__all__ = ["mse", "cross_entropy", "binary_cross_entropy_with_logits"]
