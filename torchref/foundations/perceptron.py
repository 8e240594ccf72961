"""Rosenblatt's perceptron: a weighted sum, a bias and a step.

Reference: F. Rosenblatt, "The perceptron: a probabilistic model for information storage and
organization in the brain", Psychological Review 65 (1958).
"""

import torch
from torch import nn

__all__ = ["rosenblatt", "Perceptron", "perceptron_loss"]


def rosenblatt(
    weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, labels: torch.Tensor, lr: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass of Rosenblatt's rule: each example that is misclassified moves the weights.

    If classes are linearly separable, passes end in a separation after finitely many moves
    (Novikoff 1962). The parameters are plain tensors: given, and returned anew.

    Args:
      weight: float (D,).
      bias: float ().
      x: float (N, D), the examples in the order of their visit.
      labels: (N,), -1 or +1.
      lr: learning rate.

    Returns: the weight (D,) and the bias () after the pass.
    """
    # jax: lax.scan compiles the body of the loop once.
    for x_n, label in zip(x, labels.to(x.dtype), strict=True):
        # label * (w.x + b) <= 0:  w <- w + lr label x,  b <- b + lr label
        # jax: a traced condition cannot steer Python; jnp.where selects instead.
        if label * (x_n @ weight + bias) <= 0:
            weight = weight + lr * label * x_n
            bias = bias + lr * label
    return weight, bias


class Perceptron(nn.Module):
    """A single unit with a step: +1 where w.x + b > 0, otherwise -1.

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
        """The unit's class: float (N, D) -> int (N,), -1 or +1. The step has no useful gradient."""
        return torch.where(self(x) > 0, 1, -1)


def perceptron_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of max(0, -label * score), the criterion whose gradient step is Rosenblatt's rule.

    For one example (x, y) with score s = w.x + b:

      y s > 0, right:    the loss is 0,     d/dw = 0
      y s < 0, mistaken: the loss is -y s,  d/dw = -y x,  d/db = -y

    so that w - lr d/dw = w + lr y x: Rosenblatt's rule. At the kink s = 0 any slope between the two
    is a subgradient. Rosenblatt counts it as a mistake; relu has derivative 0 there (as has
    jax's), so a perceptron trained on this loss must not start from zero weights.

    Args:
      scores: float (N,).
      labels: (N,), -1 or +1.

    Returns: the loss, float ().
    """
    return torch.relu(-labels * scores).mean()
