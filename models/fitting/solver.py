"""Damped Gauss-Newton for robust fits, batched over people (docs/method.md 14.3)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from models.fitting.points import FitState

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

START_DAMPING, MORE, LESS = 1e-2, 8.0, 0.3


@dataclass(frozen=True)
class Local:
    """An objective around a state: its value, and the normal equations of a step."""

    value: Float[Tensor, "B"]
    normal: Float[Tensor, "B 85 85"]
    descent: Float[Tensor, "B 85"]  # minus half the gradient


class Objective(Protocol):
    """What a fit makes small."""

    def at(self, state: FitState) -> Local:
        """Value and normal equations."""


def minimise(objective: Objective, state: FitState, here: Local, steps: int) -> tuple[FitState, Local]:
    """The state after some damped steps from `state`, and the objective there.

    A step that does not make a person's objective smaller is not taken, so no person ends worse.

    Args:
        here: the objective at the start.
        steps: tried for each person.
    """
    damping = torch.full_like(here.value, START_DAMPING)
    for _ in range(steps):
        diagonal = here.normal.diagonal(dim1=1, dim2=2)
        damped = here.normal + torch.diag_embed(damping[:, None] * diagonal + 1e-6)
        factor, info = torch.linalg.cholesky_ex(damped)
        step = torch.cholesky_solve(here.descent[..., None], factor)[..., 0]
        usable = (info == 0) & step.isfinite().all(dim=1)
        step = torch.where(usable[:, None], step, torch.zeros_like(step)).clamp(-0.5, 0.5)
        tried = state.moved(step)
        there = objective.at(tried)
        better = there.value < here.value  # False for what is not finite
        state = select(better, tried, state)
        here = select(better, there, here)
        damping = torch.where(better, damping * LESS, damping * MORE).clamp(1e-5, 1e5)
    return state, here


def select(mask: Bool[Tensor, "B"], yes, no):
    """The record whose rows are those of `yes` where the mask is set, and of `no` elsewhere."""
    names = [field.name for field in fields(yes)]
    return type(yes)(**{n: _rows(mask, getattr(yes, n), getattr(no, n)) for n in names})


def _rows(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (yes.ndim - 1)), yes, no)
