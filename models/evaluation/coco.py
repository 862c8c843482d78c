"""COCO keypoint results and their AP and AR, by pycocotools (docs/method.md 11.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.evaluation.average_precision import STAT_NAMES, average_precision
from models.evaluation.limbs import center_rows, limb_scores, to_image
from models.evaluation.protocol import Protocol, body_rows
from models.evaluation.report import PREDICTED, TRUE, Score, Summary, draw_bones
from models.evaluation.resumable import Results
from models.inference.predictor import Predictor
from utils import report
from utils.geometry import BOX_MARGIN, BOX_UNIT, CROP_SIZE, project_to_crop
from utils.metrics import pck
from utils.skeleton import COCO17_LIMBS, GT24_TO_COCO17, NUM_KEYPOINTS, NUM_OPENPOSE
from utils.structures import Batch, DaNetOutput

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from models.evaluation.protocol import Crop, Rows

PERSON = 1
PCK_SHARE = 0.1  # of the box's longer side
BONES_COCO17 = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (5, 6), (11, 12), (5, 11),
                (6, 12), (0, 1), (0, 2), (1, 3), (2, 4))  # fmt: skip


def coco_results(
    image_ids: Int[np.ndarray, "N"],
    keypoints: Float[np.ndarray, "N 17 2"],
    scores: Float[np.ndarray, "N"],
    centers: Float[np.ndarray, "N 2"],
    scales: Float[np.ndarray, "N"],
) -> list[dict[str, Any]]:
    """Rows of a COCO results file, each keypoint with the score 1.

    Args:
        keypoints: x, y in pixels of the image.
        scores: of the people.
        centers: of their boxes, pixels.
        scales: sides of the boxes / 200 px.
    """
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


class Keypoints(Protocol):
    """COCO's AP and AR of the 17 keypoints, and PCK of the limbs by the torso where the boxes are annotated ones.

    Args:
        labels: of the people: `image_id`, `score`, `center`, `scale` and `keypoints` [N, 49, 3] (None for detections).
        truth, image_ids: as in `average_precision`.
    """

    legend = "crop, predicted body, keypoints (predicted blue, true orange)"

    def __init__(self, predictor: Predictor, labels: Any, truth: dict[str, Any], image_ids: Sequence[int]):
        self.predictor = predictor
        self.labels, self.truth, self.image_ids = labels, truth, image_ids
        given = np.zeros((len(labels), NUM_KEYPOINTS, 3)) if labels.keypoints is None else labels.keypoints
        self.true = given[:, NUM_OPENPOSE:][:, list(GT24_TO_COCO17)]  # pixels of the image, visibility

    def score(self, output: DaNetOutput, batch: Batch, extras: Sequence[Any] = ()) -> Rows:
        params = output.smpl.params
        joints = self.predictor.smpl(params.rotmat, params.betas).joints[:, NUM_OPENPOSE:][:, GT24_TO_COCO17]
        keypoints = to_image(project_to_crop(joints, params.cam), batch)
        return {"keypoints": keypoints, **center_rows(output, batch), **body_rows(params)}

    def rows(self, results: Results) -> list[dict[str, Any]]:
        """Rows of a COCO results file of the people that were scored."""
        labels, scored = self.labels, results.scored > 0
        fields = (labels.score, labels.center, labels.scale)
        return coco_results(
            np.asarray(labels.image_id)[scored], results.of_scored("keypoints"), *(f[scored] for f in fields)
        )

    def right_shares(self, results: Results) -> Float[np.ndarray, "N"]:
        """Share of each person's visible keypoints within `PCK_SHARE`; NaN for those not scored or not labelled."""
        size = self.labels.scale * BOX_UNIT / BOX_MARGIN
        arrays = (results.rows["keypoints"], self.true[..., :2], self.true[..., 2] > 0, size)
        return np.where(results.scored > 0, pck(*map(torch.from_numpy, arrays), PCK_SHARE).numpy(), np.nan)

    def summary(self, results: Results, names: Sequence[str]) -> Summary:
        found = average_precision(self.truth, self.rows(results), self.image_ids)
        scores, shares = tuple(Score(name, found[name]) for name in STAT_NAMES), self.right_shares(results)
        limbs = results.rows["keypoints"][:, COCO17_LIMBS]
        scores += limb_scores(limbs, results.rows.get("centers"), self.true, self.labels.scale)
        chart = report.histogram(f"PCK of people, within {PCK_SHARE:g} of the box's longer side", shares)
        return Summary(scores, -shares, (chart,))

    def caption(self, results: Results, index: int) -> str:
        return f"PCK {self.right_shares(results)[index]:.2f}"

    def compare(self, results: Results, index: int, crop: Crop) -> Crop:
        center, side = self.labels.center[index], self.labels.scale[index] * BOX_UNIT
        true, visible = self.true[index, :, :2], self.true[index, :, 2:] > 0
        image = crop.copy()
        for points, color in ((np.where(visible, true, np.nan), TRUE), (results.rows["keypoints"][index], PREDICTED)):
            draw_bones(image, (points - center) * (CROP_SIZE / side) + CROP_SIZE / 2, BONES_COCO17, color)
        return image
