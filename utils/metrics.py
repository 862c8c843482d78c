"""Scores of predictions; they know neither networks nor losses. Metres in, metres out (printed in mm elsewhere).

method.md 11. All functions take whole batches and give one number a sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from utils.structures import IUVMaps

if TYPE_CHECKING:
    from jaxtyping import Float


def mpjpe(pred: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Float[Tensor, "B"]:
    """Mean distance of corresponding joints; the caller aligns the roots."""
    return (pred - target).norm(dim=-1).mean(dim=-1)


def similarity_align(
    source: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]
) -> Float[Tensor, "B J 3"]:
    """`source` after the best rotation, scale and shift onto `target` (Procrustes, never a reflection)."""
    mean_source, mean_target = source.mean(dim=1, keepdim=True), target.mean(dim=1, keepdim=True)
    x, y = source - mean_source, target - mean_target
    u, singular, vt = torch.linalg.svd(x.transpose(1, 2) @ y)
    sign = torch.ones_like(singular)
    sign[:, -1] = torch.det(u @ vt).sign()
    rotation = (u * sign[:, None]) @ vt
    scale = (singular * sign).sum(dim=1) / x.square().sum(dim=(1, 2)).clamp(min=1e-12)
    return scale[:, None, None] * (x @ rotation) + mean_target


def pa_mpjpe(pred: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Float[Tensor, "B"]:
    """MPJPE after similarity alignment, in float64 as the singular values ask for."""
    pred, target = pred.double(), target.double()
    return mpjpe(similarity_align(pred, target), target).float()


def iuv_scores(pred: IUVMaps, target: IUVMaps) -> dict[str, Float[Tensor, "B"]]:
    """Foreground IoU, part accuracy on the true foreground, and U/V error where the part is right.

    Maps are [B,25,H,W]. A picture without a body scores NaN, so that a mean can leave it out.
    """
    pred_part, part = pred.index.argmax(dim=1), target.index.argmax(dim=1)
    pred_body, body = pred_part > 0, part > 0
    right = body & (pred_part == part)

    def at_part(maps: Tensor) -> Tensor:
        return maps.gather(1, part[:, None])[:, 0]

    error = ((at_part(pred.u) - at_part(target.u)).abs() + (at_part(pred.v) - at_part(target.v)).abs()) / 2

    def per_sample(values: Tensor, count: Tensor) -> Tensor:
        return values.flatten(1).sum(dim=1).double().div(count.flatten(1).sum(dim=1)).float()

    return {
        "foreground_iou": per_sample(pred_body & body, pred_body | body),
        "part_accuracy": per_sample(right, body),
        "uv_error": per_sample(error * right, right),
    }
