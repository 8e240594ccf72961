"""Convolution as patches times a matrix; and torch's own, which chooses how to compute it.

`conv` takes (input, weight, bias, stride, padding, dilation, groups), channels first, and goes to
one of several kernels by shape, this one among them. jax: the arguments of
`lax.conv_general_dilated`, channels last, and the choice is written out.
"""

import torch
from torch.nn import functional as F
from torch.nn.functional import conv2d as conv

__all__ = ["conv_by_patches", "conv"]


def conv_by_patches(
    x: torch.Tensor,
    kernel: torch.Tensor,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
) -> torch.Tensor:
    """y[n, :, i] = sum over k of kernel[:, :, k] @ x[n, :, i * stride + k * dilation - padding].

    `F.unfold` lays the windows out as columns of C * K numbers: one matrix product sums over all of
    them. The patches take K times the memory of x.

    Args:
      x: (N, C, H, W). jax: (N, H, W, C), or any other number of spatial axes.
      kernel: (O, C, kh, kw). jax: (kh, kw, C, O).
      stride, padding, dilation: of every spatial axis, or one for each; zeros are padded.

    Returns: (N, O, H', W') with H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises:
      RuntimeError: if kernel has other channels than x, or does not fit into the padded x. jax:
        ValueError.
    """
    stride, padding, dilation = (
        (given, given) if isinstance(given, int) else given for given in (stride, padding, dilation)
    )
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            x.shape[2:], kernel.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    patches = F.unfold(x, kernel.shape[2:], dilation, padding, stride)  # (N, C kh kw, H' W')
    return (kernel.flatten(1) @ patches).unflatten(-1, sizes)
