"""Mixed precision: products in 16 bits, whatever is delicate in float32, and the loss scaled.

The forward pass and the loss run under `torch.autocast(device, torch.bfloat16)`: convolutions,
linear layers and matrix products cast what they are given, while parameters and their gradients
stay in float32. On a GPU autocast keeps softmax, layer norm and losses in float32 by itself; on the
CPU it does not, so `.float()` says it. jax: there is no autocast, every layer names its `dtype`.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ConvNet", "Block", "scaled_training"]

HALF = torch.bfloat16


class ConvNet(nn.Module):
    """Two convolutions in 16 bits; batch norms, the mean over positions and the head in float32.

    A batch norm that summed its statistics in bfloat16 would keep running averages of three digits.

    Args:
      in_channels: of the images.
      channels: of the first convolution; the second has twice as many.
      num_classes: of the logits.

    Reference:
      Micikevicius et al., Mixed Precision Training, 2018, https://arxiv.org/abs/1710.03740
    """

    def __init__(self, in_channels: int = 3, channels: int = 8, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * channels)
        self.fc = nn.Linear(2 * channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (N, in_channels, H, W), float32, to logits (N, num_classes), float32."""
        x = F.relu(self.bn1(self.conv1(x).float()))
        x = F.relu(self.bn2(self.conv2(x).float()))
        x = x.mean((2, 3))
        with torch.autocast(x.device.type, enabled=False):
            return self.fc(x)


class Block(nn.Module):
    """A pre-norm transformer block; its norms, softmax and residual stream are float32.

    x <- x + proj(softmax(q k^T / sqrt(d)) v), x <- x + fc2(gelu(fc1(norm2(x)))), where q, k, v are
    the thirds of qkv(norm1(x)), of `heads` heads each.

    Args:
      dim: E, features.
      heads: a divisor of dim.

    Reference:
      Xiong et al., On Layer Normalization in the Transformer Architecture, 2020,
      https://arxiv.org/abs/2002.04745
    """

    def __init__(self, dim: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, L, E), float32, to the same."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT * q.shape[-1] ** -0.5
        weights = scores.float().softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


@torch.enable_grad()
def scaled_training(
    weight: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    learning_rate: float = 0.1,
    init_scale: float = 2.0**16,
    growth_interval: int = 2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SGD on a linear model's squared error, with the loss scaled so that gradients fit 16 bits.

    The loss is multiplied by the scale and the gradient divided by it. A gradient that is not
    finite makes the step be left out and the scale be halved; `growth_interval` steps in a row that
    were taken double it. float16 needs this, bfloat16 has the range of float32 and does not.

    Args:
      weight: (D,), float32, where it starts; is not changed.
      inputs: (S, N, D), float32, a batch for each of S steps.
      targets: (S, N), float32.
      learning_rate: of SGD.
      init_scale: a power of two, so that scaling is exact.
      growth_interval: steps.

    Returns: the weight after each step, (S, D), and the scale after each step, (S,).

    Reference:
      Micikevicius et al., Mixed Precision Training, 2018, https://arxiv.org/abs/1710.03740;
      `torch.amp.GradScaler`. jax: `flax.training.dynamic_scale.DynamicScale`.
    """
    weight = nn.Parameter(weight.detach().clone())
    optimizer = torch.optim.SGD([weight], learning_rate)
    scaler = torch.amp.GradScaler(
        weight.device.type, init_scale=init_scale, growth_interval=growth_interval
    )
    weights, scales = [], []
    for x, y in zip(inputs, targets, strict=True):
        optimizer.zero_grad()
        # The cache holds casts for as long as the outermost autocast lasts, updated weights or not.
        with torch.autocast(weight.device.type, HALF, cache_enabled=False):
            loss = F.mse_loss(x @ weight, y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # divides by the scale first
        scaler.update()
        weights.append(weight.detach().clone())
        scales.append(scaler.get_scale())
    return torch.stack(weights), weight.new_tensor(scales)
