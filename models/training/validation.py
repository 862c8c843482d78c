"""Scores of a network on labelled batches (docs/method.md 11.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.danet import DaNet
from models.targets import TargetBuilder
from utils.body import Surface, open_surface, point_similarity
from utils.geometry import CROP_SIZE, project_to_crop
from utils.iuvmap import iuv_map2img
from utils.metrics import iuv_scores, mpjpe, pa_mpjpe
from utils.skeleton import NUM_OPENPOSE, NUM_PARTS
from utils.structures import Batch, SMPLOutput

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

HIPS = [NUM_OPENPOSE + 2, NUM_OPENPOSE + 3]
# Every so many pixels of a true map one is compared; odd, so that they are no columns of the map.
POINT_STEP = 61


def body_scores(pred: SMPLOutput, true: SMPLOutput) -> dict[str, Tensor]:
    """MPJPE and PA-MPJPE of the 24 annotated joints and PVE, metres [B], about the middle of the hips."""
    a, b = (body.joints - body.joints[:, HIPS].mean(dim=1, keepdim=True) for body in (pred, true))
    a_vertices, b_vertices = (
        body.vertices - body.joints[:, HIPS].mean(dim=1, keepdim=True) for body in (pred, true)
    )
    a, b = a[:, NUM_OPENPOSE:], b[:, NUM_OPENPOSE:]
    return {"mpjpe": mpjpe(a, b), "pa_mpjpe": pa_mpjpe(a, b), "pve": mpjpe(a_vertices, b_vertices)}


def map_gps(
    surface: Surface, true: Float[Tensor, "B 3 H W"], predicted: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B"]:
    """GPS at every `POINT_STEP`th pixel of the true IUV images' bodies (part/24, U, V); NaN without such a pixel."""
    points = [image.flatten(2)[..., ::POINT_STEP].double().cpu().numpy() for image in (true, predicted)]
    scores = []
    for known, found in zip(*points, strict=True):
        seen = known[0] > 0
        known, found = (
            (np.rint(part[seen] * NUM_PARTS).astype(np.int64), u[seen], v[seen]) for part, u, v in (known, found)
        )
        scores.append(point_similarity(surface, known, found).mean() if seen.any() else np.nan)
    return torch.tensor(scores, dtype=torch.float32, device=true.device)


def score_batch(model: DaNet, batch: Batch, build_targets: TargetBuilder) -> dict[str, Tensor]:
    """All scores of a batch of rendered people, who have the open body, each [B]."""
    output, targets, smpl = model(batch.image), build_targets(batch), build_targets.smpl
    scores = iuv_scores(output.iuv.iuv, targets.iuv)
    inside = (targets.centers[..., :2].abs() < 1).all(dim=-1)
    distance = (output.iuv.centers - targets.centers[..., :2]).norm(dim=-1) * CROP_SIZE / 2
    scores["center_error_px"] = (distance * inside).sum(dim=1) / inside.sum(dim=1)
    params = output.smpl.params
    pred = smpl(params.rotmat, params.betas)
    true_body = smpl(targets.rotmat, targets.betas)
    scores |= body_scores(pred, true_body)
    of_true_maps = model.forward_rendered(targets.iuv, targets.centers[..., :2]).smpl.params
    from_true_maps = body_scores(smpl(of_true_maps.rotmat, of_true_maps.betas), true_body)
    scores["pa_mpjpe_true_maps"] = from_true_maps["pa_mpjpe"]
    render, surface, true = build_targets.iuv_renderer.verts2uvimg, open_surface(), iuv_map2img(*targets.iuv)
    scores["gps"] = map_gps(surface, true, iuv_map2img(*output.iuv.iuv))
    scores["body_gps"] = map_gps(surface, true, render(pred.vertices, params.cam))
    offset = (project_to_crop(pred.joints, params.cam) - targets.keypoints[..., :2])[:, NUM_OPENPOSE:]
    scores["reprojection_px"] = offset.norm(dim=-1).mean(dim=1) * CROP_SIZE / 2
    return scores


@torch.no_grad()
def score(model: DaNet, batches: Iterable[Batch], build_targets: TargetBuilder) -> dict[str, float]:
    """Mean scores over labelled batches; the model is left in evaluation mode. Raises ValueError without a batch."""
    model.eval()
    return mean_scores(score_batch(model, batch, build_targets) for batch in batches)


def mean_scores(scores: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Mean of each score over the samples that have it. Raises ValueError when there is no batch."""
    rows = list(scores)
    if not rows:
        raise ValueError("Nothing to score: the data set gave no batch.")
    return {name: torch.cat([row[name] for row in rows]).nanmean().item() for name in rows[0]}
