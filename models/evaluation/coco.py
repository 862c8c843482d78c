"""COCO keypoint results and their AP and AR, by pycocotools (docs/method.md 11.3)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

if TYPE_CHECKING:
    from jaxtyping import Float, Int

PERSON = 1
STAT_NAMES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")


def coco_results(
    image_ids: Int[np.ndarray, "N"],
    keypoints: Float[np.ndarray, "N 17 2"],
    scores: Float[np.ndarray, "N"],
    centers: Float[np.ndarray, "N 2"],
    scales: Float[np.ndarray, "N"],
) -> list[dict[str, Any]]:
    """Rows of a COCO results file: keypoints in pixels of the picture, each with the score 1."""
    ones = np.ones((*keypoints.shape[:2], 1))
    flat = np.concatenate([keypoints, ones], axis=2).reshape(len(keypoints), -1)
    return [
        {
            "image_id": int(image),
            "category_id": PERSON,
            "keypoints": points.tolist(),
            "score": float(score),
            "center": [float(c) for c in center],
            "scale": [float(scale), float(scale)],
        }
        for image, points, score, center, scale in zip(image_ids, flat, scores, centers, scales, strict=True)
    ]


def keypoint_ap(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], image_ids: Sequence[int]
) -> dict[str, float]:
    """The ten COCO numbers over the given images, as fractions; NaN where the annotations have no such person.

    truth: whole and checked annotations, keypoints in COCO's order (`datasets.labels.coco.truth_for_pycocotools`).
    """
    if not results:
        return dict.fromkeys(STAT_NAMES, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it tells its progress line by line
        annotations = COCO()
        annotations.dataset = truth
        annotations.createIndex()
        evaluation = COCOeval(annotations, annotations.loadRes(list(results)), "keypoints")
        evaluation.params.imgIds = sorted(set(image_ids))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {
        name: float(value) if value >= 0 else float("nan")
        for name, value in zip(STAT_NAMES, evaluation.stats, strict=True)
    }
