"""A multilayer perceptron with shortcuts: every block adds to what passes by.

Reference: K. He, X. Zhang, S. Ren, J. Sun, "Identity mappings in deep residual networks",
ECCV 2016, https://arxiv.org/abs/1603.05027; with linear layers, and without normalisation.
"""

import chex
import flax.linen as nn
import jax

from jaxnn.layers.container import Sequential

__all__ = ["ResidualBlock", "ResidualMLP"]


class ResidualBlock(nn.Module):
    """x + W2 relu(W1 x + b1) + b2: near the identity where the weights are small.

    dL/dx = dL/dy (1 + ...): a part of the gradient passes every block unchanged.

    Args:
      features: D, inputs and outputs.
      hidden: units of the relu.
    """

    features: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float (N, D) -> float (N, D)."""
        h = nn.relu(nn.Dense(self.hidden, name="fc1")(x))
        return x + nn.Dense(self.features, name="fc2")(h)


class ResidualMLP(nn.Module):
    """A linear stem, residual blocks of one width, and a linear head.

    Args:
      in_features: D, inputs.
      width: of the blocks, outside and inside.
      out_features: K, outputs.
      blocks: their number; 0 leaves a linear model.
    """

    in_features: int
    width: int
    out_features: int
    blocks: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, D) -> float (N, K), without a final activation."""
        chex.assert_shape(x, (None, self.in_features))
        blocks = tuple(ResidualBlock(self.width, self.width) for _ in range(self.blocks))
        x = nn.Dense(self.width, name="stem")(x)
        x = Sequential(blocks, name="layers")(x, train=train)
        return nn.Dense(self.out_features, name="head")(x)
