"""Variational autoencoders, dense and convolutional.

Reference: D. Kingma, M. Welling, "Auto-encoding variational Bayes", ICLR 2014; with relu in place
of their tanh. I. Higgins et al., "beta-VAE: learning basic visual concepts with a constrained
variational framework", ICLR 2017.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

__all__ = ["VAE", "ConvVAE", "reparameterize", "elbo_loss", "beta_vae_loss"]


class VAE(nn.Module):
    """A dense VAE: the encoder gives a normal distribution of codes, the decoder Bernoulli pixels.

    The names of the layers and the sizes are those of PyTorch's examples.

    Args:
      in_features: D, pixels.
      hidden: width of the one hidden layer of either half.
      latent: Z, size of a code.
    """

    in_features: int = 784
    hidden: int = 400
    latent: int = 20

    def setup(self) -> None:
        self.fc1 = nn.Dense(self.hidden)
        self.fc21 = nn.Dense(self.latent)
        self.fc22 = nn.Dense(self.latent)
        self.fc3 = nn.Dense(self.hidden)
        self.fc4 = nn.Dense(self.in_features)

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """q(z|x) = N(mu, exp(logvar)): float (N, D) -> mu and logvar, float (N, Z) each."""
        chex.assert_shape(x, (None, self.in_features))
        h = nn.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z: jax.Array) -> jax.Array:
        """p(x|z): codes, float (N, Z) -> logits of the pixels, float (N, D)."""
        chex.assert_shape(z, (None, self.latent))
        return self.fc4(nn.relu(self.fc3(z)))

    def __call__(
        self, x: jax.Array, eps: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Encodes, draws a code with the given noise, and decodes.

        Args:
          x: pixels in [0, 1], float (N, D).
          eps: standard normal noise, float (N, Z); zeros decode the mean.

        Returns: logits (N, D), mu (N, Z), logvar (N, Z).
        """
        mu, logvar = self.encode(x)
        return self.decode(reparameterize(mu, logvar, eps)), mu, logvar


class ConvVAE(nn.Module):
    """A VAE of images: two convolutions of stride 2, undone by two transposed ones.

    Args:
      image_size: S, height and width of the images, a multiple of 4.
      channels: C.
      width: features of the outer convolution; the inner has twice as many.
      latent: Z, size of a code.
    """

    image_size: int = 28
    channels: int = 1
    width: int = 32
    latent: int = 20

    def setup(self) -> None:
        chex.assert_is_divisible(self.image_size, 4)
        inner = self.image_size // 4
        self.conv1 = _conv(self.width)
        self.conv2 = _conv(2 * self.width)
        self.fc_mu = nn.Dense(self.latent)
        self.fc_logvar = nn.Dense(self.latent)
        self.fc = nn.Dense(2 * self.width * inner * inner)
        self.deconv1 = _deconv(self.width)
        self.deconv2 = _deconv(self.channels)

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """float (N, S, S, C) -> mu and logvar, float (N, Z) each."""
        chex.assert_shape(x, (None, self.image_size, self.image_size, self.channels))
        h = nn.relu(self.conv1(x))  # (N, S/2, S/2, width)
        h = nn.relu(self.conv2(h))  # (N, S/4, S/4, 2 width)
        h = h.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # torch flattens (C, H, W)
        return self.fc_mu(h), self.fc_logvar(h)

    def decode(self, z: jax.Array) -> jax.Array:
        """Codes, float (N, Z) -> logits of the pixels, float (N, S, S, C)."""
        chex.assert_shape(z, (None, self.latent))
        inner = self.image_size // 4
        h = nn.relu(self.fc(z)).reshape(-1, 2 * self.width, inner, inner)
        h = h.transpose(0, 2, 3, 1)  # the rows of fc are in torch's order (C, H, W)
        h = nn.relu(self.deconv1(h))
        return self.deconv2(h)

    def __call__(
        self, x: jax.Array, eps: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `VAE` for images x (N, S, S, C): logits (N, S, S, C), mu and logvar (N, Z)."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterize(mu, logvar, eps)), mu, logvar


def reparameterize(mu: jax.Array, logvar: jax.Array, eps: jax.Array) -> jax.Array:
    """A draw from N(mu, exp(logvar)) through which gradients pass: float (N, Z) each -> (N, Z).

    z = mu + exp(logvar / 2) eps: the chance is all in eps, which depends on no parameter.
    """
    chex.assert_equal_shape([mu, logvar, eps])
    return mu + jnp.exp(0.5 * logvar) * eps


def elbo_loss(
    outputs: tuple[jax.Array, jax.Array, jax.Array], x: jax.Array, beta: float = 1.0
) -> jax.Array:
    """The negative evidence lower bound in nats: summed over pixels and codes, mean over examples.

    -ELBO = -E[log p(x|z)] + KL(q(z|x) || N(0, 1)), the expectation by the one draw in `outputs`.
    A beta above 1 multiplies the KL, and loosens the bound.

    Args:
      outputs: (logits, mu, logvar), what the model returns.
      x: the pixels that it encoded, float, in [0, 1].
      beta: the price of a nat in the code.

    Returns: the loss, float ().
    """
    logits, mu, logvar = outputs
    # -log p(x|z) = -x log sigmoid(logit) - (1 - x) log(1 - sigmoid(logit))
    bce = optax.sigmoid_binary_cross_entropy(logits, x)
    # KL(N(mu, s^2) || N(0, 1)) = (mu^2 + s^2 - 1 - log s^2) / 2
    kl = 0.5 * (mu**2 + jnp.exp(logvar) - 1 - logvar)
    return (bce.sum() + beta * kl.sum()) / x.shape[0]


def beta_vae_loss(outputs: tuple[jax.Array, jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """`elbo_loss` with beta = 4, that of the beta-VAE. Args, returns: as there."""
    return elbo_loss(outputs, x, beta=4.0)


def _conv(features: int) -> nn.Conv:
    """Halves height and width: Conv2d(…, 4, stride=2, padding=1)."""
    return nn.Conv(features, (4, 4), strides=(2, 2), padding=((1, 1), (1, 1)))


def _deconv(features: int) -> nn.ConvTranspose:
    """Doubles height and width: ConvTranspose2d(…, 4, stride=2, padding=1).

    Linen pads the dilated input where torch crops the output: k - 1 - p = 2 on each side.
    """
    padding = ((2, 2), (2, 2))
    return nn.ConvTranspose(features, (4, 4), (2, 2), padding=padding, transpose_kernel=True)
