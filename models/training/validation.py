"""Scores of a network on labelled batches, beside the mean pose (docs/method.md 11.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from models.danet import DaNet
from models.targets import TargetBuilder
from utils.geometry import CROP_SIZE, project_to_crop
from utils.metrics import iuv_scores, mpjpe, pa_mpjpe
from utils.skeleton import NUM_OPENPOSE
from utils.structures import Batch, SMPLOutput, Targets

if TYPE_CHECKING:
    from torch import Tensor

    from models.smpl import SMPL

HIPS = (2, 3)


def body_scores(pred: SMPLOutput, true: SMPLOutput) -> dict[str, Tensor]:
    """MPJPE and PA-MPJPE of the 24 annotated joints and PVE, metres, about the middle of the hips; one per sample."""

    def centred(points: Tensor, joints: Tensor) -> Tensor:
        return points - joints[:, [NUM_OPENPOSE + h for h in HIPS]].mean(dim=1, keepdim=True)

    a, b = (centred(j[:, NUM_OPENPOSE:], j) for j in (pred.joints, true.joints))
    return {
        "mpjpe": mpjpe(a, b),
        "pa_mpjpe": pa_mpjpe(a, b),
        "pve": mpjpe(centred(pred.vertices, pred.joints), centred(true.vertices, true.joints)),
    }


@torch.no_grad()
def score_batch(model: DaNet, targets: Targets, batch: Batch, smpl: SMPL) -> dict[str, Tensor]:
    """All scores of one batch, a number a sample."""
    output = model(batch.image)
    scores = iuv_scores(output.iuv.iuv, targets.iuv)
    inside = (targets.centers[..., :2].abs() < 1).all(dim=-1)
    distance = (output.iuv.centers - targets.centers[..., :2]).norm(dim=-1) * CROP_SIZE / 2
    scores["center_error_px"] = (distance * inside).sum(dim=1) / inside.sum(dim=1)
    params = output.smpl.params
    pred = smpl(params.rotmat, params.betas)
    scores |= body_scores(pred, smpl(targets.rotmat, targets.betas))
    offset = (project_to_crop(pred.joints, params.cam) - targets.keypoints[..., :2])[:, NUM_OPENPOSE:]
    scores["reprojection_px"] = offset.norm(dim=-1).mean(dim=1) * CROP_SIZE / 2
    return scores


def score(model: DaNet, batches: Iterable[Batch], build_targets: TargetBuilder) -> dict[str, float]:
    """Mean scores over labelled batches; the model is left in evaluation mode."""
    model.eval()
    return mean_scores(
        score_batch(model, build_targets(batch), batch, build_targets.smpl) for batch in batches
    )


def score_fixed_pose(
    pose: Tensor, batches: Iterable[Batch], build_targets: TargetBuilder
) -> dict[str, float]:
    """Body scores of one fixed pose [24,3,3] and mean shape, given the true root orientation: the floor to beat."""
    smpl = build_targets.smpl

    def scores(batch: Batch) -> dict[str, Tensor]:
        targets = build_targets(batch)
        rotmat = pose.expand(len(batch), -1, -1, -1).clone()
        rotmat[:, 0] = targets.rotmat[:, 0]
        fixed = smpl(rotmat, torch.zeros_like(targets.betas))
        return body_scores(fixed, smpl(targets.rotmat, targets.betas))

    return mean_scores(scores(batch) for batch in batches)


def mean_scores(scores: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Mean of each score over the samples that have it. Raises ValueError when there is no batch."""
    rows = list(scores)
    if not rows:
        raise ValueError("Nothing to score: the data set gave no batch.")
    return {name: torch.cat([row[name] for row in rows]).nanmean().item() for name in rows[0]}


def mean_rotations(rotmats: Tensor) -> Tensor:
    """Rotation means [24,3,3] of poses [N,24,3,3]: the nearest rotation to the mean matrix."""
    u, _, vt = torch.linalg.svd(rotmats.mean(dim=0))
    sign = torch.ones(len(u), 3)
    sign[:, 2] = torch.det(u @ vt)
    return (u * sign[:, None]) @ vt
