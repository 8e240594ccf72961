"""Dropout of weights, and of whole branches: DropConnect and stochastic depth.

torch has neither; torchvision's `stochastic_depth` in its mode "row" is `DropPath`.
"""

import torch
from torch import nn

from torchref.layers.dropout import dropout

__all__ = ["drop_connect", "drop_path", "DropConnect", "DropPath"]


def drop_connect(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mask: torch.Tensor,
    p: float = 0.5,
) -> torch.Tensor:
    """A linear layer some of whose weights are dropped: y = x (mask W / (1 - p))' + b.

    Dropout of x drops whole columns of W. The paper draws a mask for every example, leaves the
    weights as they are in training, and in evaluation draws from a normal distribution that has
    the moments of W x; here the weights are lengthened, as in `dropout`, and evaluation takes W.

    Args:
      x: (N, D).
      weight: (K, D).
      bias: (K,).
      mask: which weights are kept, (K, D) for all examples, or (N, K, D) for each its own.
      p: probability with which the mask was made to drop.

    Returns: (N, K).
    Raises:
      ValueError: if p is not between 0 and 1.

    Reference:
      Wan et al., Regularization of Neural Networks using DropConnect, 2013,
      https://proceedings.mlr.press/v28/wan13.html
    """
    return torch.einsum("...d,...kd->...k", x, dropout(weight, mask, p)) + bias


def drop_path(x: torch.Tensor, mask: torch.Tensor, p: float = 0.5) -> torch.Tensor:
    """Drops a branch as a whole, for some examples: shortcut + drop_path(branch, ...).

    The network is then of a depth that varies from example to example. The paper leaves the branch
    as it is in training, and multiplies by 1 - p in evaluation.

    Args:
      x: what the branch gives, (N, ...).
      mask: (N,), which examples keep it; else as in `dropout`.
      p: as in `drop_connect`; deeper branches are dropped more often.

    Reference:
      Huang et al., Deep Networks with Stochastic Depth, 2016, https://arxiv.org/abs/1603.09382
    """
    return dropout(x, mask.reshape(-1, *[1] * (x.ndim - 1)), p)


class DropConnect(nn.Linear):
    """A linear layer whose weights are dropped in training, with one mask for every call.

    State: `weight` (K, D), `bias` (K,).

    Args:
      in_features: D.
      out_features: K.
      p: probability of dropping a weight.

    Raises:
      ValueError: if p is not between 0 and 1.
    """

    def __init__(self, in_features: int, out_features: int, p: float = 0.5) -> None:
        super().__init__(in_features, out_features)
        self.drop = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (N, K)."""
        return nn.functional.linear(x, self.drop(self.weight), self.bias)


class DropPath(nn.Module):
    """`drop_path` with one number for every example and call in training; nothing in evaluation.

    Args:
      p: probability of dropping an example's branch.

    Raises:
      ValueError: if p is not between 0 and 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.drop = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, ...) -> the same shape."""
        return x * self.drop(x.new_ones(len(x), *[1] * (x.ndim - 1)))
