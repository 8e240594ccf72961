"""Residual networks under torchvision's names, so that its published weights load.

Version 1.5: a bottleneck strides in its 3x3 convolution, where the paper strides in the first 1x1.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.container import Sequential
from jaxnn.layers.norm import BatchNorm
from jaxnn.layers.patches import conv

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]

# torch: kaiming_normal_(mode="fan_out"); he_normal would truncate
_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _conv(planes: int, size: int, stride: int = 1, name: str | None = None) -> nn.Conv:
    """Convolution without bias. "SAME" would pad even maps on one side only when it strides."""
    pad = size // 2
    return nn.Conv(
        planes,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=_kaiming,
        conv_general_dilated=conv,
        name=name,
    )


class BasicBlock(nn.Module):
    """y = relu(x + bn(conv3x3(relu(bn(conv3x3(x)))))).

    Where the shapes of x and y differ, `downsample` projects x by a strided 1x1 convolution.

    Args:
      inplanes: channels of the input.
      planes: width of the block; the output has planes * expansion channels.
      stride: stride of the first convolution.
      zero_init_residual: start the last batch norm at zero, the block as the identity.
    """

    inplanes: int
    planes: int
    stride: int = 1
    zero_init_residual: bool = False

    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps (N, H, W, inplanes) to (N, ceil(H / stride), ceil(W / stride), planes)."""
        chex.assert_axis_dimension(x, -1, self.inplanes)
        planes, outplanes = self.planes, self.planes * self.expansion

        out = _conv(planes, 3, self.stride, name="conv1")(x)
        out = BatchNorm(planes, name="bn1")(out, train=train)
        out = nn.relu(out)

        out = _conv(outplanes, 3, name="conv2")(out)
        out = _last_norm(self, outplanes, "bn2")(out, train=train)

        if self.stride != 1 or self.inplanes != outplanes:
            x = _downsample(outplanes, self.stride)(x, train=train)
        return nn.relu(out + x)


class Bottleneck(nn.Module):
    """y = relu(x + bn(conv1x1(relu(bn(conv3x3(relu(bn(conv1x1(x))))))))).

    Where the shapes of x and y differ, `downsample` projects x by a strided 1x1 convolution.

    Args:
      inplanes: channels of the input.
      planes: width of the block; the output has planes * expansion channels.
      stride: stride of the 3x3 convolution.
      zero_init_residual: start the last batch norm at zero, the block as the identity.
    """

    inplanes: int
    planes: int
    stride: int = 1
    zero_init_residual: bool = False

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps (N, H, W, inplanes) to (N, ceil(H / stride), ceil(W / stride), 4 planes)."""
        chex.assert_axis_dimension(x, -1, self.inplanes)
        planes, outplanes = self.planes, self.planes * self.expansion

        out = _conv(planes, 1, name="conv1")(x)
        out = BatchNorm(planes, name="bn1")(out, train=train)
        out = nn.relu(out)

        out = _conv(planes, 3, self.stride, name="conv2")(out)
        out = BatchNorm(planes, name="bn2")(out, train=train)
        out = nn.relu(out)

        out = _conv(outplanes, 1, name="conv3")(out)
        out = _last_norm(self, outplanes, "bn3")(out, train=train)

        if self.stride != 1 or self.inplanes != outplanes:
            x = _downsample(outplanes, self.stride)(x, train=train)
        return nn.relu(out + x)


def _last_norm(block, planes: int, name: str) -> BatchNorm:
    init = nn.initializers.zeros if block.zero_init_residual else nn.initializers.ones
    return BatchNorm(planes, scale_init=init, name=name)


def _downsample(planes: int, stride: int) -> Sequential:
    return Sequential((_conv(planes, 1, stride), BatchNorm(planes)), name="downsample")


def _stage(net, inplanes: int, planes: int, blocks: int, stride: int, name: str) -> Sequential:
    """Blocks of equal width; the first one strides."""
    block, zero = net.block, net.zero_init_residual
    first = block(inplanes, planes, stride, zero)
    rest = [block(planes * block.expansion, planes, 1, zero) for _ in range(1, blocks)]
    return Sequential((first, *rest), name=name)


class ResNet(nn.Module):
    """Deep residual network of four stages; each but the first halves the map.

    Args:
      block: BasicBlock or Bottleneck.
      layers: the number of blocks in each of the four stages.
      num_classes: K.
      width: planes of the first stage, doubled in each that follows; 64 in all published networks.
      zero_init_residual: start the last batch norm of each block at zero, so that every block
        starts as the identity (Goyal et al., 2017, https://arxiv.org/abs/1706.02677).

    Reference:
      He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2015,
      https://arxiv.org/abs/1512.03385; names and initialisation as in torchvision.models.resnet.
    """

    block: type[BasicBlock | Bottleneck]
    layers: Sequence[int]
    num_classes: int = 1000
    width: int = 64
    zero_init_residual: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images (N, H, W, 3), float, to logits (N, K)."""
        chex.assert_axis_dimension(x, -1, 3)
        x = _conv(self.width, 7, 2, name="conv1")(x)
        x = BatchNorm(self.width, name="bn1")(x, train=train)
        x = nn.relu(x)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

        width, layers, out = self.width, self.layers, self.block.expansion
        x = _stage(self, width, width, layers[0], 1, "layer1")(x, train=train)
        x = _stage(self, out * width, 2 * width, layers[1], 2, "layer2")(x, train=train)
        x = _stage(self, out * 2 * width, 4 * width, layers[2], 2, "layer3")(x, train=train)
        x = _stage(self, out * 4 * width, 8 * width, layers[3], 2, "layer4")(x, train=train)

        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.num_classes, name="fc")(x)


def resnet18(num_classes: int = 1000, width: int = 64, zero_init_residual: bool = False) -> ResNet:
    """ResNet-18: 11.7 million parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, width, zero_init_residual)


def resnet34(num_classes: int = 1000, width: int = 64, zero_init_residual: bool = False) -> ResNet:
    """ResNet-34: 21.8 million parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, width, zero_init_residual)


def resnet50(num_classes: int = 1000, width: int = 64, zero_init_residual: bool = False) -> ResNet:
    """ResNet-50, version 1.5: 25.6 million parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, width, zero_init_residual)


def resnet101(num_classes: int = 1000, width: int = 64, zero_init_residual: bool = False) -> ResNet:
    """ResNet-101, version 1.5: 44.5 million parameters."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, width, zero_init_residual)


def resnet152(num_classes: int = 1000, width: int = 64, zero_init_residual: bool = False) -> ResNet:
    """ResNet-152, version 1.5: 60.2 million parameters."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, width, zero_init_residual)
