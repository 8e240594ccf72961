"""Losses with a margin, of scores, pairs and triplets: torch's own, and the plain hinge.

Options by keyword, for between them stand the deprecated `size_average` and `reduce`. At the bend
itself the gradient is 0 (before torch 2.14 it was 1 in all but hinge and multi_margin, for a clamp
gave it 1). jax: `jnp.maximum` a half.

  multi_margin      the mean of an empty batch is memory that was never written. jax: NaN.
  triplet_margin    adds 1e-6 to every difference. jax: optax adds it inside of the root.
  cosine_embedding  adds 1e-12 to the squared norms. jax: optax bounds them by 0.
"""

import torch
from torch.nn.functional import cosine_embedding_loss as cosine_embedding
from torch.nn.functional import hinge_embedding_loss as hinge_embedding
from torch.nn.functional import margin_ranking_loss as margin_ranking
from torch.nn.functional import multi_margin_loss as multi_margin
from torch.nn.functional import triplet_margin_loss as triplet_margin

from torchref.training.losses import reduce

__all__ = [
    "hinge",
    "hinge_embedding",
    "multi_margin",
    "margin_ranking",
    "triplet_margin",
    "cosine_embedding",
]


def hinge(outputs: torch.Tensor, targets: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """max(0, 1 - t o): the loss of a linear support vector machine; the gradient at the bend is 0.

    Args:
      outputs: scores, any shape.
      targets: -1 or 1, the same shape, float.
      reduction: as in `reduce`.

    Reference:
      Cortes and Vapnik, Support-Vector Networks, 1995.
    """
    return reduce(torch.relu(1 - targets * outputs), reduction)
