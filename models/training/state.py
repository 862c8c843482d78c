"""The state of a training: model, optimiser, moving average and step."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.danet import DaNet, DaNetConfig, build_danet
from models.training.optim import OptimConfig, WeightAverage
from models.training.pretrained_backbones import pretrained_parameters, start_weights
from utils.checkpoint import export_safetensors, load_danet
from utils.config import to_dict

log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """Network, optimiser, moving average and step number: all that a step depends on beside seed and settings.

    The sampler's position and random numbers are functions of the step (`datasets.sampler`, `seed_step`).
    """

    model: DaNet
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    step: int = 0  # finished ones

    def shipped_weights(self) -> dict[str, Tensor]:
        """The moving average where there is one, else the weights."""
        return self.average.state if self.average else self.model.state_dict()

    def set_rates(self, optim: OptimConfig, total_steps: int) -> None:
        """Set the learning rates of the next step; a frozen trunk gets no gradient."""
        rate = optim.base_lr * optim.factor(self.step, total_steps)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate * parameters["factor"]
        for parameter in pretrained_parameters(self.model):
            parameter.requires_grad_(self.step >= optim.freeze_backbone)

    def advance(self) -> None:
        """Apply the gradients: step the optimiser, the counter and the moving average."""
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


def make_optimizer(model: DaNet, base_lr: float, backbone_lr_factor: float) -> torch.optim.Optimizer:
    """Adam with a second group for the trunk, whose rate is `backbone_lr_factor` times the other's."""
    trunk = pretrained_parameters(model)
    in_trunk = {id(p) for p in trunk}
    rest = [p for p in model.parameters() if id(p) not in in_trunk and p.requires_grad]
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

    Args:
        whole: weights of a whole model; else `start_weights` gives those of `pretr_set`.
        continued: a checkpoint gives the weights instead.

    Raises:
        ValueError, FileNotFoundError: see `load_danet` and `start_weights`.
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
    """Write the weights in the form that demo.py reads: float16 kernels and text about them.

    Args:
        name: of the model, a key of `models.danet.PRESETS`.
        network: its sizes.
        body: model id of the body that it was trained on.
        scores: of the last evaluation, by name; may be empty.
    """
    meta = {
        "model": name,
        "body": body,
        "step": str(state.step),
        "network": json.dumps(to_dict(network)),
        "scores": json.dumps(scores),
    }
    export_safetensors(path, state.shipped_weights(), meta)
    log.info("Wrote %s", path)
