"""DaNet: picture -> dense body parts -> SMPL (paper figure 2), its sizes and its builder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from models.fold import can_pack, fold_batch_norm, pack_convolutions
from models.hrnet import HRNet
from models.iuv_estimator import IUVEstimator
from models.movenet import MoveNetBackbone
from models.part_crop import part_drop, part_targets
from models.smpl_regressor import AggregatedRefinement, SMPLRegressor
from utils.assets import DATA_DIR, load_learned_ratio, load_mean_params
from utils.config import option
from utils.geometry import CROP_SIZE
from utils.iuvmap import iuvmap_clean
from utils.structures import DaNetOutput, IUVMaps, SMPLEstimate

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class DaNetConfig:
    """Sizes and switches of the network; the defaults are those of the released weights."""

    backbone: str = option("hrnet", "trunk of the IUV estimator", choices=("hrnet", "movenet"))
    backbone_width: int = option(48, "channels of the features at stride 4")
    hrnet_stem: int = option(64, "channels of HRNet's stem")
    hrnet_blocks: int = option(4, "basic blocks in an HRNet branch")
    hrnet_modules: tuple[int, int, int] = option((1, 4, 3), "HRNet modules of stages 2, 3 and 4")
    body_width: int = option(64, "width of the ResNet-18 behind the global maps")
    limb_width: int = option(64, "width of the ResNet-18 behind the part maps")
    features: int = option(128, "features of a joint")
    gcn_hidden: int = option(256, "hidden features of the refinement graph")
    vis_threshold: float = option(0.5, "a joint whose own parts score less is hidden; 0: all are visible")
    center_jitter: float = option(0.1, "noise on part-crop centres in training; 0 switches it off")
    scale_jitter: float = option(0.2, "noise on part-crop sizes in training; 0 switches it off")
    partdrop_rate: float = option(0.3, "chance that PartDrop hides a part in training; 0 switches it off")
    detach_maps: bool = option(False, "keep the body's losses from changing the maps in training")

    def __post_init__(self):
        if self.backbone == "hrnet" and self.backbone_width % 4:
            raise ValueError(f"backbone_width must be a multiple of 4, got {self.backbone_width}.")
        for name in ("vis_threshold", "partdrop_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}.")


PRESETS = {
    "danet": DaNetConfig(),
    "danet_s": DaNetConfig(
        backbone="movenet", backbone_width=28, body_width=28, limb_width=12, features=64, gcn_hidden=96
    ),
}


def preset(name: str) -> DaNetConfig:
    """Config of a named model. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"There is no model named '{name}'; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


class DaNet(nn.Module):
    """IUV estimator and SMPL regressor under the 2020 key names; labels never go in, losses never come out."""

    def __init__(
        self,
        img2iuv: IUVEstimator,
        iuv2smpl: SMPLRegressor,
        partdrop_rate: float = 0.3,
        detach_maps: bool = False,
    ):
        super().__init__()
        self.img2iuv = img2iuv
        self.iuv2smpl = iuv2smpl
        self.partdrop_rate = partdrop_rate
        self.detach_maps = detach_maps

    def forward(self, image: Float[Tensor, "B 3 224 224"], *, iuv_only: bool = False) -> DaNetOutput:
        """Raw maps and, unless `iuv_only`, the body.

        image: RGB, normalised by `datasets.transforms.preprocess`; sides are multiples of 32 (224 in training).
        In training mode crops jitter, PartDrop hides parts from the regressor and auxiliary predictions are given.
        Raises ValueError for another shape.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % 32 or image.shape[3] != image.shape[2]:
            raise ValueError(
                f"DaNet takes square pictures [B, 3, 224, 224] (sides a multiple of 32), got {tuple(image.shape)}."
            )
        estimate = self.img2iuv(image)
        if iuv_only:
            return DaNetOutput(estimate, None)
        return DaNetOutput(estimate, self._regress(estimate.iuv, estimate.part_iuv))

    def forward_rendered(self, iuv: IUVMaps, centers: Float[Tensor, "B 24 2"]) -> DaNetOutput:
        """The body from rendered maps [B,25,H,W] and true joint centres instead of a picture.

        It lets the regressor learn without the estimator, several times faster.
        """
        crops = self.img2iuv.place_crops(centers.clamp(-1, 1), iuv.index)
        return DaNetOutput(None, self._regress(iuv, part_targets(iuv, crops)))

    def _regress(self, iuv: IUVMaps, part_iuv: IUVMaps) -> SMPLEstimate:
        if self.detach_maps:
            iuv, part_iuv = iuv.detach(), part_iuv.detach()
        if self.training and self.partdrop_rate:
            iuv, part_iuv = part_drop(iuv, part_iuv, self.partdrop_rate)
        clean = iuvmap_clean(iuv.u, iuv.v, iuv.index)
        part_clean = iuvmap_clean(part_iuv.u, part_iuv.v, part_iuv.index)
        return self.iuv2smpl(clean, part_clean)

    def prepare_for_inference(self) -> DaNet:
        """Turn this model into its fast form, in place, and return it.

        Batch norm is folded into convolutions, memory becomes channels-last, kernels are laid out for the CPU,
        gradients are switched off. Outputs agree within 1e-4. The state dict is no longer the file format's, so
        load weights and choose the device before.
        """
        self.eval().requires_grad_(False)
        fold_batch_norm(self)
        self.to(memory_format=torch.channels_last)
        device = next(self.parameters()).device
        if can_pack(device):
            pack_convolutions(self, torch.zeros(1, 3, CROP_SIZE, CROP_SIZE, device=device))
        return self


def build_danet(cfg: DaNetConfig = PRESETS["danet"], data_dir: str | os.PathLike = DATA_DIR) -> DaNet:
    """A network of the given sizes with fresh weights.

    Mean pose, shape and camera and the crop ratios are the user's in `data_dir`, else the shipped ones; a
    checkpoint carries its own.
    """
    if cfg.backbone == "movenet":
        backbone = MoveNetBackbone(cfg.backbone_width)
    else:
        backbone = HRNet(cfg.backbone_width, cfg.hrnet_stem, cfg.hrnet_blocks, cfg.hrnet_modules)
    ratio, offset = load_learned_ratio(data_dir=data_dir)
    estimator = IUVEstimator(backbone, ratio, offset, cfg.vis_threshold, cfg.center_jitter, cfg.scale_jitter)
    mean = load_mean_params(data_dir=data_dir)
    regressor = AggregatedRefinement(
        torch.cat([mean.cam, mean.betas])[None],
        mean.pose_6d[None],
        cfg.body_width,
        cfg.limb_width,
        cfg.features,
        cfg.gcn_hidden,
    )
    return DaNet(estimator, SMPLRegressor(regressor), cfg.partdrop_rate, cfg.detach_maps)
