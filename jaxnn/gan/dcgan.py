"""DCGAN: a generator and a discriminator of strided convolutions, trained in turns."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.container import Sequential
from jaxnn.layers.norm import BatchNorm
from jaxnn.layers.patches import conv
from jaxnn.training.losses import binary_cross_entropy_with_logits
from jaxnn.training.steps import TrainState

__all__ = [
    "Generator",
    "Discriminator",
    "DCGAN",
    "discriminator_loss",
    "generator_loss",
    "train_step",
]

_weights = {"use_bias": False, "kernel_init": nn.initializers.normal(0.02)}
_leaky_relu = partial(nn.leaky_relu, negative_slope=0.2)


def _doublings(image_size: int) -> int:
    """How often a 4x4 map is doubled to give the image."""
    if image_size < 16 or image_size & (image_size - 1):
        raise ValueError(f"image_size must be a power of two and at least 16, got {image_size}")
    return image_size.bit_length() - 3


def _up(planes: int, stride: int = 2, padding: int = 1) -> nn.ConvTranspose:
    """Transposed 4x4 convolution: 1x1 -> 4x4 with (1, 0), doubling with (2, 1)."""
    pad = (3 - padding, 3 - padding)  # of the dilated input; torch's padding crops the output
    return nn.ConvTranspose(
        planes,
        (4, 4),
        strides=(stride, stride),
        padding=(pad, pad),
        transpose_kernel=True,
        **_weights,
    )


def _down(planes: int, stride: int = 2, padding: int = 1) -> nn.Conv:
    """4x4 convolution: halving with (2, 1), 4x4 -> 1x1 with (1, 0)."""
    pad = (padding, padding)
    return nn.Conv(
        planes,
        (4, 4),
        strides=(stride, stride),
        padding=(pad, pad),
        conv_general_dilated=conv,
        **_weights,
    )


class Generator(nn.Module):
    """Turns noise into images: a 4x4 map, doubled until it is the image, with values in (-1, 1).

    Args:
      latent_dim: L.
      features: channels before the last doubling; every earlier map has twice as many as the next.
      channels: C.
      image_size: S, a power of two and at least 16; anything else raises a ValueError.
    """

    latent_dim: int = 100
    features: int = 64
    channels: int = 3
    image_size: int = 64

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps noise (N, L), standard normal, to images (N, S, S, C)."""
        chex.assert_shape(z, (None, self.latent_dim))
        doublings = _doublings(self.image_size)
        planes = self.features * 2 ** (doublings - 1)
        layers = [_up(planes, 1, 0), BatchNorm(planes), nn.relu]
        for _ in range(doublings - 1):
            planes //= 2
            layers += [_up(planes), BatchNorm(planes), nn.relu]
        layers += [_up(self.channels), nn.tanh]
        return Sequential(tuple(layers), name="main")(z[:, None, None, :], train=train)


class Discriminator(nn.Module):
    """Tells real images from generated ones: halves the map down to 4x4, then to one logit.

    At exactly zero the derivative of `nn.leaky_relu` is 1. torch: the slope.

    Args:
      features: channels after the first halving; they double at each one that follows.
      channels: C.
      image_size: S, a power of two and at least 16; anything else raises a ValueError.
    """

    features: int = 64
    channels: int = 3
    image_size: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images (N, S, S, C) to logits (N,); positive means real."""
        chex.assert_shape(x, (None, self.image_size, self.image_size, self.channels))
        planes = self.features
        layers = [_down(planes), _leaky_relu]
        for _ in range(_doublings(self.image_size) - 1):
            planes *= 2
            layers += [_down(planes), BatchNorm(planes), _leaky_relu]
        layers += [_down(1, 1, 0)]
        return Sequential(tuple(layers), name="main")(x, train=train).reshape(-1)


class DCGAN(nn.Module):
    """Generator and discriminator, with one method for each turn of their game.

    Both turns take the same batch, (x, z), and both networks are in the same mode. Weights start
    normal with standard deviation 0.02, batch norms at the identity; names as in PyTorch's dcgan
    example, which also draws the batch norms' scales and puts a sigmoid after the last layer.

    Args:
      latent_dim: L.
      features: channels of the generator's last and the discriminator's first hidden map.
      channels: C.
      image_size: S, a power of two and at least 16; anything else raises a ValueError.

    Reference:
      Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional
      Generative Adversarial Networks, 2015, https://arxiv.org/abs/1511.06434
    """

    latent_dim: int = 100
    features: int = 64
    channels: int = 3
    image_size: int = 64

    def setup(self):
        self.generator = Generator(self.latent_dim, self.features, self.channels, self.image_size)
        self.discriminator = Discriminator(self.features, self.channels, self.image_size)

    def __call__(self, z: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits (N,) of the images made from noise z, (N, L)."""
        return self.discriminator(self.generator(z, train=train), train=train)

    def discriminate(
        self, x: jax.Array, z: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """The discriminator's turn: logits (N,) of real images x, (N, S, S, C), and of fakes.

        No gradient reaches the generator.
        """
        fake = jax.lax.stop_gradient(self.generator(z, train=train))
        return self.discriminator(x, train=train), self.discriminator(fake, train=train)

    def fool(self, x: jax.Array, z: jax.Array, *, train: bool = False) -> jax.Array:
        """The generator's turn: logits (N,) of the fakes; x is not looked at."""
        del x
        return self(z, train=train)


def discriminator_loss(outputs: tuple[jax.Array, jax.Array]) -> jax.Array:
    """mean(-log D(x)) + mean(-log(1 - D(G(z)))) of the logits from `DCGAN.discriminate`."""
    real, fake = outputs
    return binary_cross_entropy_with_logits(
        real, jnp.ones_like(real)
    ) + binary_cross_entropy_with_logits(fake, jnp.zeros_like(fake))


def generator_loss(outputs: jax.Array) -> jax.Array:
    """The non-saturating loss mean(-log D(G(z))) of the logits from `DCGAN.fool`."""
    return binary_cross_entropy_with_logits(outputs, jnp.ones_like(outputs))


def train_step(
    discriminator: TrainState, generator: TrainState, x: jax.Array, z: jax.Array
) -> tuple[TrainState, TrainState, jax.Array, jax.Array]:
    """One turn of each player on the same batch, the discriminator first.

    Args:
      discriminator: its params and batch_stats, and their optimizer; apply_fn is the DCGAN's.
      generator: the same for the generator. torch: `model` and two optimizers.
      x: real images (N, S, S, C) with values in [-1, 1].
      z: noise (N, L), standard normal.

    Returns:
      (discriminator, generator, discriminator's loss, generator's loss).
    """
    states = {"discriminator": discriminator, "generator": generator}
    states, d_loss = _turn(states, "discriminator", "discriminate", discriminator_loss, x, z)
    states, g_loss = _turn(states, "generator", "fool", generator_loss, x, z)
    return states["discriminator"], states["generator"], d_loss, g_loss


def _turn(states, player, method, loss, x, z):
    """Updates the parameters of one player and the running statistics of both."""

    def objective(params):
        variables = {
            "params": {name: state.params for name, state in states.items()} | {player: params},
            "batch_stats": {name: state.batch_stats for name, state in states.items()},
        }
        outputs, updated = states[player].apply_fn(
            variables, x, z, train=True, method=method, mutable=["batch_stats"]
        )
        return loss(outputs), updated["batch_stats"]

    (value, stats), grads = jax.value_and_grad(objective, has_aux=True)(states[player].params)
    states = states | {player: states[player].apply_gradients(grads=grads)}
    return {k: state.replace(batch_stats=stats[k]) for k, state in states.items()}, value
