"""The plain losses of regression and of classification: torch's own.

Every one takes `reduction`, which is "mean" (the default), "sum" or "none"; options by keyword, for
between them stand the deprecated `size_average` and `reduce`. Of an empty batch the mean is NaN.

  mse            broadcasts (N,) against (N, 1) with a warning. jax: raises.
  nll            takes classes on axis 1, skips the label -100 and raises on any other outside.
  cross_entropy  the same; float targets are probabilities of the classes. jax: classes last.
  binary_cross_entropy  bounds its logarithms by -100 and raises outside [0, 1]. jax: NaN.
"""

import torch
from torch.nn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
)
from torch.nn.functional import mse_loss as mse
from torch.nn.functional import nll_loss as nll

__all__ = [
    "reduce",
    "mse",
    "nll",
    "cross_entropy",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
]


def reduce(values: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Mean or sum over all values, or the values themselves.

    Raises:
      ValueError: if reduction is not "mean", "sum" or "none".
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction={reduction!r} is not 'mean', 'sum' or 'none'")
    return values if reduction == "none" else getattr(torch, reduction)(values)
