"""The multilayer perceptron: linear layers with a relu between them.

Reference: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating
errors", Nature 323 (1986); relu in place of their sigmoid.
"""

import torch
from torch import nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected network: h_0 = x, h_k = relu(W_k h_(k-1) + b_k), and a last linear layer.

    Args:
      in_features: D, inputs.
      hidden: width of each hidden layer, first to last; () leaves a linear model.
      out_features: K, outputs.
    """

    def __init__(self, in_features: int, hidden: tuple[int, ...], out_features: int) -> None:
        super().__init__()
        layers = []
        for width in hidden:
            # jax: a Dense finds its input size at init; Linear needs both sizes.
            layers += [nn.Linear(in_features, width), nn.ReLU()]
            in_features = width
        layers += [nn.Linear(in_features, out_features)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> float (N, K), without a final activation."""
        return self.layers(x)
