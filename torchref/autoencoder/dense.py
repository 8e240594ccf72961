"""The autoencoder of fully connected layers: an encoder, a decoder, and the two in a row.

Reference: G. Hinton, R. Salakhutdinov, "Reducing the dimensionality of data with neural
networks", Science 313 (2006). The default sizes are theirs; relu for their sigmoid, no pretraining.
"""

from itertools import pairwise

import torch
from torch import nn

__all__ = ["Encoder", "Decoder", "Autoencoder"]


class Encoder(nn.Module):
    """From examples to codes: linear layers with a relu between them, none behind the last.

    Args:
      in_features: D, values of an example.
      hidden: width of each hidden layer, first to last; () leaves one linear map.
      latent: Z, size of a code.
    """

    def __init__(
        self,
        in_features: int = 784,
        hidden: tuple[int, ...] = (1000, 500, 250),
        latent: int = 30,
    ) -> None:
        super().__init__()
        self.layers = _layers((in_features, *hidden, latent))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> float (N, Z)."""
        return self.layers(x)


class Decoder(nn.Module):
    """From codes to examples, by layers as those of `Encoder`.

    Args:
      latent: Z, size of a code.
      hidden: width of each hidden layer, first to last.
      out_features: D, values of an example.
    """

    def __init__(
        self,
        latent: int = 30,
        hidden: tuple[int, ...] = (250, 500, 1000),
        out_features: int = 784,
    ) -> None:
        super().__init__()
        self.layers = _layers((latent, *hidden, out_features))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """float (N, Z) -> float (N, D): values under a squared error, logits under an entropy."""
        return self.layers(z)


class Autoencoder(nn.Module):
    """An encoder, and a decoder with its widths in reverse.

    With hidden=() and a squared error the best one projects on the first Z principal components
    (Baldi and Hornik, 1989): the subspace is that of PCA, its basis is not.

    Args:
      in_features: D, values of an example.
      hidden: width of each hidden layer of the encoder, first to last.
      latent: Z, size of a code; undercomplete where Z < D.
    """

    def __init__(
        self,
        in_features: int = 784,
        hidden: tuple[int, ...] = (1000, 500, 250),
        latent: int = 30,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(in_features, hidden, latent)
        self.decoder = Decoder(latent, hidden[::-1], in_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> its reconstruction, float (N, D)."""
        return self.decoder(self.encoder(x))


def _layers(sizes: tuple[int, ...]) -> nn.Sequential:
    layers = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
