"""Divergences between distributions, and the likelihoods of Poisson and Gauss: torch's own but one.

Options by keyword, for between them stand the deprecated `size_average` and `reduce`.

  kl_div        takes log-probabilities first; "mean" divides by every element, and torch warns that
                the divergence is "batchmean". jax: optax's sums over the last axis.
  poisson_nll   takes log rates unless `log_input=False`. jax: optax has none.
  gaussian_nll  bounds the variance by 1e-6 without a word to the gradient, and raises where one is
                negative. jax: a negative one counts as eps.
"""

import torch
from torch import xlogy
from torch.nn.functional import gaussian_nll_loss as gaussian_nll
from torch.nn.functional import kl_div
from torch.nn.functional import poisson_nll_loss as poisson_nll

from torchref.training.losses import reduce

__all__ = ["kl_div", "js_div", "poisson_nll", "gaussian_nll"]


def js_div(outputs: torch.Tensor, targets: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Jensen and Shannon's divergence: half of KL(p, m) and half of KL(q, m), m = (p + q) / 2.

    Symmetric, and at most log 2 for a distribution. Neither framework has it.

    Args:
      outputs, targets: probabilities p and q of one shape, the batch first.
      reduction: as in `kl_div`.

    Reference:
      J. Lin, Divergence Measures Based on the Shannon Entropy, 1991.
    """
    m = (outputs + targets) / 2
    values = (xlogy(outputs, outputs) + xlogy(targets, targets)) / 2 - xlogy(m, m)
    if reduction == "batchmean":
        return values.sum() / values.shape[0]
    return reduce(values, reduction)
