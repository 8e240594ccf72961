"""DCGAN: a generator and a discriminator of strided convolutions, trained in turns."""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = [
    "Generator",
    "Discriminator",
    "DCGAN",
    "discriminator_loss",
    "generator_loss",
    "train_step",
]


def _doublings(image_size: int) -> int:
    """How often a 4x4 map is doubled to give the image."""
    if image_size < 16 or image_size & (image_size - 1):
        raise ValueError(f"image_size must be a power of two and at least 16, got {image_size}")
    return image_size.bit_length() - 3


def _up(inplanes: int, planes: int, stride: int = 2, padding: int = 1) -> nn.ConvTranspose2d:
    """Transposed 4x4 convolution: 1x1 -> 4x4 with (1, 0), doubling with (2, 1)."""
    return nn.ConvTranspose2d(inplanes, planes, 4, stride, padding, bias=False)


def _down(inplanes: int, planes: int, stride: int = 2, padding: int = 1) -> nn.Conv2d:
    """4x4 convolution: halving with (2, 1), 4x4 -> 1x1 with (1, 0)."""
    return nn.Conv2d(inplanes, planes, 4, stride, padding, bias=False)


def _initialise(module: nn.Module) -> None:
    """All convolutions normal with standard deviation 0.02."""
    for child in module.modules():
        if isinstance(child, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(child.weight, 0.0, 0.02)


class Generator(nn.Module):
    """Turns noise into images: a 4x4 map, doubled until it is the image, with values in (-1, 1).

    Args:
      latent_dim: L.
      features: channels before the last doubling; every earlier map has twice as many as the next.
      channels: C.
      image_size: S, a power of two and at least 16; anything else raises a ValueError.
    """

    def __init__(
        self, latent_dim: int = 100, features: int = 64, channels: int = 3, image_size: int = 64
    ) -> None:
        super().__init__()
        doublings = _doublings(image_size)
        planes = features * 2 ** (doublings - 1)
        layers = [_up(latent_dim, planes, 1, 0), nn.BatchNorm2d(planes), nn.ReLU(inplace=True)]
        for _ in range(doublings - 1):
            layers += [_up(planes, planes // 2), nn.BatchNorm2d(planes // 2), nn.ReLU(inplace=True)]
            planes //= 2
        layers += [_up(planes, channels), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Maps noise (N, L), standard normal, to images (N, C, S, S)."""
        return self.main(z[:, :, None, None])


class Discriminator(nn.Module):
    """Tells real images from generated ones: halves the map down to 4x4, then to one logit.

    At exactly zero the derivative of `nn.LeakyReLU` is its slope. jax: 1.

    Args:
      features: channels after the first halving; they double at each one that follows.
      channels: C.
      image_size: S, a power of two and at least 16; anything else raises a ValueError.
    """

    def __init__(self, features: int = 64, channels: int = 3, image_size: int = 64) -> None:
        super().__init__()
        planes = features
        layers = [_down(channels, planes), nn.LeakyReLU(0.2, inplace=True)]
        for _ in range(_doublings(image_size) - 1):
            layers += [_down(planes, planes * 2), nn.BatchNorm2d(planes * 2)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
            planes *= 2
        layers += [_down(planes, 1, 1, 0)]
        self.main = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (N, C, S, S) to logits (N,); positive means real."""
        return self.main(x).flatten()


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

    def __init__(
        self, latent_dim: int = 100, features: int = 64, channels: int = 3, image_size: int = 64
    ) -> None:
        super().__init__()
        self.generator = Generator(latent_dim, features, channels, image_size)
        self.discriminator = Discriminator(features, channels, image_size)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N,) of the images made from noise z, (N, L)."""
        return self.discriminator(self.generator(z))

    def discriminate(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The discriminator's turn: logits (N,) of real images x, (N, C, S, S), and of fakes.

        No gradient reaches the generator.
        """
        fake = self.generator(z).detach()
        return self.discriminator(x), self.discriminator(fake)

    def fool(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The generator's turn: logits (N,) of the fakes; x is not looked at."""
        del x
        return self(z)


def discriminator_loss(outputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """mean(-log D(x)) + mean(-log(1 - D(G(z)))) of the logits from `DCGAN.discriminate`."""
    real, fake = outputs
    return binary_cross_entropy_with_logits(
        real, torch.ones_like(real)
    ) + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def generator_loss(outputs: torch.Tensor) -> torch.Tensor:
    """The non-saturating loss mean(-log D(G(z))) of the logits from `DCGAN.fool`."""
    return binary_cross_entropy_with_logits(outputs, torch.ones_like(outputs))


def train_step(
    model: DCGAN,
    discriminator: torch.optim.Optimizer,
    generator: torch.optim.Optimizer,
    x: torch.Tensor,
    z: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One turn of each player on the same batch, the discriminator first.

    Args:
      model: both networks; is put into training mode.
      discriminator: optimizer of the discriminator's parameters. jax: a state that holds both.
      generator: optimizer of the generator's parameters.
      x: real images (N, C, S, S) with values in [-1, 1].
      z: noise (N, L), standard normal.

    Returns:
      (discriminator's loss, generator's loss).
    """
    model.train()
    d_loss = _turn(discriminator, model.discriminate, discriminator_loss, x, z)
    g_loss = _turn(generator, model.fool, generator_loss, x, z)
    return d_loss, g_loss


def _turn(optimizer, method, loss, x, z):
    """Updates the parameters of one player and the running statistics of both."""
    optimizer.zero_grad()  # the other player's turn left gradients here too
    value = loss(method(x, z))
    value.backward()
    optimizer.step()
    return value.detach()
