"""From an image to global and partial IUV maps (paper sections 3.1 and 3.2; docs/method.md 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.backbones.resnet import Bottleneck
from models.part_crop import hidden_joints, part_crops, part_targets, sample_crops, soft_argmax
from utils.iuvmap import one_hot_max
from utils.skeleton import ANN_CLASSES, NUM_PARTS, PART_CHANNELS
from utils.structures import IUVEstimate, IUVMaps, PartCrops

if TYPE_CHECKING:
    from jaxtyping import Float

NUM_CHANNELS, NUM_LOCAL, NUM_ANN = NUM_PARTS + 1, 1 + len(PART_CHANNELS[0]), len(ANN_CLASSES)


class GlobalHeads(nn.Module):
    """3x3 convolutions on the trunk's features; no activation on any output."""

    def __init__(self, channels: int):
        super().__init__()

        def head(outputs: int) -> nn.Conv2d:
            return nn.Conv2d(channels, outputs, 3, padding=1)

        self.predict_u = head(NUM_CHANNELS)
        self.predict_v = head(NUM_CHANNELS)
        self.predict_ann_index = head(NUM_ANN)
        self.predict_uv_index = head(NUM_CHANNELS)
        blocks = nn.Sequential(*(Bottleneck(channels, channels // 4) for _ in range(3)))
        self.predict_hm = nn.Sequential(blocks, head(NUM_PARTS))

    def global_maps(self, features: Float[Tensor, "B C H W"]) -> IUVMaps:
        """Raw global maps (U, V, part scores, annotation classes) of the trunk's features."""
        return IUVMaps(
            self.predict_u(features),
            self.predict_v(features),
            self.predict_uv_index(features),
            self.predict_ann_index(features),
        )


class IUVHeads(GlobalHeads):
    """The heads of the whole image and the one of the part crops."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.predict_partial_iuv = nn.Conv2d(
            NUM_PARTS * channels, NUM_PARTS * 3 * NUM_LOCAL, 3, padding=1, groups=NUM_PARTS
        )

    def part_maps(self, crops: Float[Tensor, "B P*C H W"]) -> IUVMaps:
        """Raw part maps [B,24,7,H,W] of the features of the 24 crops."""
        maps = self.predict_partial_iuv(crops)
        maps = maps.view(-1, NUM_PARTS, 3, NUM_LOCAL, *maps.shape[2:])
        return IUVMaps(*maps.unbind(dim=2))


class IUVEstimator(nn.Module):
    """Trunk, global IUV, joint centres, part crops, part IUV.

    backbone: [B,3,H,W] -> [B, out_channels, H/4, W/4], perhaps with keypoints [B,17,3]. ratio, offset [24]: learned
    crop sizes (buffers: a checkpoint carries them; parameters with `learn_crops`, where rendered part maps give them a
    gradient and are cut out at the learned sizes alone: every joint counts as visible). vis_threshold: 0 treats every
    joint as visible. center_jitter, scale_jitter: full width of the uniform noise put on crops in training; 0 switches
    it off. part_stride: part maps have 1 / part_stride of the global maps' sides; any but 1 is a buffer, so
    that weights tell it.
    """

    heads: type[GlobalHeads] = IUVHeads

    def __init__(
        self,
        backbone: nn.Module,
        ratio: Float[Tensor, "24"],
        offset: Float[Tensor, "24"],
        vis_threshold: float,
        center_jitter: float,
        scale_jitter: float,
        learn_crops: bool,
        part_stride: int,
    ):
        super().__init__()
        self.learn_crops = learn_crops
        hold = self.register_parameter if learn_crops else self.register_buffer
        for name, value in (("learned_ratio", ratio), ("learned_offset", offset)):
            hold(name, nn.Parameter(value.clone()) if learn_crops else value.clone())
        self.iuv_est = backbone
        # The file format has the heads as a child of the trunk.
        self.iuv_est.final_pred = self.heads(backbone.out_channels)
        self.vis_threshold = vis_threshold
        self.center_jitter = center_jitter
        self.scale_jitter = scale_jitter
        self.part_stride = part_stride
        if part_stride != 1:
            self.register_buffer("stride_of_parts", torch.tensor(part_stride))

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> IUVEstimate:
        """Raw global and part maps, heat-maps, joint centres and crops of normalised RGB images."""
        heads = self.iuv_est.final_pred
        seen = self.iuv_est(image)
        features, keypoints, trunk = (seen, None, None) if isinstance(seen, Tensor) else seen
        iuv = heads.global_maps(features)
        heatmaps = heads.predict_hm(features)
        centers = soft_argmax(heatmaps)
        part_iuv, crops = self.estimate_parts(features, iuv, centers)
        return IUVEstimate(iuv, part_iuv, heatmaps, centers, crops, keypoints, trunk)

    def estimate_parts(
        self, features: Float[Tensor, "B C H W"], iuv: IUVMaps, centers: Float[Tensor, "B 24 2"]
    ) -> tuple[IUVMaps | None, PartCrops | None]:
        """Raw part maps from the features seen through crops about the joints."""
        crops = self.place_crops(centers, one_hot_max(iuv.index), self.vis_threshold)
        return self.iuv_est.final_pred.part_maps(sample_crops(features, crops, self.part_stride)), crops

    def render_parts(self, iuv: IUVMaps, centers: Float[Tensor, "B 24 2"]) -> IUVMaps | None:
        """Part maps cut out of rendered global maps, soft at part borders; learned crop sizes get a gradient."""
        threshold = 0.0 if self.learn_crops else self.vis_threshold
        return part_targets(iuv, self.place_crops(centers, iuv.index, threshold), self.part_stride)

    def place_crops(
        self, centers: Float[Tensor, "B 24 2"], index: Float[Tensor, "B 25 H W"], threshold: float
    ) -> PartCrops:
        """Crops around joint centres; which joints are hidden is read from the one-hot `index`. Jitters in training."""
        centers = centers.detach()
        if self.training and self.center_jitter:
            centers = centers + self.center_jitter * (torch.rand_like(centers) - 0.5)
        hidden = hidden_joints(centers, index, threshold)
        jitter = self.scale_jitter if self.training else 0.0
        return part_crops(centers, hidden, self.learned_ratio, self.learned_offset, jitter)


class GlobalIUVEstimator(IUVEstimator):
    """The estimator of the baseline without parts: global maps and joint centres only."""

    heads = GlobalHeads

    def estimate_parts(self, features: Tensor, iuv: IUVMaps, centers: Tensor) -> tuple[None, None]:
        return None, None

    def render_parts(self, iuv: IUVMaps, centers: Tensor) -> None:
        return None
