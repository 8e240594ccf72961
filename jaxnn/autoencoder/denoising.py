"""The denoising autoencoder: it reads a corrupted example, and is to give back the whole one.

A code may then be wider than the example: the identity is no solution.

Reference: P. Vincent, H. Larochelle, Y. Bengio, P. Manzagol, "Extracting and composing robust
features with denoising autoencoders", ICML 2008.
"""

import chex
import flax.linen as nn
import jax
import optax

__all__ = ["DenoisingAutoencoder", "denoising_loss"]


class DenoisingAutoencoder(nn.Module):
    """y = sigmoid(W (x * mask) + b), and logits W' y + b' of the pixels before the corruption.

    Args:
      in_features: D, pixels.
      hidden: H, size of a code.
    """

    in_features: int = 784
    hidden: int = 1000

    def setup(self) -> None:
        self.encoder = nn.Dense(self.hidden)
        self.decoder = nn.Dense(self.in_features)

    def encode(self, x: jax.Array) -> jax.Array:
        """float (N, D) -> codes, float (N, H)."""
        chex.assert_shape(x, (None, self.in_features))
        return nn.sigmoid(self.encoder(x))

    def decode(self, y: jax.Array) -> jax.Array:
        """Codes, float (N, H) -> logits of the pixels, float (N, D)."""
        chex.assert_shape(y, (None, self.hidden))
        return self.decoder(y)

    def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool = False) -> jax.Array:
        """Destroys pixels, encodes what is left, and decodes.

        Args:
          x: pixels in [0, 1], float (N, D). Of other noise they come with it, and with ones.
          mask: 0 where a pixel is destroyed, 1 where it is kept, float (N, D); drawn anew for
            every batch by the training loop. Nothing is rescaled, as dropout would.

        Returns: logits, float (N, D).
        """
        chex.assert_equal_shape([x, mask])
        return self.decode(self.encode(x * mask))


def denoising_loss(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Cross-entropy with the clean pixels: summed over them, mean over examples, in nats.

    Args:
      logits: what the model returns, float (N, D).
      x: the pixels before their corruption, float (N, D), in [0, 1].

    Returns: the loss, float ().
    """
    return optax.sigmoid_binary_cross_entropy(logits, x).sum() / x.shape[0]
