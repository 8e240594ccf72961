"""The convolutional autoencoder: a code that is an image itself, of fewer pixels.

Reference: J. Masci, U. Meier, D. Ciresan, J. Schmidhuber, "Stacked convolutional auto-encoders for
hierarchical feature extraction", ICANN 2011; strides in place of their pooling, relu of their tanh.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ConvAutoencoder"]


class ConvAutoencoder(nn.Module):
    """Two convolutions of stride 2, undone by two transposed ones; no layer is fully connected.

    So it takes images of any size that 4 divides, at the same ratio of compression: 16 C numbers
    to `latent`.

    Args:
      channels: C, of the images.
      width: features between the two convolutions of either half.
      latent: Z, channels of the code.
    """

    def __init__(self, channels: int = 1, width: int = 32, latent: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, latent, 4, stride=2, padding=1)
        self.deconv1 = nn.ConvTranspose2d(latent, width, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, C, H, W) -> codes, float (N, Z, H/4, W/4)."""
        h = F.relu(self.conv1(x))  # (N, width, H/2, W/2)
        return self.conv2(h)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Codes, float (N, Z, H/4, W/4) -> values or logits of the pixels, float (N, C, H, W)."""
        h = F.relu(self.deconv1(z))
        return self.deconv2(h)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, C, H, W), H and W multiples of 4 -> its reconstruction, of the same shape."""
        return self.decode(self.encode(x))
