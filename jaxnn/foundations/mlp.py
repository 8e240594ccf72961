"""The multilayer perceptron: linear layers with a relu between them.

Reference: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating
errors", Nature 323 (1986); relu in place of their sigmoid.
"""

import chex
import flax.linen as nn
import jax

from jaxnn.layers.container import Sequential

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected network: h_0 = x, h_k = relu(W_k h_(k-1) + b_k), and a last linear layer.

    Args:
      in_features: D, inputs.
      hidden: width of each hidden layer, first to last; () leaves a linear model.
      out_features: K, outputs.
    """

    in_features: int
    hidden: tuple[int, ...]
    out_features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, D) -> float (N, K), without a final activation."""
        chex.assert_shape(x, (None, self.in_features))
        layers = []
        for width in self.hidden:
            # torch: Linear needs both sizes; a Dense finds its input size at init.
            layers += [nn.Dense(width), nn.relu]
        layers += [nn.Dense(self.out_features)]
        return Sequential(tuple(layers), name="layers")(x, train=train)
