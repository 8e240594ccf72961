"""LeNet-5, as it is commonly written: ReLU and max pooling, a linear output."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["LeNet"]


class LeNet(nn.Module):
    """Two convolutions and three linear layers, for small images.

    LeCun et al. use tanh, trainable subsampling and radial basis outputs on 32x32 images; the
    padding of 2 in the first layer gives 28x28 ones the same sizes. Kernels start lecun-normal and
    biases at zero. torch: both are uniform in +-1/sqrt(fan_in).

    Args:
      num_classes: K.
      in_channels: C.
      image_size: S, the side of the square images.

    Reference:
      LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition,
      1998.
    """

    num_classes: int = 10
    in_channels: int = 1
    image_size: int = 28

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images (N, S, S, C), float, to logits (N, K)."""
        chex.assert_shape(x, (None, self.image_size, self.image_size, self.in_channels))
        x = nn.relu(nn.Conv(6, (5, 5), padding=((2, 2), (2, 2)), name="conv1")(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Conv(16, (5, 5), padding="VALID", name="conv2")(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = jnp.transpose(x, (0, 3, 1, 2)).reshape(x.shape[0], -1)  # torch flattens (C, H, W)
        x = nn.relu(nn.Dense(120, name="fc1")(x))
        x = nn.relu(nn.Dense(84, name="fc2")(x))
        return nn.Dense(self.num_classes, name="fc3")(x)
