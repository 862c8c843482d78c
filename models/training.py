"""What a training run carries from step to step, and how it is written to and read from disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.danet import DaNet, DaNetConfig
from utils.checkpoint import export_safetensors, find_latest
from utils.config import to_dict
from utils.optim import WeightAverage


class Stage(Enum):
    """IUV: the estimator alone. RENDERED: the regressor alone, on rendered maps. JOINT: everything."""

    IUV = auto()
    RENDERED = auto()
    JOINT = auto()


def pretrained_parameters(model: DaNet) -> list[nn.Parameter]:
    """Parameters of the trunk: those that can come from pretrained files."""
    fresh = ("final_pred.", "neck.")
    return [p for n, p in model.img2iuv.iuv_est.named_parameters() if not n.startswith(fresh)]


def make_optimizer(model: DaNet, base_lr: float, backbone_lr_factor: float) -> torch.optim.Optimizer:
    """Adam with a second group for the trunk, whose rate is `backbone_lr_factor` times the other's."""
    trunk = pretrained_parameters(model)
    in_trunk = {id(p) for p in trunk}
    rest = [p for p in model.parameters() if id(p) not in in_trunk]
    groups = [{"params": rest, "factor": 1.0}, {"params": trunk, "factor": backbone_lr_factor}]
    return torch.optim.Adam(groups, lr=base_lr)


@dataclass
class TrainingState:
    """Model, optimiser, moving average and global step; with the random state, all that a step depends on."""

    model: DaNet
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    step: int = 0

    def shipped_weights(self) -> dict[str, Tensor]:
        """The moving average where there is one, else the weights."""
        return self.average.state if self.average else self.model.state_dict()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint; "model", "optimizer" and "total_step_count" are the 2020 names."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "total_step_count": self.step,
            "rng_state": torch.get_rng_state(),
            "cuda_rng_state": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from `to_dict`'s data, random numbers included."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["total_step_count"]
        if self.average and saved["average"]:
            self.average.load_state_dict(saved["average"])
        torch.set_rng_state(saved["rng_state"])
        if torch.cuda.is_available() and saved["cuda_rng_state"]:
            torch.cuda.set_rng_state_all(saved["cuda_rng_state"])


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


def newest_run(log_dir: str, name: str) -> Path:
    """Folder of the newest run of this name that has a checkpoint. Raises FileNotFoundError when there is none."""
    folders = sorted((Path(log_dir) / name).glob("log_*"), key=lambda path: path.stat().st_mtime)
    for folder in reversed(folders):
        if find_latest(folder / "checkpoints"):
            return folder
    raise FileNotFoundError(
        f"--resume: no checkpoint of a run named '{name}' in {log_dir}. Start it without --resume."
    )
