"""A multilayer perceptron with a normalisation before every relu.

Reference: S. Ioffe, C. Szegedy, "Batch normalization", 2015, https://arxiv.org/abs/1502.03167;
J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, https://arxiv.org/abs/1607.06450.
"""

import chex
import flax.linen as nn
import jax

from jaxnn.layers.container import Sequential
from jaxnn.layers.layer_norm import LayerNorm
from jaxnn.layers.norm import BatchNorm

__all__ = ["NormalizedMLP"]

NORMS = {"batch": BatchNorm, "layer": LayerNorm}


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

    in_features: int
    hidden: tuple[int, ...]
    out_features: int
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, D) -> float (N, K), without a final activation."""
        chex.assert_shape(x, (None, self.in_features))
        layers = []
        for width in self.hidden:
            linear = nn.Dense(width, use_bias=self.norm != "batch")
            layers += [linear, NORMS[self.norm](width), nn.relu]
        layers += [nn.Dense(self.out_features)]
        return Sequential(tuple(layers), name="layers")(x, train=train)
