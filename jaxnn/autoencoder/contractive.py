"""The contractive autoencoder: a code that hardly moves as the example does.

The reconstruction holds the code to the directions in which the data vary; the penalty flattens all
others.

Reference: S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio, "Contractive auto-encoders:
explicit invariance during feature extraction", ICML 2011.
"""

import chex
import flax.linen as nn
import jax
import optax

from jaxnn.training.regularisers import contractive_penalty

__all__ = ["ContractiveAutoencoder", "encoder_jacobian", "contractive_loss"]


class ContractiveAutoencoder(nn.Module):
    """h = sigmoid(W x + b), and logits W' h + c of the pixels: one matrix, used twice.

    The tied weights are a part of it: the decoder could otherwise grow as the encoder shrinks.

    Args:
      in_features: D, pixels.
      hidden: H, size of a code.
    """

    in_features: int = 784
    hidden: int = 1000

    def setup(self) -> None:
        self.encoder = nn.Dense(self.hidden)
        self.bias = self.param("bias", nn.initializers.zeros, (self.in_features,))

    def encode(self, x: jax.Array) -> jax.Array:
        """float (N, D) -> codes, float (N, H)."""
        chex.assert_shape(x, (None, self.in_features))
        return nn.sigmoid(self.encoder(x))

    def decode(self, h: jax.Array) -> jax.Array:
        """Codes, float (N, H) -> logits of the pixels, float (N, D)."""
        chex.assert_shape(h, (None, self.hidden))
        return h @ self._weight() + self.bias

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Pixels in [0, 1], float (N, D) -> logits (N, D), and mean ||dh/dx||_F^2, float ()."""
        h = self.encode(x)
        return self.decode(h), contractive_penalty(h, self._weight())

    def _weight(self) -> jax.Array:
        # torch: `encoder.weight`, (H, D) as it stands.
        return self.encoder.variables["params"]["kernel"].T


def encoder_jacobian(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """dh/dx of h = sigmoid(W x + b) at every example, by forward-mode differentiation.

    For any encoder; this one's has a closed form, dh_k/dx_d = h_k (1 - h_k) W_kd, of whose squared
    norm `contractive_penalty` is the mean: no Jacobian needs to be formed.

    Args:
      x: float (N, D).
      weight: float (H, D).
      bias: float (H,).

    Returns: float (N, H, D).
    """
    return jax.vmap(jax.jacfwd(lambda x: nn.sigmoid(weight @ x + bias)))(x)


def contractive_loss(
    outputs: tuple[jax.Array, jax.Array], x: jax.Array, strength: float = 0.1
) -> jax.Array:
    """Cross-entropy summed over pixels, mean over examples, + strength mean ||dh/dx||_F^2.

    Args:
      outputs: logits and penalty, what the model returns.
      x: the pixels that it encoded, float (N, D), in [0, 1].
      strength: of the penalty.

    Returns: the loss, float ().
    """
    logits, penalty = outputs
    bce = optax.sigmoid_binary_cross_entropy(logits, x).sum()
    return bce / x.shape[0] + strength * penalty
