"""COCO keypoint results and their AP and AR, by pycocotools (method.md 11 and 15.9)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.safe_io import DataFileError

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
    ann_file: str | Path, results: Sequence[dict[str, Any]], image_ids: Sequence[int]
) -> dict[str, float]:
    """The ten COCO numbers over the given images, as fractions; NaN where the annotations have no such person.

    Raises DataFileError when pycocotools cannot use the annotations.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it tells its progress line by line
        try:
            truth = COCO(str(ann_file))
            unknown = sorted(set(image_ids) - set(truth.getImgIds()))
            if unknown:
                raise DataFileError(
                    f"{ann_file} does not know {len(unknown)} of the {len(set(image_ids))} evaluated images, "
                    f"first the id {unknown[0]}. Give the annotations of these pictures."
                )
            if not results:
                return dict.fromkeys(STAT_NAMES, 0.0)
            evaluation = COCOeval(truth, truth.loadRes(list(results)), "keypoints")
            evaluation.params.imgIds = sorted(set(image_ids))
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        except (KeyError, TypeError, IndexError, AttributeError, AssertionError, ValueError) as error:
            if isinstance(error, DataFileError):
                raise
            raise DataFileError(
                f"{ann_file} cannot be used as COCO keypoint annotations ({type(error).__name__}: {error})."
            ) from error
    return {
        name: float(value) if value >= 0 else float("nan")
        for name, value in zip(STAT_NAMES, evaluation.stats, strict=True)
    }
