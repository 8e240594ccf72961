"""The linear layer with torch.nn's options.

Linen's `nn.Dense` takes the number of features from its input, starts the kernel as `lecun_normal`
and the bias at 0; the mathematics is the same.
"""

import chex
import flax.linen as nn
import jax

from jaxnn.layers.convolution import uniform

__all__ = ["Linear"]


class Linear(nn.Module):
    """y = x W + b, over the last axis; as `torch.nn.Linear`.

    Variables: params `kernel`, (in_features, out_features), and `bias`, (out_features,); both start
    uniform in +-1/sqrt(in_features). torch: `weight`, (out_features, in_features), y = x W^T + b.

    Args:
      in_features: size of the last axis of x.
      out_features: size of the last axis of y.
      bias: whether there is one.
    """

    in_features: int
    out_features: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps (..., in_features) to (..., out_features), float."""
        chex.assert_axis_dimension(x, -1, self.in_features)
        init = uniform(self.in_features)
        y = x @ self.param("kernel", init, (self.in_features, self.out_features))
        return y + self.param("bias", init, (self.out_features,)) if self.bias else y
