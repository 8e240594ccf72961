"""The sparse autoencoder: few units of the code are active at a time, however many there are.

Reference: A. Ng, "Sparse autoencoder", CS294A lecture notes, 2011. The defaults are those of their
exercise on patches of 8 x 8 pixels; the decoder is linear, and without their weight decay.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.training.regularisers import l1_penalty, sparsity_penalty

__all__ = ["SparseAutoencoder", "sparse_l1_loss", "sparse_kl_loss"]


class SparseAutoencoder(nn.Module):
    """A sigmoid code, which is returned beside the reconstruction, so that a loss can see it.

    Args:
      in_features: D, values of an example.
      hidden: H, units of the code.
    """

    in_features: int = 64
    hidden: int = 25

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """float (N, D) -> reconstruction, float (N, D), and code in [0, 1], float (N, H)."""
        chex.assert_shape(x, (None, self.in_features))
        # torch: a hook could read the code; here what a loss needs is returned (or sown).
        code = nn.sigmoid(nn.Dense(self.hidden, name="encoder")(x))
        return nn.Dense(self.in_features, name="decoder")(code), code


def sparse_l1_loss(
    outputs: tuple[jax.Array, jax.Array], x: jax.Array, strength: float = 0.1
) -> jax.Array:
    """sum (x - y)^2 / 2 + strength sum |code|, mean over examples: it makes each code sparse.

    Args:
      outputs: reconstruction y and code, what the model returns.
      x: what it encoded, float (N, D).
      strength: of the penalty.

    Returns: the loss, float ().
    """
    y, code = outputs
    return _squared_error(y, x) + l1_penalty([code], strength) / x.shape[0]


def sparse_kl_loss(
    outputs: tuple[jax.Array, jax.Array],
    x: jax.Array,
    strength: float = 3.0,
    rho: float = 0.01,
) -> jax.Array:
    """sum (x - y)^2 / 2, mean over examples, + strength sum_j KL(rho || rho_j): each unit is rare.

    rho_j is the mean of unit j over the batch, so that what one example's loss is depends on the
    others. Ng takes the mean over all data.

    Args:
      outputs, x: as in `sparse_l1_loss`.
      strength: of the penalty.
      rho: the wanted mean of each unit, in (0, 1).

    Returns: the loss, float ().
    Raises: ValueError if rho lies outside (0, 1).
    """
    y, code = outputs
    return _squared_error(y, x) + strength * sparsity_penalty(code, rho)


def _squared_error(y: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.square(x - y).sum() / (2 * x.shape[0])
