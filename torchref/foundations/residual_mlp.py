"""A multilayer perceptron with shortcuts: every block adds to what passes by.

Reference: K. He, X. Zhang, S. Ren, J. Sun, "Identity mappings in deep residual networks",
ECCV 2016, https://arxiv.org/abs/1603.05027; with linear layers, and without normalisation.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ResidualBlock", "ResidualMLP"]


class ResidualBlock(nn.Module):
    """x + W2 relu(W1 x + b1) + b2: near the identity where the weights are small.

    dL/dx = dL/dy (1 + ...): a part of the gradient passes every block unchanged.

    Args:
      features: D, inputs and outputs.
      hidden: units of the relu.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.fc2 = nn.Linear(hidden, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> float (N, D)."""
        return x + self.fc2(F.relu(self.fc1(x)))


class ResidualMLP(nn.Module):
    """A linear stem, residual blocks of one width, and a linear head.

    Args:
      in_features: D, inputs.
      width: of the blocks, outside and inside.
      out_features: K, outputs.
      blocks: their number; 0 leaves a linear model.
    """

    def __init__(self, in_features: int, width: int, out_features: int, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Linear(in_features, width)
        self.layers = nn.Sequential(*(ResidualBlock(width, width) for _ in range(blocks)))
        self.head = nn.Linear(width, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> float (N, K), without a final activation."""
        return self.head(self.layers(self.stem(x)))
