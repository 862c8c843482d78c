"""Residual blocks, the ResNet-18 trunks of the SMPL regressor and the ResNet-50 one of the IUV estimator.

Paper sections 3.1 and 3.3; docs/method.md 3.6 and 4.

Attribute names are the checkpoint's key names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from utils.skeleton import NUM_PARTS

if TYPE_CHECKING:
    from jaxtyping import Float


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)


class Projection(nn.Conv2d):
    """A 1x1 convolution of every `stride`-th pixel; in training the pixels are taken before it.

    oneDNN's AVX2 kernels of strided 1x1 convolutions give wrong gradients and write past their memory below eight
    channels. Their inference is right, so the packed form keeps the stride.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return nn.functional.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def projection(in_channels: int, out_channels: int, stride: int, groups: int = 1) -> nn.Sequential | None:
    """The 1x1 shortcut of a block that changes its size; None where the identity will do."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        Projection(in_channels, out_channels, 1, stride, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; `groups` keeps the 24 parts apart."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride, groups)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, 1, groups)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = projection(in_channels, channels, stride, groups)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)).add_(shortcut))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions with a shortcut; the output is four times `channels` wide."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = projection(in_channels, 4 * channels, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)).add_(shortcut))


def basic_layer(
    in_channels: int, channels: int, num_blocks: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A row of basic blocks; the first one changes the size."""
    blocks = [BasicBlock(in_channels, channels, stride, groups)]
    blocks += [BasicBlock(channels, channels, 1, groups) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)


class ResNet18(nn.Module):
    """ResNet-18 on maps that are `width` channels wide.

    With `out_features` it ends in average pooling and a linear layer ([B, out_features]); without, `layer4` is
    left out as well and the output is the feature map [B, 4 width, H/16, W/16]. Without `pool`, for maps of half the
    size, that is H/8, W/8.
    """

    def __init__(self, width: int = 64, out_features: int | None = None, pool: bool = True):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()
        self.layer1 = basic_layer(width, width, 2)
        self.layer2 = basic_layer(width, 2 * width, 2, stride=2)
        self.layer3 = basic_layer(2 * width, 4 * width, 2, stride=2)
        self.layer4 = None if out_features is None else basic_layer(4 * width, 8 * width, 2, stride=2)
        self.final_layer = None if out_features is None else nn.Linear(8 * width, out_features)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Tensor:
        """Features [B, 4 width, H/16, W/16], or [B, out_features] where the network has `layer4`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.layer4 is None:
            return x
        return self.final_layer(self.layer4(x).mean(dim=(2, 3)))


def stem_and_trunk(
    in_channels: int, width: int, out_features: int | None = None, pool: bool = True
) -> nn.Sequential:
    """The 1x1 convolution that widens IUV maps, then the trunk (indices 0, 1 and 3 are key names)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        ResNet18(width, out_features, pool),
    )


class GroupedLayer4(nn.Module):
    """`layer4` of the limb net, with its own weights for each of the parts, and average pooling."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.layer4 = basic_layer(
            NUM_PARTS * in_channels, NUM_PARTS * channels, 2, stride=2, groups=NUM_PARTS
        )

    def forward(self, x: Float[Tensor, "BP C H W"]) -> Float[Tensor, "B P D"]:
        """A feature vector for each part of each sample from maps in the order sample, part."""
        joint_major = x.reshape(-1, NUM_PARTS * x.shape[1], *x.shape[2:])  # [B, P*C, H, W]
        return self.layer4(joint_major).mean(dim=(2, 3)).unflatten(1, (NUM_PARTS, -1))


def bottleneck_layer(in_channels: int, channels: int, num_blocks: int, stride: int = 1) -> nn.Sequential:
    """A row of bottlenecks; the first one changes the size."""
    blocks = [Bottleneck(in_channels, channels, stride)]
    return nn.Sequential(*blocks, *(Bottleneck(4 * channels, channels) for _ in range(num_blocks - 1)))


class ResNetBackbone(nn.Module):
    """ResNet-50 and three deconvolutions: [B,3,H,W] -> [B, out_channels, H/4, W/4]; H and W are multiples of 32.

    width: channels of the first layer; num_blocks: bottlenecks of each of the four layers.
    """

    def __init__(
        self,
        width: int = 64,
        num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        out_channels: int = 256,
    ):
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for i, count in enumerate(num_blocks):
            layer = bottleneck_layer(channels, width * 2**i, count, stride=1 if i == 0 else 2)
            setattr(self, f"layer{i + 1}", layer)
            channels = 4 * width * 2**i
        upward: list[nn.Module] = []
        for _ in range(3):
            upward += [
                nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
            channels = out_channels
        self.deconv_layers = nn.Sequential(*upward)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H4 W4"]:
        """Features of ImageNet-normalised RGB images."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        return self.deconv_layers(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
