"""The denoising autoencoder: it reads a corrupted example, and is to give back the whole one.

A code may then be wider than the example: the identity is no solution.

Reference: P. Vincent, H. Larochelle, Y. Bengio, P. Manzagol, "Extracting and composing robust
features with denoising autoencoders", ICML 2008.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["DenoisingAutoencoder", "denoising_loss"]


class DenoisingAutoencoder(nn.Module):
    """y = sigmoid(W (x * mask) + b), and logits W' y + b' of the pixels before the corruption.

    Args:
      in_features: D, pixels.
      hidden: H, size of a code.
    """

    def __init__(self, in_features: int = 784, hidden: int = 1000) -> None:
        super().__init__()
        self.encoder = nn.Linear(in_features, hidden)
        self.decoder = nn.Linear(hidden, in_features)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> codes, float (N, H)."""
        return torch.sigmoid(self.encoder(x))

    def decode(self, y: torch.Tensor) -> torch.Tensor:
        """Codes, float (N, H) -> logits of the pixels, float (N, D)."""
        return self.decoder(y)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Destroys pixels, encodes what is left, and decodes.

        Args:
          x: pixels in [0, 1], float (N, D). Of other noise they come with it, and with ones.
          mask: 0 where a pixel is destroyed, 1 where it is kept, float (N, D); drawn anew for
            every batch by the training loop. Nothing is rescaled, as dropout would.

        Returns: logits, float (N, D).
        """
        return self.decode(self.encode(x * mask))


def denoising_loss(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the clean pixels: summed over them, mean over examples, in nats.

    Args:
      logits: what the model returns, float (N, D).
      x: the pixels before their corruption, float (N, D), in [0, 1].

    Returns: the loss, float ().
    """
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.shape[0]
