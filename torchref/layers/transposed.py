"""Transposed convolutions: torch.nn's own, channels first.

`weight` is (C, O / groups, *window), that of the convolution from O to C channels that is
transposed. jax: `kernel`, (*window, O / groups, C), and channels last.
An input without a batch axis is one example. jax: the batch axis is required.
"""

from torch.nn import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
