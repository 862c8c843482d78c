"""Scores on photographs: IoU with masks of people, and PCK of the limbs (docs/method.md 11.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation.limbs import center_rows, limb_scores, to_image
from models.evaluation.protocol import Protocol, body_rows
from models.evaluation.report import Score, Summary
from models.evaluation.resumable import Results
from models.inference.predictor import Predictor
from utils import report
from utils.geometry import CROP_SIZE, MAP_SIZE, project_to_crop
from utils.metrics import mask_iou
from utils.renderer import IUV_Renderer
from utils.skeleton import COCO17_LIMBS, GT24_TO_COCO17, NUM_OPENPOSE
from utils.structures import Batch, DaNetOutput

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8

    from models.evaluation.protocol import Crop, Rows

TITLES = {"map_iou": "IoU map", "body_iou": "IoU body"}
BOTH, ONLY_TRUE, ONLY_PREDICTED = (90, 200, 90), (240, 130, 20), (40, 90, 220)
LIMB_JOINTS = [NUM_OPENPOSE + GT24_TO_COCO17[joint] for joint in COCO17_LIMBS]


class PeopleInPhotographs(Protocol):
    """IoU of the map's foreground and of the body's silhouette with a person's mask; PCK where joints are labelled.

    Args:
        labels: of the people: `center`, `scale` and `keypoints` [N, 49, 3] or None.
        true_mask: number of a person -> its mask [56, 56] on the grid of the crop.
    """

    legend = "crop, body, map and body against the mask (green: both, orange: mask alone, blue: prediction alone)"
    averaged = tuple(TITLES)

    def __init__(self, predictor: Predictor, labels: Any, true_mask: Callable[[int], Bool[np.ndarray, "56 56"]]):
        self.predictor, self.labels, self.extra = predictor, labels, true_mask
        self.renderer = IUV_Renderer(atlas=predictor.assets.atlas)
        given = np.zeros((len(labels), NUM_OPENPOSE + 24, 3)) if labels.keypoints is None else labels.keypoints
        self.true = given[:, NUM_OPENPOSE:][:, list(GT24_TO_COCO17)]
        self.facts = {
            "truth": "masks of people" + ("" if labels.keypoints is None else " and keypoints"),
            "IoU": f"mean over people, on the {MAP_SIZE} x {MAP_SIZE} grid of the crop",
        }

    def score(self, output: DaNetOutput, batch: Batch, extras: Sequence[Bool[np.ndarray, "56 56"]]) -> Rows:
        params, true = output.smpl.params, np.stack(extras)
        body = self.predictor.smpl(params.rotmat, params.betas)
        masks = {"body": self.renderer.verts2uvimg(body.vertices, params.cam)[:, 0] > 0}
        if output.iuv is not None:
            masks["map"] = output.iuv.iuv.index.max(dim=1).indices > 0
        rows = {"limbs": to_image(project_to_crop(body.joints[:, LIMB_JOINTS], params.cam), batch)}
        for name, mask in masks.items():
            found = mask.cpu().numpy()
            packed = np.packbits(found.reshape(len(found), -1), axis=1)
            rows |= {f"{name}_iou": mask_iou(found, true), f"{name}_mask": packed}
        return {**rows, **center_rows(output, batch), **body_rows(params)}

    def scores(self, rows: Rows) -> tuple[Score, ...]:
        return tuple(Score(title, float(np.nanmean(rows[name]))) for name, title in TITLES.items() if name in rows)

    def summary(self, results: Results, names: Sequence[str]) -> Summary:
        rows = {name: results.of_scored(name) for name in TITLES if name in results.rows}
        points = results.rows["limbs"], results.rows.get("centers")
        scores = self.scores(rows) + limb_scores(*points, self.true, self.labels.scale)
        charts = tuple(report.histogram(f"{TITLES[name]} of people", values) for name, values in rows.items())
        return Summary(scores, -results.rows["body_iou"], charts)

    def compare(self, results: Results, index: int, crop: Crop) -> UInt8[np.ndarray, "224 W 3"]:
        true, sides = self.extra(index), []
        for name in ("map", "body"):
            if f"{name}_mask" in results.rows:
                found = np.unpackbits(results.rows[f"{name}_mask"][index]).reshape(true.shape) > 0
                sides.append(_against(found, true, crop))
        return np.concatenate(sides, axis=1)


def _against(found: np.ndarray, true: np.ndarray, crop: Crop) -> UInt8[np.ndarray, "224 224 3"]:
    """The crop, half of it colours that compare two masks of the grid."""
    image, times = crop.astype(np.float64), CROP_SIZE // MAP_SIZE
    for where, color in ((found & true, BOTH), (true & ~found, ONLY_TRUE), (found & ~true, ONLY_PREDICTED)):
        large = np.kron(where, np.ones((times, times), bool))
        image[large] = (image[large] + color) / 2
    return image.astype(np.uint8)
