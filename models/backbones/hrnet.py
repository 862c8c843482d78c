"""HRNet: the default trunk, image to features at stride 4 (paper section 3.1; docs/method.md 3.6).

Keeps a high-resolution branch from end to end and adds coarser ones stage by stage. Attribute names are the key
names of the public HRNet pose weights and of the 2020 checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.resnet import Bottleneck, basic_layer

if TYPE_CHECKING:
    from jaxtyping import Float


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """A convolution without bias, batch norm and, with `relu`, a ReLU."""
    layers = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def downward_chain(in_channels: int, out_channels: int, steps: int) -> nn.Sequential:
    """`steps` halvings; the width changes in the last one, which has no ReLU because the sum follows."""
    chain = [conv_bn(in_channels, in_channels, 3, stride=2) for _ in range(steps - 1)]
    return nn.Sequential(*chain, conv_bn(in_channels, out_channels, 3, stride=2, relu=False))


class HighResolutionModule(nn.Module):
    """Parallel branches of basic blocks, then every output resolution sums all branches."""

    def __init__(self, widths: tuple[int, ...], num_blocks: int, num_outputs: int):
        super().__init__()
        self.branches = nn.ModuleList(basic_layer(width, width, num_blocks) for width in widths)
        # fuse_layers[i][j] brings branch j to the resolution of branch i; i == j needs none.
        self.fuse_layers = nn.ModuleList()
        for i in range(num_outputs):
            row = nn.ModuleDict()
            for j, width in enumerate(widths):
                if j > i:
                    row[str(j)] = conv_bn(width, widths[i], 1, relu=False)
                elif j < i:
                    row[str(j)] = downward_chain(width, widths[i], i - j)
            self.fuse_layers.append(row)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Features of each output resolution from those of each branch, the largest first."""
        features = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        return [self._fuse(i, row, features) for i, row in enumerate(self.fuse_layers)]

    @staticmethod
    def _fuse(i: int, row: nn.ModuleDict, features: list[Tensor]) -> Tensor:
        total = features[i]
        for key, layer in row.items():
            j = int(key)
            term = layer(features[j])
            if j > i:
                term = F.interpolate(term, scale_factor=2 ** (j - i), mode="nearest")
            total = total + term
        return F.relu(total, inplace=True)


class HRNet(nn.Module):
    """[B,3,H,W] -> [B, width, H/4, W/4]; H and W are multiples of 32.

    width: channels of the finest branch (48 in the released weights), doubled from branch to branch.
    stem: channels of the two stride-2 convolutions and of the bottlenecks behind them.
    num_blocks, num_modules: basic blocks a branch, modules of stages 2-4.
    """

    def __init__(
        self,
        width: int = 48,
        stem: int = 64,
        num_blocks: int = 4,
        num_modules: tuple[int, int, int] = (1, 4, 3),
    ):
        super().__init__()
        self.out_channels = width
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        wide = 4 * stem
        self.layer1 = nn.Sequential(Bottleneck(stem, stem), *(Bottleneck(wide, stem) for _ in range(3)))
        widths = tuple(width * 2**i for i in range(4))
        # A new branch starts from the coarsest one before it.
        self.transition1 = nn.ModuleDict(
            {
                "0": conv_bn(wide, widths[0], 3),
                "1": nn.Sequential(conv_bn(wide, widths[1], 3, stride=2)),
            }
        )
        self.transition2 = nn.ModuleDict({"2": nn.Sequential(conv_bn(widths[1], widths[2], 3, stride=2))})
        self.transition3 = nn.ModuleDict({"3": nn.Sequential(conv_bn(widths[2], widths[3], 3, stride=2))})
        for stage, count in zip((2, 3, 4), num_modules, strict=True):
            outputs = [stage] * count
            if stage == 4:
                outputs[-1] = 1  # the coarser results are not read
            modules = [HighResolutionModule(widths[:stage], num_blocks, n) for n in outputs]
            setattr(self, f"stage{stage}", nn.Sequential(*modules))

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H4 W4"]:
        """Features of ImageNet-normalised RGB images."""
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.layer1(self.relu(self.bn2(self.conv2(x))))
        branches = self.stage2([self.transition1["0"](x), self.transition1["1"](x)])
        branches = self.stage3([*branches, self.transition2["2"](branches[-1])])
        return self.stage4([*branches, self.transition3["3"](branches[-1])])[0]
