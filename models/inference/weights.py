"""From a weights file to a regressor of bodies: which network it belongs to, building it, loading it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models.danet import PRESETS, DaNetConfig, build_danet, network_of_weights, preset
from models.hmr import build_hmr
from models.inference.predictor import bounded
from utils.body import OPEN_DIR
from utils.checkpoint import LoadReport, load_checkpoint, load_danet, strip_prefixes
from utils.io import safetensors_shapes
from utils.structures import SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)

REGRESSORS = ("danet", "hmr")


def network_of(model: str | None, checkpoint: str | None) -> DaNetConfig:
    """The named network, or the one that the checkpoint belongs to; the shipped one without either.

    Raises ValueError for a damaged file.
    """
    if model is None and checkpoint is not None and Path(checkpoint).is_file():
        return _network_in(Path(checkpoint))
    return preset(model or "danet_s")


def _network_in(path: Path) -> DaNetConfig:
    """What a weights file says of itself, or what its keys show; of a .safetensors file only the header is read."""
    if path.suffix != ".safetensors":
        state = strip_prefixes(load_checkpoint(path)["model"], path)
        return network_of_weights({key: tuple(value.shape) for key, value in state.items()})
    shapes, meta = safetensors_shapes(path)
    said = meta.get("model")
    return preset(said) if said in PRESETS else network_of_weights(shapes)


def weights_file(checkpoint: str | None) -> Path:
    """The user's weights, or the shipped ones. Raises FileNotFoundError when the checkout lacks those."""
    path = Path(checkpoint) if checkpoint else OPEN_DIR / "danet_s.safetensors"
    if checkpoint is None and not path.is_file():
        raise FileNotFoundError(
            f"The shipped weights {path} are missing. They come with the repository: restore them with "
            "'git checkout -- data/open', clone it again, or give other weights by --checkpoint FILE."
        )
    return path


def warn_of_another_body(learned_on: str | None, used: str) -> None:
    """Say so when the weights name another body than the one that will be posed."""
    if learned_on and learned_on != used:
        log.warning(
            "The weights were learned on the body '%s', but this run poses '%s': shapes, and IUV of the "
            "body, will not fit the person. Give --body %s to match.",
            learned_on, used, "smpl" if learned_on == "smpl" else "open",
        )  # fmt: skip


@dataclass(frozen=True)
class PretrainedRegressor:
    """A loaded network as a function of normalised crops, and what became of its weights file."""

    predict: Callable[[Float[Tensor, "B 3 224 224"]], SMPLParams]
    weights: LoadReport
    name: str  # "danet" or "hmr"


def load_regressor(
    name: str,
    checkpoint: str | None,
    network: DaNetConfig,
    data_dir: str | os.PathLike,
    device: torch.device,
) -> PretrainedRegressor:
    """Build a regressor in its inference form and load its weights.

    `network` are the sizes of "danet"; "hmr" has one size. Without a checkpoint "danet" takes the shipped weights.
    Raises ValueError for an unknown name or "hmr" without a checkpoint, and what `load_danet` raises.
    """
    if name == "danet":
        model = build_danet(network, data_dir)
        weights = load_danet(model, weights_file(checkpoint))
        fast = model.to(device).prepare_for_inference()
        return PretrainedRegressor(lambda image: bounded(fast(image).smpl.params), weights, name)
    if name != "hmr":
        raise ValueError(f"There is no regressor '{name}'; choose one of {', '.join(REGRESSORS)}.")
    if checkpoint is None:
        raise ValueError("No weights of the HMR baseline ship with the project; give --checkpoint FILE.")
    baseline = build_hmr(data_dir)
    weights = load_danet(baseline, checkpoint)
    fixed = baseline.to(device).eval().requires_grad_(False)
    return PretrainedRegressor(lambda image: bounded(fixed(image)), weights, name)
