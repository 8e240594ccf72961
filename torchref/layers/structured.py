"""Initial weights with a structure: the identity, orthogonal matrices and sparse ones.

What is random is a function of standard draws, for `initialiser`. `eye` and what fills `dirac` are
torch's.
"""

import math

import torch
from torch import eye
from torch.nn.init import dirac_

__all__ = ["eye", "orthogonal", "sparse", "dirac"]


def orthogonal(draw: torch.Tensor, gain: float = 1) -> torch.Tensor:
    """A (semi-)orthogonal matrix, rows the outputs and columns the rest, of normal draws.

    The Q of a QR decomposition, whose signs are those that make it uniform.

    Reference: Saxe et al., Exact solutions to the nonlinear dynamics of learning, 2013.
    """
    if draw.ndim < 2:
        raise ValueError(f"draw of shape {tuple(draw.shape)} has fewer than two axes")
    matrix = draw.flatten(1)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = torch.linalg.qr(matrix.T if wide else matrix)
    q = q * r.diagonal().sign()
    return gain * (q.T if wide else q).reshape(draw.shape)


def sparse(
    draw: torch.Tensor, order: torch.Tensor, sparsity: float, std: float = 0.01
) -> torch.Tensor:
    """Normal, with a fraction of zeros among the weights of each input.

    Args:
      draw: standard normal (out, in).
      order: uniform, the same shape; of every input the outputs with the smallest are zeroed.
      sparsity: that fraction, rounded up to whole weights.
      std: standard deviation of the others.

    Reference: J. Martens, Deep learning via Hessian-free optimization, 2010.
    """
    if draw.ndim != 2:
        raise ValueError(f"draw of shape {tuple(draw.shape)} has not two axes")
    zeroed = order.argsort(0).argsort(0) < math.ceil(sparsity * draw.shape[0])
    return torch.where(zeroed, 0, std * draw)


def dirac(shape: tuple[int, ...], groups: int = 1) -> torch.Tensor:
    """A convolution that passes its channels on: 1 in the middle of channel d -> d, 0 elsewhere.

    Args:
      shape: (out, in, ...), three to five axes.
      groups: each passes on channels of its own.

    Raises:
      ValueError: if shape has other axes, or its outputs do not divide into groups.
    """
    return dirac_(torch.empty(shape), groups)
