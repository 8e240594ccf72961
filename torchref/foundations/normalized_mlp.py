"""A multilayer perceptron with a normalisation before every relu.

Reference: S. Ioffe, C. Szegedy, "Batch normalization", 2015, https://arxiv.org/abs/1502.03167;
J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, https://arxiv.org/abs/1607.06450.
"""

import torch
from torch import nn

__all__ = ["NormalizedMLP"]

NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class NormalizedMLP(nn.Module):
    """Fully connected network: h_k = relu(norm(W_k h_(k-1) + b_k)), and a last linear layer.

    Batch norm takes each unit's mean and variance over the examples of the batch (and in evaluation
    those that it kept), layer norm each example's over the units. Before batch norm there is no
    b_k: the mean that is taken away would take it along.

    Args:
      in_features: D, inputs.
      hidden: width of each hidden layer, first to last.
      out_features: K, outputs.
      norm: "batch" or "layer".

    Raises:
      KeyError: for another norm. ValueError: on a batch of one in training, with batch norm.
    """

    def __init__(
        self, in_features: int, hidden: tuple[int, ...], out_features: int, norm: str = "batch"
    ) -> None:
        super().__init__()
        layers = []
        for width in hidden:
            linear = nn.Linear(in_features, width, bias=norm != "batch")
            layers += [linear, NORMS[norm](width), nn.ReLU()]
            in_features = width
        layers += [nn.Linear(in_features, out_features)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> float (N, K), without a final activation."""
        return self.layers(x)
