"""One unit that learns from its score, not from its step: Adaline, and the logistic unit.

Reference: B. Widrow, M. Hoff, "Adaptive switching circuits", IRE WESCON Convention Record 4 (1960);
D. Cox, "The regression analysis of binary sequences", Journal of the Royal Statistical Society B 20
(1958).
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["delta_rule", "Adaline", "adaline_loss", "LogisticUnit", "logistic_loss"]


def delta_rule(
    weight: torch.Tensor,
    bias: torch.Tensor,
    x: torch.Tensor,
    labels: torch.Tensor,
    lr: float = 0.01,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass of Widrow and Hoff's rule: every example moves the score towards its label.

    It is stochastic gradient descent on `adaline_loss`, one example a step. Rosenblatt's rule moves
    the weights on a mistake only, and as far however large the mistake is.

    Args:
      weight: float (D,).
      bias: float ().
      x: float (N, D), the examples in the order of their visit.
      labels: (N,), -1 or +1, or any wanted score.
      lr: learning rate; the scores run away where it is above 2 / (|x|^2 + 1).

    Returns: the weight (D,) and the bias () after the pass.
    """
    # jax: lax.scan compiles the body of the loop once.
    for x_n, label in zip(x, labels.to(x.dtype), strict=True):
        # delta = label - (w.x + b):  w <- w + lr delta x,  b <- b + lr delta
        delta = label - (x_n @ weight + bias)
        weight, bias = weight + lr * delta * x_n, bias + lr * delta
    return weight, bias


class Adaline(nn.Module):
    """The adaptive linear neuron: a weighted sum that is trained as it is, and then a step.

    Args:
      in_features: D, inputs of the unit.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The score w.x + b before the step: float (N, D) -> float (N,)."""
        return self.linear(x).squeeze(-1)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """The unit's class: float (N, D) -> int (N,), -1 or +1."""
        return torch.where(self(x) > 0, 1, -1)


def adaline_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of (label - score)^2 / 2: a score beyond its label counts as an error, too.

    Args:
      scores: float (N,).
      labels: (N,), -1 or +1.

    Returns: the loss, float ().
    """
    # d/dscore = -(label - score) / N
    return (labels - scores).square().mean() / 2


class LogisticUnit(nn.Module):
    """A weighted sum and a sigmoid: the probability of the class +1, which has a gradient.

    Args:
      in_features: D, inputs of the unit.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """P(+1 | x) = 1 / (1 + exp(-(w.x + b))): float (N, D) -> float (N,)."""
        return torch.sigmoid(self.score(x))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """The log of the odds, w.x + b: float (N, D) -> float (N,)."""
        return self.linear(x).squeeze(-1)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """The likelier class: float (N, D) -> int (N,), -1 or +1."""
        return torch.where(self.score(x) > 0, 1, -1)


def logistic_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of -log P(label) = log(1 + exp(-label * score)): the cross-entropy of labels -1 and +1.

    It takes scores, whose logarithm of the sigmoid cannot overflow. The gradient has the form of
    the delta rule: d/dscore = -([label = 1] - P(+1)) / N.

    Args:
      scores: of `LogisticUnit.score`, float (N,).
      labels: (N,), -1 or +1.

    Returns: the loss, float ().
    """
    return -F.logsigmoid(labels * scores).mean()
