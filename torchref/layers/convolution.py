"""Convolutions: torch.nn's own, channels first.

`weight` is (O, C / groups, *window). jax: `kernel`, (*window, C / groups, O), and channels last.
An input without a batch axis is one example. jax: the batch axis is required.
"""

from torch.nn import Conv1d, Conv2d, Conv3d

__all__ = ["Conv1d", "Conv2d", "Conv3d"]
