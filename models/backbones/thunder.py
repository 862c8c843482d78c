"""MoveNet Thunder with its keypoints, and a pyramid of its own for dense maps: the trunk of `danet_s`.

MoveNet Thunder (Google, Apache-2.0) was trained on many people in photographs with 17 labelled keypoints. Its weights
stay as they were released, so that its keypoints, which the refinement reads, stay as good as they were; or its trunk
learns, and a loss keeps the features that the keypoint heads read (`ReleasedFeatures`). A second pyramid, which learns,
reads the same features for the dense maps, and sees where the person's keypoints are: it knows who is meant where
people stand close. The weights are made by `data/open/build/movenet_trunk.py`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.movenet import THUNDER, FeaturePyramid, MoveNetTrunk, SeparableConv, load_movenet, neck
from utils.skeleton import NUM_COCO
from utils.structures import TrunkFeatures

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float

HEAD_CHANNELS = 96
PYRAMID_CHANNELS = (64, 48, 40)
NECK_CHANNELS = 80
NEAR = 1.8  # cells from its expected place at which a keypoint's score counts half


class KeypointBranch(SeparableConv):
    """Hidden features of one kind of output, and the 1x1 convolution that reads them."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, HEAD_CHANNELS)
        self.out = nn.Conv2d(HEAD_CHANNELS, outputs, 1)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B out H W"]:
        """Outputs of every cell."""
        return self.out(super().forward(features))

    def at(self, features: Float[Tensor, "B C H W"], cell: Tensor) -> Tensor:
        """Outputs [B, N, out] of the cells [B, N], numbered row by row."""
        hidden = super().forward(features).flatten(2)
        hidden = hidden.gather(2, cell[:, None].expand(-1, HEAD_CHANNELS, -1))
        return F.linear(hidden.transpose(1, 2), self.out.weight[:, :, 0, 0], self.out.bias)


class KeypointHeads(nn.Module):
    """The keypoints of the person in the middle of a crop, as MoveNet's single-person networks find them.

    One map scores where a person's middle is. From there every keypoint's place is told roughly; of the keypoint's own
    heat map the best cell near that place counts, moved by an offset within the cell.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.center = KeypointBranch(channels, 1)
        self.heatmap = KeypointBranch(channels, NUM_COCO)
        self.regress = KeypointBranch(channels, 2 * NUM_COCO)
        self.offset = KeypointBranch(channels, 2 * NUM_COCO)

    def forward(
        self, features: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B 17 3"], Float[Tensor, "B 17 H W"]]:
        """Keypoints (x, y in -1..1 of the crop, score 0..1), and each cell's score to be this person's keypoint."""
        batch, _, height, width = features.shape
        rows = torch.arange(height, device=features.device, dtype=features.dtype)[:, None]
        columns = torch.arange(width, device=features.device, dtype=features.dtype)
        from_middle = ((rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2).sqrt()
        person = (self.center(features)[:, 0].sigmoid() / (from_middle + NEAR)).flatten(1).argmax(dim=1, keepdim=True)
        rough = self.regress.at(features, person).view(batch, NUM_COCO, 2)  # y, x in cells
        y = rough[..., 0] + torch.div(person, width, rounding_mode="floor")
        x = rough[..., 1] + person % width
        away = ((rows - y[..., None, None]) ** 2 + (columns - x[..., None, None]) ** 2).sqrt()
        heat = self.heatmap(features).sigmoid()
        near = heat * (NEAR / (away + NEAR))
        cell = near.flatten(2).argmax(dim=2)
        own = torch.eye(NUM_COCO, dtype=features.dtype, device=features.device)[..., None]
        offset = (self.offset.at(features, cell).view(batch, NUM_COCO, NUM_COCO, 2) * own).sum(dim=2)  # y, x
        y = torch.div(cell, width, rounding_mode="floor") + offset[..., 0]
        x = cell % width + offset[..., 1]
        score = heat.flatten(2).gather(2, cell[..., None])[..., 0]
        return torch.stack([x * (2 / width) - 1, y * (2 / height) - 1, score], dim=-1), near


class TrunkOutput(NamedTuple):
    """What the heads and the refinement get of a trunk that knows keypoints."""

    features: Float[Tensor, "B C H/4 W/4"]
    keypoints: Float[Tensor, "B 17 3"]  # x, y in -1..1, score 0..1
    trunk: TrunkFeatures | None  # of a trunk that learns


class ThunderBackbone(nn.Module):
    """MoveNet Thunder, and the pyramid and neck that learn dense features from it.

    learn_trunk: in training gradients reach the trunk down to its features at stride 4; the layers before those, and
        the keypoint heads, stay as they were released.
    """

    def __init__(self, width: int, learn_trunk: bool = False) -> None:
        super().__init__()
        self.out_channels, self.learn_trunk = width, learn_trunk
        self.trunk = MoveNetTrunk(**THUNDER).requires_grad_(False)
        for parameter in self.learning_trunk():
            parameter.requires_grad_(True)
        self.keypoints = KeypointHeads(self.trunk.out_channels).requires_grad_(False)
        self.pyramid = FeaturePyramid(self.trunk.deep_channels, self.trunk.level_channels, PYRAMID_CHANNELS)
        self.person = nn.Conv2d(NUM_COCO, self.pyramid.out_channels, 1)
        self.neck = neck(self.pyramid.out_channels, NECK_CHANNELS, width)

    def learning_trunk(self) -> list[nn.Parameter]:
        """Parameters of the trunk that learn: none, or those behind the features at stride 4."""
        fixed = set(self.trunk.fine_parameters())
        return [p for p in self.trunk.parameters() if p not in fixed] if self.learn_trunk else []

    @property
    def released(self) -> nn.ModuleDict:
        """The modules whose weights are Thunder's own."""
        return nn.ModuleDict({"trunk": self.trunk, "keypoints": self.keypoints})

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> TrunkOutput:
        """Features and keypoints of an ImageNet-normalised RGB image."""
        learns = self.learn_trunk and self.training
        with torch.no_grad():
            fine = self.trunk.fine_level(image)
        with contextlib.nullcontext() if learns else torch.no_grad():
            deep, levels = self.trunk.deep_levels(fine)
            read = self.trunk.ascend(deep, levels)
        with torch.no_grad():
            keypoints, near = self.keypoints(read.detach())
        features = self.pyramid.ascend(deep, levels) + self.person(near)
        return TrunkOutput(self.neck(features), keypoints, TrunkFeatures(fine, read) if learns else None)


class ReleasedFeatures(nn.Module):
    """The features that Thunder's keypoint heads read, of the trunk as it was released: the teacher of one that learns.

    Args:
        weights: file of Thunder's weights.
    """

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        thunder = ThunderBackbone(width=1)
        load_movenet(thunder.released, weights)
        self.trunk = thunder.trunk

    def difference(self, learning: TrunkFeatures) -> Float[Tensor, ""]:
        """Mean squared difference of a learning trunk's features, as a part of the features' variance."""
        with torch.no_grad():
            released = self.trunk.ascend(*self.trunk.deep_levels(learning.fine))
        return F.mse_loss(learning.read, released) / released.var()
