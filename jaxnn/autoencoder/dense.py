"""The autoencoder of fully connected layers: an encoder, a decoder, and the two in a row.

Reference: G. Hinton, R. Salakhutdinov, "Reducing the dimensionality of data with neural
networks", Science 313 (2006). The default sizes are theirs; relu for their sigmoid, no pretraining.
"""

from collections.abc import Callable

import chex
import flax.linen as nn
import jax

from jaxnn.layers.container import Sequential

__all__ = ["Encoder", "Decoder", "Autoencoder"]


class Encoder(nn.Module):
    """From examples to codes: linear layers with a relu between them, none behind the last.

    Args:
      in_features: D, values of an example.
      hidden: width of each hidden layer, first to last; () leaves one linear map.
      latent: Z, size of a code.
    """

    in_features: int = 784
    hidden: tuple[int, ...] = (1000, 500, 250)
    latent: int = 30

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, D) -> float (N, Z)."""
        chex.assert_shape(x, (None, self.in_features))
        layers = _layers((*self.hidden, self.latent))
        return Sequential(layers, name="layers")(x, train=train)


class Decoder(nn.Module):
    """From codes to examples, by layers as those of `Encoder`.

    Args:
      latent: Z, size of a code.
      hidden: width of each hidden layer, first to last.
      out_features: D, values of an example.
    """

    latent: int = 30
    hidden: tuple[int, ...] = (250, 500, 1000)
    out_features: int = 784

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, Z) -> float (N, D): values under a squared error, logits under an entropy."""
        chex.assert_shape(z, (None, self.latent))
        layers = _layers((*self.hidden, self.out_features))
        return Sequential(layers, name="layers")(z, train=train)


class Autoencoder(nn.Module):
    """An encoder, and a decoder with its widths in reverse.

    With hidden=() and a squared error the best one projects on the first Z principal components
    (Baldi and Hornik, 1989): the subspace is that of PCA, its basis is not.

    Args:
      in_features: D, values of an example.
      hidden: width of each hidden layer of the encoder, first to last.
      latent: Z, size of a code; undercomplete where Z < D.
    """

    in_features: int = 784
    hidden: tuple[int, ...] = (1000, 500, 250)
    latent: int = 30

    def setup(self) -> None:
        # torch: attributes of a module; in `setup` a submodule is named after its attribute.
        self.encoder = Encoder(self.in_features, self.hidden, self.latent)
        self.decoder = Decoder(self.latent, self.hidden[::-1], self.in_features)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, D) -> its reconstruction, float (N, D)."""
        return self.decoder(self.encoder(x, train=train), train=train)


def _layers(sizes: tuple[int, ...]) -> tuple[Callable, ...]:
    layers = []
    for size in sizes:
        # torch: Linear needs both sizes; a Dense finds its input size at init.
        layers += [nn.Dense(size), nn.relu]
    return tuple(layers[:-1])
