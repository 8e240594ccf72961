"""Dropout of elements and of channels, each with its mask given and drawn.

The functions take the mask: mathematics without chance. The modules are torch's own, which draw one
in training: `Dropout`; `Dropout1d`, `Dropout2d` and `Dropout3d`, of whole channels of (N, C, L),
(N, C, H, W) and (N, C, D, H, W), also without N; `AlphaDropout` and `FeatureAlphaDropout`. All of
them multiply, so that an infinite element that is dropped is NaN. jax: is dropped.
"""

import torch
from torch.nn import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)

__all__ = [
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "AlphaDropout",
    "FeatureAlphaDropout",
]

ALPHA = 1.7580993408473766  # selu's lower bound is -ALPHA


def dropout(x: torch.Tensor, mask: torch.Tensor, p: float = 0.5) -> torch.Tensor:
    """Drops single elements and lengthens the others: y = x mask / (1 - p), so that E[y] = x.

    Args:
      x: any shape.
      mask: what is kept, of x's shape (or one that broadcasts): booleans, or 0 and 1.
      p: probability with which the mask was made to drop; nothing is left where it is 1.

    Raises:
      ValueError: if p is not between 0 and 1.

    Reference:
      Srivastava et al., Dropout, 2014, https://jmlr.org/papers/v15/srivastava14a.html
    """
    return x * mask * _scale(p)


def feature_dropout(x: torch.Tensor, mask: torch.Tensor, p: float = 0.5) -> torch.Tensor:
    """Drops whole channels, whose neighbouring positions tell too much of a single one.

    Args:
      x: (N, C, ...). jax: (N, ..., C).
      mask: (N, C), which channels are kept; else as in `dropout`.
      p: as in `dropout`.

    Reference:
      Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015,
      https://arxiv.org/abs/1411.4280
    """
    return dropout(x, _per_channel(mask, x), p)


def alpha_dropout(x: torch.Tensor, mask: torch.Tensor, p: float = 0.5) -> torch.Tensor:
    """Sets elements to selu's lower bound, and keeps a mean of 0 and a variance of 1.

    y = a (x mask + alpha (mask - 1)) + b, with a = ((1 - p) (1 + p alpha^2))^-1/2, b = a alpha p.

    Args:
      x: any shape, standardised, as selu's outputs are.
      mask, p: as in `dropout`; everything is 0 where p is 1.

    Reference:
      Klambauer et al., Self-Normalizing Neural Networks, 2017, https://arxiv.org/abs/1706.02515
    """
    a = _scale(p) ** 0.5 * (1 + p * ALPHA**2) ** -0.5
    mask = mask.to(x.dtype)
    return a * (x * mask + ALPHA * (mask - 1 + p))


def feature_alpha_dropout(x: torch.Tensor, mask: torch.Tensor, p: float = 0.5) -> torch.Tensor:
    """Does to whole channels what `alpha_dropout` does to elements.

    Args:
      x: (N, C, ...). jax: (N, ..., C).
      mask: (N, C), which channels are kept; else as in `dropout`.
      p: as in `alpha_dropout`.
    """
    return alpha_dropout(x, _per_channel(mask, x), p)


def _scale(p):
    """1 / (1 - p), and 0 where nothing is kept."""
    if not 0 <= p <= 1:
        raise ValueError(f"p={p} is not between 0 and 1")
    return 0.0 if p == 1 else 1 / (1 - p)


def _per_channel(mask, x):
    """(N, C) -> (N, C, 1, ...), for an x of (N, C, ...)."""
    return mask[(..., *[None] * (x.ndim - 2))]
