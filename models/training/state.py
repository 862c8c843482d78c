"""What a training run carries from step to step, what it starts from, and how it is written to disk."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.movenet import MoveNetBackbone, load_movenet_trunk
from models.danet import DaNet, DaNetConfig, build_danet
from models.training.optim import OptimConfig, WeightAverage
from models.training.pretrained_backbones import load_pretrained_backbones
from utils.body import OPEN_DIR
from utils.checkpoint import export_safetensors, load_danet, save_checkpoint
from utils.config import to_dict

log = logging.getLogger(__name__)


# -------------------------------------------------------------------------------------------------- weights


def start_weights(model: DaNet, pretr_set: str, data_dir: str | os.PathLike) -> None:
    """Give a fresh network what its training starts from: MoveNet's trunk is shipped, others are public files.

    pretr_set: "auto" takes COCO's weights when they are there, and says so when not; else as for
    `load_pretrained_backbones`, whose errors it raises.
    """
    trunk = model.img2iuv.iuv_est
    if isinstance(trunk, MoveNetBackbone) and pretr_set == "auto":
        load_movenet_trunk(trunk.trunk, OPEN_DIR / "movenet_trunk.safetensors")
    elif pretr_set == "auto":
        try:
            load_pretrained_backbones(model, data_dir, "coco")
        except (FileNotFoundError, ValueError) as error:
            log.warning("Training starts from fresh weights, which takes longer and ends worse. %s", error)
    else:
        load_pretrained_backbones(model, data_dir, pretr_set)


def pretrained_parameters(model: DaNet) -> list[nn.Parameter]:
    """Parameters of the trunk: those that can come from pretrained files."""
    fresh = ("final_pred.", "neck.", "deconv_layers.")
    return [p for n, p in model.img2iuv.iuv_est.named_parameters() if not n.startswith(fresh)]


def make_optimizer(model: DaNet, base_lr: float, backbone_lr_factor: float) -> torch.optim.Optimizer:
    """Adam with a second group for the trunk, whose rate is `backbone_lr_factor` times the other's."""
    trunk = pretrained_parameters(model)
    in_trunk = {id(p) for p in trunk}
    rest = [p for p in model.parameters() if id(p) not in in_trunk]
    groups = [{"params": rest, "factor": 1.0}, {"params": trunk, "factor": backbone_lr_factor}]
    # One pass over the weights instead of ten; on a CPU that is a tenth of a step.
    return torch.optim.Adam(groups, lr=base_lr, fused=rest[0].device.type in ("cpu", "cuda"))


def build_state(
    net: DaNetConfig,
    optim: OptimConfig,
    device: torch.device,
    data_dir: str | os.PathLike,
    *,
    whole: str = "",
    pretr_set: str = "auto",
    continued: bool = False,
) -> TrainingState:
    """Network, Adam and moving average at step 0, on a device.

    whole: weights of a whole model; else `start_weights` gives the first ones, unless the state is to be `continued`.
    """
    model = build_danet(net, data_dir)
    if whole:
        log.info("Starting from %s", load_danet(model, whole))
    elif not continued:
        start_weights(model, pretr_set, data_dir)
    model = model.to(device, memory_format=torch.channels_last)
    average = WeightAverage(model, optim.ema_decay) if optim.ema_decay else None
    return TrainingState(model, make_optimizer(model, optim.base_lr, optim.backbone_lr_factor), average)


def export_weights(
    path: Path, state: TrainingState, name: str, network: DaNetConfig, body: str, scores: dict[str, float]
) -> None:
    """Write the weights in the form that demo.py reads: float16 kernels and what the file is about."""
    meta = {
        "model": name,
        "body": body,
        "step": str(state.step),
        "network": json.dumps(to_dict(network)),
        "scores": json.dumps(scores),
    }
    export_safetensors(path, state.shipped_weights(), meta)


# ---------------------------------------------------------------------------------------- state and checkpoints


@dataclass
class TrainingState:
    """Model, optimiser, moving average and global step: all that a step depends on, with seed and settings.

    Sampler position and random numbers are functions of the step (`datasets.sampler`, `seed_step`).
    """

    model: DaNet
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    step: int = 0

    def shipped_weights(self) -> dict[str, Tensor]:
        """The moving average where there is one, else the weights."""
        return self.average.state if self.average else self.model.state_dict()

    def set_rates(self, optim: OptimConfig, total_steps: int) -> None:
        """Learning rates of the next step; a frozen trunk gets no gradient."""
        rate = optim.base_lr * optim.factor(self.step, total_steps)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate * parameters["factor"]
        for parameter in pretrained_parameters(self.model):
            parameter.requires_grad_(self.step >= optim.freeze_backbone)

    def advance(self) -> None:
        """Change the weights by their gradients: a step is done."""
        self.optimizer.step()
        self.step += 1
        if self.average:
            self.average.update(self.model)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint; "model", "optimizer" and "total_step_count" are the 2020 names."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "total_step_count": self.step,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from `to_dict`'s data, which `models.training.resuming.require_state` has checked.

        Rates and factors are those of now; of the optimiser its moments are taken.
        """
        self.model.load_state_dict(saved["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": groups})
        for parameter, moments in self.optimizer.state.items():
            # The fused step walks through memory: moments must lie as their parameter does.
            for name, value in moments.items():
                if value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter).copy_(value)
        self.step = saved["total_step_count"]
        if self.average and saved.get("average"):
            self.average.load_state_dict(saved["average"])


def write_checkpoint(
    folder: Path,
    state: TrainingState,
    settings: dict[str, Any],
    epoch_size: int,
    batch_size: int,
    start: dict[str, Any],
) -> Path:
    """Write a run's state with its settings as `folder`/<step>.pt, whole or not at all; returns the path.

    start: number and time of the run's start, as `note_start` gives them.

    Raises FloatingPointError for weights that are not finite, OSError with a sentence when the disk refuses.
    """
    path = folder / f"{state.step:08d}.pt"
    epoch, batch_index = divmod(state.step, epoch_size // batch_size)
    # The names of 2020; the order of samples follows from epoch and seed, so no permutation is stored.
    place = {"epoch": epoch, "batch_idx": batch_index, "batch_size": batch_size, "dataset_perm": None}
    content = state.to_dict() | place | {"epoch_size": epoch_size, "config": settings, "start": start}
    bad = [n for n, v in content["model"].items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if bad:
        raise FloatingPointError(
            f"{len(bad)} tensors of the weights are not finite at step {content['total_step_count']}, the first is "
            f"{bad[0]}: no checkpoint was written. Lower --base_lr, or --resume from the checkpoint before."
        )
    try:
        save_checkpoint(path, content)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
        system = error.__cause__ or error  # the sentence about the temporary file has the system's error behind it
        reason = getattr(system, "strerror", None) or str(error).splitlines()[0]
        raise OSError(
            f"The checkpoint {path} could not be written ({reason}). Earlier ones are untouched: make room on the "
            "disk and continue with --resume."
        ) from error
    return path
