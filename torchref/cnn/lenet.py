"""LeNet-5, as it is commonly written: ReLU and max pooling, a linear output."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["LeNet"]


class LeNet(nn.Module):
    """Two convolutions and three linear layers, for small images.

    LeCun et al. use tanh, trainable subsampling and radial basis outputs on 32x32 images; the
    padding of 2 in the first layer gives 28x28 ones the same sizes. Weights and biases start
    uniform in +-1/sqrt(fan_in). jax: lecun-normal kernels, zero biases.

    Args:
      num_classes: K.
      in_channels: C.
      image_size: S, the side of the square images.

    Reference:
      LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition,
      1998.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        side = (image_size // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (N, C, S, S), float, to logits (N, K)."""
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)
