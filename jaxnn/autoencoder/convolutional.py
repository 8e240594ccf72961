"""The convolutional autoencoder: a code that is an image itself, of fewer pixels.

Reference: J. Masci, U. Meier, D. Ciresan, J. Schmidhuber, "Stacked convolutional auto-encoders for
hierarchical feature extraction", ICANN 2011; strides in place of their pooling, relu of their tanh.
"""

import chex
import flax.linen as nn
import jax

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

    channels: int = 1
    width: int = 32
    latent: int = 4

    def setup(self) -> None:
        conv = {"kernel_size": (4, 4), "strides": (2, 2)}
        # Linen pads the dilated input where torch crops the output: k - 1 - p = 2 on each side.
        deconv = {**conv, "padding": ((2, 2), (2, 2)), "transpose_kernel": True}
        self.conv1 = nn.Conv(self.width, **conv, padding=((1, 1), (1, 1)))
        self.conv2 = nn.Conv(self.latent, **conv, padding=((1, 1), (1, 1)))
        self.deconv1 = nn.ConvTranspose(self.width, **deconv)
        self.deconv2 = nn.ConvTranspose(self.channels, **deconv)

    def encode(self, x: jax.Array) -> jax.Array:
        """float (N, H, W, C) -> codes, float (N, H/4, W/4, Z)."""
        chex.assert_shape(x, (None, None, None, self.channels))
        chex.assert_is_divisible(x.shape[1], 4)
        chex.assert_is_divisible(x.shape[2], 4)
        h = nn.relu(self.conv1(x))  # (N, H/2, W/2, width)
        return self.conv2(h)

    def decode(self, z: jax.Array) -> jax.Array:
        """Codes, float (N, H/4, W/4, Z) -> values or logits of the pixels, float (N, H, W, C)."""
        chex.assert_shape(z, (None, None, None, self.latent))
        h = nn.relu(self.deconv1(z))
        return self.deconv2(h)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, H, W, C), H and W multiples of 4 -> its reconstruction, of the same shape."""
        return self.decode(self.encode(x))
