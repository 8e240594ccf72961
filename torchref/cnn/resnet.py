"""Residual networks under torchvision's names, so that its published weights load.

Version 1.5: a bottleneck strides in its 3x3 convolution, where the paper strides in the first 1x1.
"""

from collections.abc import Sequence

import torch
from torch import nn

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


def _conv(inplanes: int, planes: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias, padded by half its size."""
    return nn.Conv2d(inplanes, planes, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """y = relu(x + bn(conv3x3(relu(bn(conv3x3(x)))))).

    Where the shapes of x and y differ, `downsample` projects x by a strided 1x1 convolution.

    Args:
      inplanes: channels of the input.
      planes: width of the block; the output has planes * expansion channels.
      stride: stride of the first convolution.
      zero_init_residual: start the last batch norm at zero, the block as the identity.
    """

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, zero_init_residual: bool = False
    ) -> None:
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = _conv(inplanes, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(planes, outplanes, 3)
        self.bn2 = nn.BatchNorm2d(outplanes)
        if zero_init_residual:
            nn.init.zeros_(self.bn2.weight)
        self.downsample = None
        if stride != 1 or inplanes != outplanes:
            self.downsample = _downsample(inplanes, outplanes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, inplanes, H, W) to (N, planes, ceil(H / stride), ceil(W / stride))."""
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out)

        if self.downsample is not None:
            x = self.downsample(x)
        return self.relu(out + x)


class Bottleneck(nn.Module):
    """y = relu(x + bn(conv1x1(relu(bn(conv3x3(relu(bn(conv1x1(x))))))))).

    Where the shapes of x and y differ, `downsample` projects x by a strided 1x1 convolution.

    Args:
      inplanes: channels of the input.
      planes: width of the block; the output has planes * expansion channels.
      stride: stride of the 3x3 convolution.
      zero_init_residual: start the last batch norm at zero, the block as the identity.
    """

    expansion = 4

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, zero_init_residual: bool = False
    ) -> None:
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = _conv(inplanes, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = _conv(planes, outplanes, 1)
        self.bn3 = nn.BatchNorm2d(outplanes)
        if zero_init_residual:
            nn.init.zeros_(self.bn3.weight)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != outplanes:
            self.downsample = _downsample(inplanes, outplanes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, inplanes, H, W) to (N, 4 planes, ceil(H / stride), ceil(W / stride))."""
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out)
        out = self.relu(out)

        out = self.conv3(out)
        out = self.bn3(out)

        if self.downsample is not None:
            x = self.downsample(x)
        return self.relu(out + x)


def _downsample(inplanes: int, planes: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_conv(inplanes, planes, 1, stride), nn.BatchNorm2d(planes))


def _stage(
    block, inplanes: int, planes: int, blocks: int, stride: int, zero: bool
) -> nn.Sequential:
    """Blocks of equal width; the first one strides."""
    first = block(inplanes, planes, stride, zero)
    rest = [block(planes * block.expansion, planes, 1, zero) for _ in range(1, blocks)]
    return nn.Sequential(first, *rest)


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

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        width: int = 64,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        out = block.expansion
        self.layer1 = _stage(block, width, width, layers[0], 1, zero_init_residual)
        self.layer2 = _stage(block, out * width, 2 * width, layers[1], 2, zero_init_residual)
        self.layer3 = _stage(block, out * 2 * width, 4 * width, layers[2], 2, zero_init_residual)
        self.layer4 = _stage(block, out * 4 * width, 8 * width, layers[3], 2, zero_init_residual)

        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(out * 8 * width, num_classes)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (N, 3, H, W), float, to logits (N, K)."""
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.maxpool(x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.fc(x)


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
