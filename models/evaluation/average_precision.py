"""COCO's AP and AR by pycocotools, for keypoints and for any other similarity of people (docs/method.md 11.3, 11.6)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

if TYPE_CHECKING:
    from jaxtyping import Float

STAT_NAMES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
SAME_BOX = 0.8  # IoU with the box of a person who is not annotated, above which a detection is no mistake


class SimilarityEval(COCOeval):
    """COCO's matching of detections and people by a given similarity, with the rules of DensePose's evaluation.

    People without dense labels have a `num_keypoints` of 0. A detection that matches no labelled person, and whose box
    is that of a person who does not count, counts neither for nor against; nor do detections in images without people
    who count.

    Args:
        truth, results: as pycocotools takes them.
        similarity: [results of the image, annotations of the image] by image id, 0..1, in the order of the files; 0
            for people without dense labels.
    """

    def __init__(
        self, truth: COCO, results: COCO, similarity: Mapping[int, Float[np.ndarray, "D G"]]
    ) -> None:
        super().__init__(truth, results, "keypoints")
        self.similarity = similarity

    def computeOks(self, imgId: int, catId: int) -> Any:  # noqa: N802, N803 (pycocotools' names)
        found = self._dts[imgId, catId]
        if not found or not self._gts[imgId, catId]:
            return []
        order = np.argsort([-entry["score"] for entry in found], kind="mergesort")[: self.params.maxDets[-1]]
        return np.asarray(self.similarity[imgId], np.float64)[order]

    def evaluateImg(self, *given: Any) -> dict[str, Any] | None:  # noqa: N802
        found = super().evaluateImg(*given)
        if found is None:
            return None
        ignored = np.asarray(found["gtIgnore"], bool)
        if ignored.all():
            return found | {"dtIgnore": np.ones_like(found["dtIgnore"])}
        free, unmatched = found["gtMatches"][-1] == 0, np.flatnonzero(found["dtMatches"][-1] == 0)
        boxes = [
            [side.anns[number]["bbox"] for number in found[key]]
            for side, key in ((self.cocoDt, "dtIds"), (self.cocoGt, "gtIds"))
        ]
        for row in unmatched:
            overlap = box_iou(boxes[0][row : row + 1], boxes[1])[0] * free
            nearest = overlap.argmax()
            if overlap[nearest] >= SAME_BOX and ignored[nearest]:
                found["dtIgnore"][:, row] = True
                free[nearest] = False
        return found


def average_precision(
    truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    image_ids: Sequence[int],
    similarity: Mapping[int, Float[np.ndarray, "D G"]] | None = None,
) -> dict[str, float]:
    """The ten COCO numbers over the given images, as fractions; NaN where the annotations have no such person.

    Args:
        truth: whole and checked annotations (`datasets.labels.coco.truth_for_pycocotools`).
        results: rows of a results file, with keypoints, or with boxes where `similarity` is given.
        similarity: as in `SimilarityEval`; None compares keypoints.
    """
    if not results:
        return dict.fromkeys(STAT_NAMES, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress line by line
        annotations = COCO()
        annotations.dataset = truth
        annotations.createIndex()
        found = annotations.loadRes([dict(row) for row in results])  # it adds entries to the rows
        if similarity is None:
            evaluation = COCOeval(annotations, found, "keypoints")
        else:
            evaluation = SimilarityEval(annotations, found, similarity)
        evaluation.params.imgIds = sorted(set(image_ids))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {
        name: float(value) if value >= 0 else float("nan")
        for name, value in zip(STAT_NAMES, evaluation.stats, strict=True)
    }


def box_iou(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Float[np.ndarray, "A B"]:
    """Intersection over union of boxes x, y, width, height."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    low, high = (
        np.maximum(a[..., :2], b[..., :2]),
        np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]),
    )
    both = np.maximum(high - low, 0).prod(axis=-1)
    either = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - both
    return both / np.maximum(either, 1e-9)
