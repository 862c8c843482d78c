"""The compact trunk: MoveNet's MobileNetV2 feature pyramid, 24 channels at stride 4.

MoveNet MultiPose Lightning (Google, Apache-2.0) runs a MobileNetV2 of width 1.5 [Sandler et al. 2018] and
walks back up a small feature pyramid. This module is that part of it, up to the tensor that all of MoveNet's
heads read. It was released with batch norm folded into the convolutions, so every convolution carries a bias
and nothing here has running statistics. TensorFlow's conventions are kept where they change numbers: SAME
padding (a stride-2 convolution pads right and bottom only) and half-pixel bilinear upsampling. The weights
are made by `data/open/build/movenet_trunk.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.images import MEAN, STD
from utils.io import DataFileError, load_safetensors

EXPANSION = 6
STEM_CHANNELS = 48
STAGES = ((24, 1, 1), (40, 2, 2), (48, 3, 2), (96, 4, 2), (144, 3, 1), (240, 3, 2), (480, 1, 1))
TOP_CHANNELS = 1280
PYRAMID_CHANNELS = (64, 32, 24)
THUNDER: dict[str, Any] = {
    "stem_channels": 56,
    "stages": ((32, 1, 1), (40, 2, 2), (56, 3, 2), (112, 4, 2), (168, 3, 1), (280, 3, 2), (560, 1, 1)),
}


class SameConv3x3(nn.Conv2d):
    """A 3x3 convolution with TensorFlow's SAME padding; at stride 2 it takes even sizes only."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, groups: int = 1, bias: bool = True
    ) -> None:
        symmetric = 1 if stride == 1 else 0
        super().__init__(in_channels, out_channels, 3, stride, symmetric, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.stride[0] == 1 else F.pad(x, (0, 1, 0, 1)))


class InvertedResidual(nn.Module):
    """MobileNetV2 block: 1x1 expand, 3x3 depthwise, linear 1x1 project; a shortcut where the shape stays.

    torchvision's block of this name has no form with biased convolutions and without batch norm.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.shortcut = stride == 1 and in_channels == out_channels
        self.expand = nn.Conv2d(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv3x3(hidden, hidden, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.shortcut else y


class SeparableConv(nn.Module):
    """3x3 depthwise, then 1x1 with bias and ReLU: the smoothing step of the pyramid."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = SameConv3x3(in_channels, in_channels, 1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)), inplace=True)


class FeaturePyramid(nn.Module):
    """Walks from the features at stride 32 back up to those at stride 4, joined by finer ones on the way.

    Args:
        deep_channels: of the features at stride 32.
        level_channels: of the features at strides 16, 8 and 4.
        channels: lateral channels at strides 16, 8 and 4; the last one is that of the result.
    """

    def __init__(self, deep_channels: int, level_channels: Sequence[int], channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.bridge = nn.Conv2d(deep_channels, channels[0], 1)
        self.laterals = nn.ModuleList(
            nn.Conv2d(c, p, 1) for c, p in zip(level_channels, channels, strict=True)
        )
        narrower = (*channels[1:], channels[-1])
        self.smooth = nn.ModuleList(SeparableConv(p, q) for p, q in zip(channels, narrower, strict=True))
        self.out_channels = channels[-1]

    def ascend(self, deep: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Features [B, out_channels, H/4, W/4] of those at stride 32 and at strides 16, 8 and 4."""
        x = self.bridge(deep)
        for lateral, smooth, level in zip(self.laterals, self.smooth, levels, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = smooth(x + lateral(level))
        return x


class MoveNetTrunk(FeaturePyramid):
    """MoveNet's trunk: features at stride 4 of an image.

    Args:
        stem_channels: channels after the first convolution (stride 2).
        stages: (channels, blocks, stride of the first block) of each MobileNetV2 stage. Four of them have
            stride 2, which makes 32 in all with the stem's; the ends of the first three feed the pyramid.
        top_channels: channels of the 1x1 convolution that ends the MobileNetV2.
        pyramid_channels: lateral channels at stride 16, 8 and 4; the map at stride 32 joins with the first.

    The defaults are MultiPose Lightning (4.7 M parameters); `THUNDER` are the sizes of Thunder (6.2 M).
    """

    def __init__(
        self,
        stem_channels: int = STEM_CHANNELS,
        stages: Sequence[tuple[int, int, int]] = STAGES,
        top_channels: int = TOP_CHANNELS,
        pyramid_channels: tuple[int, int, int] = PYRAMID_CHANNELS,
    ) -> None:
        if sum(stride == 2 for _, _, stride in stages) != 4:
            raise ValueError(f"MoveNetTrunk needs exactly four stages of stride 2, got the stages {stages}.")
        widths = [width for (width, _, stride) in stages if stride == 2]
        super().__init__(top_channels, widths[-2::-1], pyramid_channels)
        self.level_channels, self.deep_channels = tuple(widths[-2::-1]), top_channels
        self.stem = SameConv3x3(3, stem_channels, 2)
        self.blocks = nn.ModuleList()
        self.taps: list[int] = []
        channels = stem_channels
        for stage, (width, depth, stride) in enumerate(stages):
            for i in range(depth):
                expansion = 1 if stage == i == 0 else EXPANSION
                self.blocks.append(InvertedResidual(channels, width, stride if i == 0 else 1, expansion))
                channels = width
            if stride == 2:
                self.taps.append(len(self.blocks) - 1)
        self.taps.pop()  # the stride-32 map enters through the top
        self.top = nn.Conv2d(channels, top_channels, 1)

        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        self.register_buffer("input_scale", (2 * std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("input_shift", (2 * mean - 1).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Features [B, out_channels, H/4, W/4] of an ImageNet-normalised RGB image [B, 3, H, W].

        The features lie in memory as channels_last, whatever the image does.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        return self.ascend(*self.levels(image))

    def levels(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features at stride 32 [B, deep_channels, H/32, W/32], and at strides 16, 8 and 4 [B, level_channels, ...].

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        return self.deep_levels(self.fine_level(image))

    def fine_level(self, image: Tensor) -> Tensor:
        """Features at stride 4 [B, level_channels, H/4, W/4], of the stem and the first blocks.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        if image.shape[-1] % 32 or image.shape[-2] % 32:
            raise ValueError(
                f"MoveNetTrunk takes images whose sides are multiples of 32, got {tuple(image.shape[-2:])} "
                "(height, width); resize or pad the image."
            )
        # Depthwise convolutions train 1.7 times as fast on a CPU with the channels innermost.
        x = image.contiguous(memory_format=torch.channels_last)
        # MoveNet's own range, RGB in [-1, 1]; not folded into the stem, whose zero padding is mid-grey here.
        x = x * self.input_scale + self.input_shift
        x = F.relu6(self.stem(x), inplace=True)
        for block in self.blocks[: self.taps[0] + 1]:
            x = block(x)
        return x

    def fine_parameters(self) -> list[nn.Parameter]:
        """Parameters of the layers up to the features at stride 4."""
        return [*self.stem.parameters(), *self.blocks[: self.taps[0] + 1].parameters()]

    def deep_levels(self, fine: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `levels` gives, of the features at stride 4."""
        x, levels = fine, [fine]
        for i, block in enumerate(self.blocks[self.taps[0] + 1 :], start=self.taps[0] + 1):
            x = block(x)
            if i in self.taps:
                levels.append(x)
        return F.relu6(self.top(x), inplace=True), levels[::-1]


def load_movenet(module: nn.Module, path: str | Path) -> None:
    """Fill `module` with the MoveNet weights of a safetensors file; strict, precision follows the module.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or its tensors are not those of this module.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No MoveNet weights at {path}; the project ships them in data/open.")
    try:
        module.load_state_dict(load_safetensors(path)[0], strict=True)
    except (DataFileError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights of this {type(module).__name__}: {error}") from error


def neck(channels: int, hidden: int, width: int) -> nn.Sequential:
    """Two 3x3 convolutions that turn a trunk's channels into `width` features for dense maps."""
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class MoveNetBackbone(nn.Module):
    """MultiPose Lightning's trunk and a neck."""

    def __init__(self, width: int, hidden: int = 80) -> None:
        super().__init__()
        self.out_channels = width
        self.trunk = MoveNetTrunk()
        self.neck = neck(self.trunk.out_channels, hidden, width)

    def forward(self, image: Tensor) -> Tensor:
        """Features [B, width, H/4, W/4] of an ImageNet-normalised RGB image [B, 3, H, W]."""
        return self.neck(self.trunk(image))
