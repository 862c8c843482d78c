"""Weights that a training starts from: HRNet of pose estimation or ImageNet, ResNets of ImageNet (docs/method.md 3.6).

The files are the public ones, in `<data_dir>/pretrained_model`. Nothing is downloaded.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from torch import nn

from models.backbones.hrnet import HRNet
from models.backbones.movenet import MoveNetBackbone, load_movenet
from models.backbones.resnet import ResNet18, ResNetBackbone
from models.backbones.thunder import ThunderBackbone
from models.danet import DaNet
from utils.body import OPEN_DIR
from utils.checkpoint import LoadReport, load_checkpoint, load_matching, strip_prefixes
from utils.io import DataFileError

log = logging.getLogger(__name__)

CHOICES = ("coco", "imagenet", "none")
_HRNET = "the HRNet project, github.com/HRNet: "
_TORCHVISION = "torchvision, github.com/pytorch/vision: ImageNet weights"
THUNDER_WEIGHTS = OPEN_DIR / "movenet_thunder.safetensors"
# Public files: where they come from, and the names they go by, the usual one first.
FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "coco": (f"{_HRNET}human pose estimation, COCO, W48 256x192", ("pose_hrnet_w48_256x192.pth",)),
    "imagenet": (f"{_HRNET}image classification, HRNet-W48-C", ("hrnetv2_w48_imagenet_pretrained.pth",)),
    "resnet18": (
        _TORCHVISION, ("resnet18-5c106cde.pth", "resnet18-f37072fd.pth", "resnet18.pth")
    ),
    "resnet50": (
        _TORCHVISION,
        ("resnet50-19c8e357.pth", "resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth", "resnet50.pth"),
    ),
}  # fmt: skip
# First parts of the key names that a HRNet file gives; its own heads stay behind.
HRNET_PARTS = (
    "conv1", "bn1", "conv2", "bn2", "layer1",
    "transition1", "stage2", "transition2", "stage3", "transition3", "stage4",
)  # fmt: skip


def pretrained_parameters(model: DaNet) -> list[nn.Parameter]:
    """Parameters of the trunk that can come from pretrained files and then learn."""
    backbone = model.img2iuv.iuv_est
    if isinstance(backbone, ThunderBackbone):
        return backbone.learning_trunk()
    fresh = ("final_pred.", "neck.", "deconv_layers.")
    return [p for n, p in backbone.named_parameters() if not n.startswith(fresh)]


def start_weights(model: DaNet, pretr_set: str, data_dir: str | os.PathLike) -> None:
    """Give a fresh network what its training starts from.

    Args:
        pretr_set: as for `load_pretrained_backbones`, which may raise, or "auto": MoveNet's trunk, which is shipped,
            for a network that has it; else COCO's weights when they are there, with a warning when not.
    """
    trunk = model.img2iuv.iuv_est
    if isinstance(trunk, ThunderBackbone):
        load_movenet(trunk.released, THUNDER_WEIGHTS)
        if pretr_set in ("auto", "none"):
            return
    if isinstance(trunk, MoveNetBackbone) and pretr_set == "auto":
        load_movenet(trunk.trunk, OPEN_DIR / "movenet_trunk.safetensors")
        return
    try:
        load_pretrained_backbones(model, data_dir, "coco" if pretr_set == "auto" else pretr_set)
    except (FileNotFoundError, ValueError) as error:
        if pretr_set != "auto":
            raise
        log.warning("Training starts from fresh weights, which takes longer and ends worse. %s", error)


def find_weights(data_dir: str | os.PathLike, which: str) -> Path:
    """A file of `FILES` under one of its names. Raises FileNotFoundError that says where to get it."""
    folder, (origin, names) = Path(data_dir) / "pretrained_model", FILES[which]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder / names[0]} is missing. It comes from {origin}. Fetch it, or start from fresh weights."
    )


def load_pretrained_backbones(
    model: DaNet, data_dir: str | os.PathLike, which: str = "coco"
) -> tuple[LoadReport, ...]:
    """Give a fresh network the weights that the published training starts from; a report for each part.

    Trunks of the regressor start from ResNet-18, but for layers of another shape. After an error the network is
    unchanged.

    Args:
        which: "coco" or "imagenet" for the trunk of the IUV estimator (a resnet trunk has ImageNet's only), "none"
            leaves everything fresh and needs no file.

    Raises:
        ValueError: for another choice, a trunk without public weights, or a file that does not fit.
        FileNotFoundError: naming a missing file and its origin.
    """
    if which not in CHOICES:
        raise ValueError(f"There is no pretraining '{which}'; choose one of {', '.join(CHOICES)}.")
    if which == "none":
        return ()
    trunk, regressor = model.img2iuv.iuv_est, model.iuv2smpl
    if not isinstance(trunk, HRNet | ResNetBackbone):
        raise ValueError(
            f"No public weights are known for a trunk of the kind {type(trunk).__name__}; choose 'none' for it."
        )
    is_hrnet = isinstance(trunk, HRNet)
    trunk_file = find_weights(data_dir, which if is_hrnet else "resnet50")
    resnets = [module for module in regressor.modules() if isinstance(module, ResNet18)]
    resnet_file = find_weights(data_dir, "resnet18")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        require_same_sizes(trunk, trunk_file)
        if is_hrnet:
            start_small(model.img2iuv)
        skipped = () if is_hrnet else ("deconv_layers", "final_pred")
        reports = [load_matching(trunk, trunk_file, only=HRNET_PARTS if is_hrnet else (), skip=skipped)]
        reports += [load_matching(resnet, resnet_file, skip=("final_layer",)) for resnet in resnets]
    except ValueError:
        model.load_state_dict(before)
        raise
    return tuple(reports)


def require_same_sizes(trunk: nn.Module, path: Path) -> None:
    """Raise DataFileError for weights of another width, which would fit in a few layers only."""
    state, target = strip_prefixes(load_checkpoint(path)["model"], path), trunk.state_dict()
    other = [key for key, value in state.items() if key in target and value.shape != target[key].shape]
    if other:
        raise DataFileError(
            f"{path} belongs to a network of other sizes than this model's trunk: {len(other)} tensors differ in "
            f"shape, '{other[0]}' first."
        )


@torch.no_grad()
def start_small(module: nn.Module) -> None:
    """Convolutions N(0, 0.001) without bias, batch norm neutral: how the whole estimator starts before its trunk is
    loaded."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
