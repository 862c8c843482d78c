"""Learning rate as a function of the step, and the moving average of the weights that ships (docs/method.md 7.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from utils.config import option, require_range


@dataclass(frozen=True)
class OptimConfig:
    """Learning rate, schedule and weight average; the defaults are the published ones (Adam)."""

    base_lr: float = option(1e-4, "learning rate")
    lr_schedule: str = option("step", "learning rate over time", choices=("step", "cosine"))
    lr_steps: tuple[int, ...] = option((30000, 60000), "steps at which the rate falls")
    lr_gamma: float = option(0.1, "factor of each fall")
    warmup_steps: int = option(0, "steps over which the rate rises")
    backbone_lr_factor: float = option(1.0, "factor on the rate of the pretrained trunk")
    freeze_backbone: int = option(0, "first steps that leave the trunk alone")
    ema_decay: float = option(0.0, "moving average of the weights; 0: none")

    def __post_init__(self) -> None:
        require_range(self, 0, 1e3, "base_lr", "lr_gamma", "backbone_lr_factor")
        require_range(self, 0, 1, "ema_decay")
        require_range(self, 0, 2**62, "lr_steps", "warmup_steps", "freeze_backbone")
        for name in ("base_lr", "lr_gamma"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is 0: the weights would never move.")
        if self.ema_decay == 1:
            raise ValueError("--ema_decay must stay below 1: at 1 the average would never move.")

    def without_effect(self) -> dict[str, str]:
        """Settings that were changed and change nothing: {name: reason}."""
        names = ("lr_steps", "lr_gamma") if self.lr_schedule == "cosine" else ()
        changed = [name for name in names if getattr(self, name) != getattr(OptimConfig(), name)]
        return dict.fromkeys(changed, "the rate follows a cosine")

    def factor(self, step: int, total_steps: int) -> float:
        """Factor on the base rate after `step` finished steps; resuming needs no other state.

        "step": times `lr_gamma` at each of `lr_steps` (published). "cosine": from 1 down to 0.01 at `total_steps`.
        The first `warmup_steps` rise linearly.
        """
        factor = self.lr_gamma ** sum(step >= s for s in self.lr_steps)
        if self.lr_schedule == "cosine":
            progress = min(step / max(total_steps, 1), 1.0)
            factor = 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
        return factor * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else factor


class WeightAverage:
    """Exponential moving average of a model's weights and statistics.

    Early on the average follows faster, so that it never holds on to the fresh weights.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights of now."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, weight)
            else:
                self.state[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"state": self.state, "updates": self.updates}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from `state_dict`'s data."""
        self.updates = saved["updates"]
        for key, value in saved["state"].items():
            self.state[key].copy_(value)
