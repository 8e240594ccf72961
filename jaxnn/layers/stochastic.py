"""Dropout of weights, and of whole branches: DropConnect and stochastic depth.

Flax has neither; `nn.Dropout(rate, broadcast_dims=(1, 2, 3))` is `DropPath` of an image.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.dropout import Dropout, dropout

__all__ = ["drop_connect", "drop_path", "DropConnect", "DropPath"]


def drop_connect(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    mask: jax.Array,
    p: float = 0.5,
) -> jax.Array:
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
    return jnp.einsum("...d,...kd->...k", x, dropout(weight, mask, p)) + bias


def drop_path(x: jax.Array, mask: jax.Array, p: float = 0.5) -> jax.Array:
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


class DropConnect(nn.Module):
    """A linear layer whose weights are dropped in training, with one mask for every call.

    Variables: params `kernel` (D, K), `bias` (K,). The mask is that of torch's weight (K, D).

    Args:
      in_features: D.
      out_features: K.
      p: probability of dropping a weight.

    Raises:
      ValueError: if p is not between 0 and 1.
    """

    in_features: int
    out_features: int
    p: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(N, D) -> (N, K)."""
        chex.assert_shape(x, (None, self.in_features))
        shape = (self.in_features, self.out_features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.out_features,))
        weight = Dropout(self.p, name="drop")(kernel.T, train=train)
        return x @ weight.T + bias


class DropPath(nn.Module):
    """`drop_path` with one number for every example and call in training; nothing in evaluation.

    Args:
      p: probability of dropping an example's branch.

    Raises:
      ValueError: if p is not between 0 and 1.
    """

    p: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(N, ...) -> the same shape."""
        ones = jnp.ones((len(x), *[1] * (x.ndim - 1)), x.dtype)
        return x * Dropout(self.p, name="drop")(ones, train=train)
