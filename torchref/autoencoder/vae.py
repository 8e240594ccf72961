"""Variational autoencoders, dense and convolutional.

Reference: D. Kingma, M. Welling, "Auto-encoding variational Bayes", ICLR 2014; with relu in place
of their tanh. I. Higgins et al., "beta-VAE: learning basic visual concepts with a constrained
variational framework", ICLR 2017.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["VAE", "ConvVAE", "reparameterize", "elbo_loss", "beta_vae_loss"]


class VAE(nn.Module):
    """A dense VAE: the encoder gives a normal distribution of codes, the decoder Bernoulli pixels.

    The names of the layers and the sizes are those of PyTorch's examples.

    Args:
      in_features: D, pixels.
      hidden: width of the one hidden layer of either half.
      latent: Z, size of a code.
    """

    def __init__(self, in_features: int = 784, hidden: int = 400, latent: int = 20) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc21 = nn.Linear(hidden, latent)
        self.fc22 = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, in_features)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q(z|x) = N(mu, exp(logvar)): float (N, D) -> mu and logvar, float (N, Z) each."""
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """p(x|z): codes, float (N, Z) -> logits of the pixels, float (N, D)."""
        return self.fc4(F.relu(self.fc3(z)))

    def forward(
        self, x: torch.Tensor, eps: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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

    def __init__(
        self, image_size: int = 28, channels: int = 1, width: int = 32, latent: int = 20
    ) -> None:
        super().__init__()
        self.inner = inner = image_size // 4
        self.conv1 = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.fc_mu = nn.Linear(2 * width * inner * inner, latent)
        self.fc_logvar = nn.Linear(2 * width * inner * inner, latent)
        self.fc = nn.Linear(latent, 2 * width * inner * inner)
        self.deconv1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, C, S, S) -> mu and logvar, float (N, Z) each."""
        h = F.relu(self.conv1(x))  # (N, width, S/2, S/2)
        h = F.relu(self.conv2(h))  # (N, 2 width, S/4, S/4)
        h = h.flatten(1)
        return self.fc_mu(h), self.fc_logvar(h)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Codes, float (N, Z) -> logits of the pixels, float (N, C, S, S)."""
        h = F.relu(self.fc(z)).unflatten(1, (-1, self.inner, self.inner))
        h = F.relu(self.deconv1(h))
        return self.deconv2(h)

    def forward(
        self, x: torch.Tensor, eps: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `VAE` for images x (N, C, S, S): logits (N, C, S, S), mu and logvar (N, Z)."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterize(mu, logvar, eps)), mu, logvar


def reparameterize(mu: torch.Tensor, logvar: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """A draw from N(mu, exp(logvar)) through which gradients pass: float (N, Z) each -> (N, Z).

    z = mu + exp(logvar / 2) eps: the chance is all in eps, which depends on no parameter.
    """
    return mu + torch.exp(0.5 * logvar) * eps


def elbo_loss(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], x: torch.Tensor, beta: float = 1.0
) -> torch.Tensor:
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
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    # KL(N(mu, s^2) || N(0, 1)) = (mu^2 + s^2 - 1 - log s^2) / 2
    kl = 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar)
    return (bce + beta * kl.sum()) / x.shape[0]


def beta_vae_loss(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """`elbo_loss` with beta = 4, that of the beta-VAE. Args, returns: as there."""
    return elbo_loss(outputs, x, beta=4.0)
