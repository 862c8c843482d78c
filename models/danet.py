"""DaNet: image -> dense body parts -> SMPL (paper figure 2), its sizes and its builder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from models.backbones.hrnet import HRNet
from models.backbones.movenet import MoveNetBackbone
from models.backbones.resnet import ResNetBackbone
from models.backbones.thunder import ThunderBackbone
from models.fuse_batch_norm import can_pack, fold_batch_norm, pack_convolutions
from models.iuv_estimator import GlobalIUVEstimator, IUVEstimator
from models.lstm_refinement import DirectLSTMRefinement, LSTMRefinement
from models.map_errors import with_errors
from models.part_crop import part_drop
from models.smpl_regressor import (
    AggregatedRefinement,
    DirectGraphRefinement,
    GlobalPredictor,
    PartSizes,
    SMPLRegressor,
    WithoutRefinement,
)
from utils.body import DATA_DIR, MeanParams, load_learned_ratio, load_mean_params
from utils.config import option, require_range
from utils.geometry import CROP_SIZE
from utils.iuvmap import iuvmap_clean
from utils.structures import DaNetOutput, IUVMaps, SMPLEstimate

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


BACKBONES: dict[str, Callable[[DaNetConfig], nn.Module]] = {
    "hrnet": lambda cfg: HRNet(cfg.backbone_width, cfg.hrnet_stem, cfg.hrnet_blocks, cfg.hrnet_modules),
    "resnet": lambda cfg: ResNetBackbone(cfg.resnet_width, cfg.resnet_blocks, cfg.deconv_width),
    "movenet": lambda cfg: MoveNetBackbone(cfg.backbone_width),
    "thunder": lambda cfg: ThunderBackbone(cfg.backbone_width, cfg.learn_trunk),
}
GRAPHS: dict[str, type[AggregatedRefinement]] = {
    "gcn": AggregatedRefinement,
    "gcn_direct": DirectGraphRefinement,
    "none": WithoutRefinement,
}
LSTMS: dict[str, type[LSTMRefinement | DirectLSTMRefinement]] = {
    "lstm": LSTMRefinement,
    "lstm_direct": DirectLSTMRefinement,
}

WIDTHS = (
    "backbone_width", "hrnet_stem", "resnet_width", "deconv_width", "body_width", "limb_width", "features",
    "gcn_hidden",
)  # fmt: skip


@dataclass(frozen=True)
class DaNetConfig:
    """Sizes and switches of the network; the defaults are those of the released weights.

    `backbone`, `refinement`, `decomposed` and `input_mode` choose the paper's ablations. Raises ValueError for choices
    that make no sense.
    """

    backbone: str = option("hrnet", "trunk of the IUV estimator", choices=tuple(BACKBONES))
    refinement: str = option(
        "gcn",
        "how rotations are refined; the direct ones and 'none' are ablations",
        choices=(*GRAPHS, *LSTMS),
    )
    decomposed: bool = option(True, "see the body in parts; without, global maps alone give all numbers")
    input_mode: str = option(
        "iuv",
        "maps that train the regressor: estimated (iuv) or rendered (iuv_gt)",
        choices=("iuv", "iuv_gt"),
    )
    learn_trunk: bool = option(False, "train Thunder's trunk, too; a loss keeps what its keypoint heads read")
    backbone_width: int = option(48, "channels of HRNet's or MoveNet's features at stride 4")
    hrnet_stem: int = option(64, "channels of HRNet's stem")
    hrnet_blocks: int = option(4, "basic blocks in an HRNet branch")
    hrnet_modules: tuple[int, int, int] = option((1, 4, 3), "HRNet modules of stages 2, 3 and 4")
    resnet_width: int = option(64, "channels of the first layer of the resnet trunk")
    resnet_blocks: tuple[int, int, int, int] = option((3, 4, 6, 3), "bottlenecks of its layers")
    deconv_width: int = option(256, "channels of its features at stride 4")
    body_width: int = option(64, "width of the ResNet-18 behind the global maps")
    limb_width: int = option(64, "width of the ResNet-18 behind the part maps")
    part_stride: int = option(1, "part maps have 1/N of the sides of the global maps", choices=(1, 2))
    features: int = option(128, "features of a joint")
    gcn_hidden: int = option(256, "hidden features of the refinement graph")
    vis_threshold: float = option(0.5, "a joint whose own parts score less is hidden; 0: all are visible")
    center_jitter: float = option(0.1, "noise on part-crop centres in training; 0 switches it off")
    scale_jitter: float = option(0.2, "noise on part-crop sizes in training; 0 switches it off")
    partdrop_rate: float = option(0.3, "chance that PartDrop hides a part in training; 0 switches it off")
    map_errors: float = option(0.0, "share of rendered people on whose maps the regressor sees errors, in training")
    detach_maps: bool = option(False, "keep the body's losses from changing the maps in training")

    def __post_init__(self):
        for field in fields(self):
            choices, value = field.metadata.get("choices"), getattr(self, field.name)
            if choices and value not in choices:
                raise ValueError(f"{field.name} is one of {', '.join(choices)}; it was given {value!r}.")
        require_range(self, 1, 4096, *WIDTHS)
        require_range(self, 1, 64, "hrnet_blocks", "hrnet_modules", "resnet_blocks")
        require_range(
            self, 0, 1, "center_jitter", "scale_jitter", "vis_threshold", "partdrop_rate", "map_errors"
        )
        if self.partdrop_rate == 1:
            raise ValueError(
                "--partdrop_rate must stay below 1: at 1 every part is hidden and nothing is learned."
            )
        width = {"hrnet": "backbone_width", "resnet": "deconv_width"}.get(self.backbone)
        if width and getattr(self, width) % 4:
            raise ValueError(f"{width} must be a multiple of 4, got {getattr(self, width)}.")
        if not self.decomposed and self.refinement != "gcn":
            raise ValueError(
                f"A network without parts (decomposed off) has no features of joints that '{self.refinement}' could "
                "refine: leave refinement at its default."
            )


PRESETS = {
    "danet": DaNetConfig(),
    "danet_s": DaNetConfig(
        backbone="thunder", backbone_width=28, body_width=28, limb_width=12, part_stride=2, features=64,
        gcn_hidden=96,
    ),
}


def preset(name: str) -> DaNetConfig:
    """Config of a named model. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"There is no model named '{name}'; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def network_of_weights(shapes: Mapping[str, Sequence[int]]) -> DaNetConfig:
    """The published network or ablation that a file's keys and shapes show, or the shipped compact one.

    'none' has the keys of 'gcn' and is taken for it; sizes other than the presets' are not seen.
    """
    has_small_parts = any(key.endswith("img2iuv.stride_of_parts") for key in shapes)
    return replace(_published_network(shapes), part_stride=2 if has_small_parts else 1)


def _published_network(shapes: Mapping[str, Sequence[int]]) -> DaNetConfig:
    net = "iuv2smpl.smpl_para_Outs."
    if any(".iuv_est.trunk." in key for key in shapes):
        is_first = not any(".iuv_est.keypoints." in key for key in shapes)  # before Thunder
        return replace(PRESETS["danet_s"], backbone="movenet") if is_first else PRESETS["danet_s"]
    backbone = "resnet" if any(".iuv_est.deconv_layers." in key for key in shapes) else "hrnet"
    stems = {key.split(net)[1].split(".")[0] for key in shapes if net in key}
    if "Conv_Body" in stems:
        return DaNetConfig(backbone=backbone, decomposed=False)
    raw = any(
        key.endswith(f"{net}mean_pose") and tuple(shape[-1:]) == (216,) for key, shape in shapes.items()
    )
    if "limb_lstm" in stems:
        return DaNetConfig(backbone=backbone, refinement="lstm" if "rot2pos" in stems else "lstm_direct")
    return DaNetConfig(backbone=backbone, refinement="gcn_direct" if raw else "gcn")


class DaNet(nn.Module):
    """DaNet: IUV estimator and SMPL regressor under the 2020 key names. Takes no labels and gives no losses."""

    def __init__(
        self,
        img2iuv: IUVEstimator,
        iuv2smpl: SMPLRegressor,
        partdrop_rate: float = 0.3,
        map_errors: float = 0.0,
        detach_maps: bool = False,
    ):
        super().__init__()
        self.img2iuv = img2iuv
        self.iuv2smpl = iuv2smpl
        self.partdrop_rate = partdrop_rate
        self.map_errors = map_errors
        self.detach_maps = detach_maps

    def forward(self, image: Float[Tensor, "B 3 224 224"], *, iuv_only: bool = False) -> DaNetOutput:
        """Raw maps and, unless `iuv_only`, the body.

        In training mode crops jitter, PartDrop hides parts from the regressor and auxiliary predictions are given.

        Args:
            image: RGB, normalised by `utils.images.network_input`; sides are multiples of 32 (224 in training).
            iuv_only: skip the regressor; `smpl` of the output is None.

        Raises:
            ValueError: for another shape.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % 32 or image.shape[3] != image.shape[2]:
            raise ValueError(
                f"DaNet takes square images [B, 3, 224, 224] (sides a multiple of 32), got {tuple(image.shape)}."
            )
        estimate = self.img2iuv(image)
        if iuv_only:
            return DaNetOutput(estimate, None)
        read = estimate.detach() if self.detach_maps else estimate
        return DaNetOutput(estimate, self._regress(read.iuv, read.part_iuv))

    def forward_rendered(self, iuv: IUVMaps, centers: Float[Tensor, "B 24 2"]) -> DaNetOutput:
        """The body of rendered maps [B,25,H,W] and true joint centres in [-1,1], instead of an image.

        It lets the regressor learn without the estimator, several times faster (`input_mode` iuv_gt: always), and
        shows its error on perfect maps. Centres outside the image are moved to its border. Part maps are
        cleaned as estimated ones are, for which the regressor then is ready; those of `iuv_gt` stay soft at their
        borders, as in 2020, so that the crops' sizes learn from all of them. In training `map_errors` puts errors on
        them.
        """
        if self.training and self.map_errors:
            iuv, centers = with_errors(iuv, centers, self.map_errors)
        part_iuv = self.img2iuv.render_parts(iuv, centers.clamp(-1, 1))
        return DaNetOutput(None, self._regress(iuv, part_iuv, clean_parts=not self.img2iuv.learn_crops))

    def forward_estimated(self, image: Float[Tensor, "B 3 224 224"]) -> DaNetOutput:
        """Raw maps of the estimator as it is, in evaluation mode and without gradients, and the body of them.

        It lets the regressor learn what the estimator's errors are like, at two thirds of the cost of a whole step.
        """
        is_training = self.img2iuv.training
        self.img2iuv.eval()
        with torch.no_grad():
            estimate = self.img2iuv(image)
        self.img2iuv.train(is_training)
        return DaNetOutput(estimate, self._regress(estimate.iuv, estimate.part_iuv))

    def _regress(self, iuv: IUVMaps, part_iuv: IUVMaps | None, clean_parts: bool = True) -> SMPLEstimate:
        """The body from raw maps; `part_iuv` is None in a network without parts."""
        if self.training and self.partdrop_rate:
            iuv, part_iuv = part_drop(iuv, part_iuv, self.partdrop_rate)
        if part_iuv is not None and clean_parts:
            part_iuv = iuvmap_clean(part_iuv.u, part_iuv.v, part_iuv.index)
        return self.iuv2smpl(iuvmap_clean(iuv.u, iuv.v, iuv.index), part_iuv)

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
    mean = load_mean_params(data_dir=data_dir)
    backbone = BACKBONES[cfg.backbone](cfg)
    make_estimator = IUVEstimator if cfg.decomposed else GlobalIUVEstimator
    estimator = make_estimator(
        backbone,
        *load_learned_ratio(data_dir=data_dir),
        cfg.vis_threshold,
        cfg.center_jitter,
        cfg.scale_jitter,
        learn_crops=cfg.decomposed and cfg.input_mode == "iuv_gt",
        part_stride=cfg.part_stride,
    )
    regressor = SMPLRegressor(_build_regressor(cfg, mean))
    return DaNet(estimator, regressor, cfg.partdrop_rate, cfg.map_errors, cfg.detach_maps)


def _build_regressor(cfg: DaNetConfig, mean: MeanParams) -> nn.Module:
    if not cfg.decomposed:
        return GlobalPredictor(cfg.body_width)
    zero_features = torch.cat([mean.cam, mean.betas])[None], mean.pose_6d[None]
    sizes = PartSizes(cfg.body_width, cfg.limb_width, cfg.features, cfg.part_stride)
    if cfg.refinement in LSTMS:
        return LSTMS[cfg.refinement](*zero_features, sizes)
    return GRAPHS[cfg.refinement](*zero_features, sizes, cfg.gcn_hidden)
