"""Scores by label images: person mask and six body parts of the LSP protocol (docs/method.md 11.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation.protocol import Certificate, Protocol, body_rows
from models.evaluation.report import Score, Summary
from models.evaluation.resumable import Results
from models.inference.predictor import Predictor
from utils import report
from utils.metrics import UNKNOWN, accuracy, confusion_counts, mean_f1
from utils.renderer.lsp_parts import NUM_CLASSES, PartRenderer, TrueParts, face_classes, uncrop
from utils.renderer.panel import part_palette
from utils.structures import Batch, DaNetOutput

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from models.evaluation.protocol import Crop, Rows

PART_NEED = ("body", "regressor_extra")  # of `utils.body.LICENSED_FILES`
UNKNOWN_COLOR = 128  # grey
FAR_PLANE_2020 = 100.0  # metres
SHOWN_PROBLEMS = 5


class PartLabels(Protocol):
    """Accuracy and F1 of person mask and body parts against label images (LSP).

    Args:
        label_images: number of a person -> `TrueParts`; `label_images.with_photographs()` gives those to check.
        crop: (image, center, scale) -> the crop that the network sees.
        legacy_uncrop: brings labels back to the image as the 2020 code did, whose far plane stands then, too.
    """

    legend = "crop, predicted body, predicted parts, true parts"
    averaged = ("mask_counts", "part_counts")

    def __init__(
        self,
        predictor: Predictor,
        label_images: Any,
        data_dir: str,
        crop: Callable[..., Crop],
        legacy_uncrop: Callable[..., UInt8[np.ndarray, "H W"]] | None = None,
    ):
        self.predictor, self.extra, self.crop = predictor, label_images, crop
        classes, source = face_classes(predictor.assets.body, data_dir)
        far = math.inf if legacy_uncrop is None else FAR_PLANE_2020
        self.renderer = PartRenderer(predictor.assets.body.faces, classes, far)
        self.uncrop = legacy_uncrop or uncrop
        self.facts = {
            "truth": "mask and part images",
            "root": "none: labels are compared in the image",
            "part classes": source,
        }

    def check(self) -> Certificate:
        return check_label_images(self.extra.with_photographs())

    def score(self, output: DaNetOutput, batch: Batch, extras: Sequence[TrueParts]) -> Rows:
        """Counts of pixels, so that totals add up."""
        params = output.smpl.params
        vertices = self.predictor.smpl(params.rotmat, params.betas).vertices
        masks, parts = [], []
        for labels, true in zip(self.renderer(vertices, params.cam).cpu().numpy(), extras, strict=True):
            mask = self.uncrop(labels > 0, true.center, true.scale, true.mask.shape) > 0
            masks.append(confusion_counts(mask.astype(np.uint8), (true.mask > 0).astype(np.uint8), 2))
            pred = self.uncrop(labels, true.center, true.scale, true.parts.shape)
            parts.append(confusion_counts(pred, true.parts, NUM_CLASSES))
        return {"mask_counts": np.stack(masks), "part_counts": np.stack(parts), **body_rows(params)}

    def scores(self, rows: Rows) -> tuple[Score, ...]:
        counts = {name: rows[f"{name}_counts"].sum(axis=0) for name in ("mask", "part")}
        return tuple(
            Score(f"{name} {title}", measure(values))
            for name, values in counts.items()
            for title, measure in (("accuracy", accuracy), ("F1", mean_f1))
        )

    def summary(self, results: Results, names: Sequence[str]) -> Summary:
        rows = {name: results.of_scored(name) for name in ("mask_counts", "part_counts")}
        parts, masks = [accuracy(c) for c in rows["part_counts"]], [mean_f1(c) for c in rows["mask_counts"]]
        charts = report.histogram("Part accuracy of samples", parts), report.histogram("Mask F1 of samples", masks)
        errors = np.array([1 - accuracy(counts) for counts in results.rows["part_counts"]])
        return Summary(self.scores(rows), errors, charts)

    def compare(self, results: Results, index: int, crop: Crop) -> UInt8[np.ndarray, "224 448 3"]:
        true, (vertices, cam) = self.extra(index), self.body(results.rows, index)
        labels = self.renderer(vertices[None], cam[None])[0].numpy()
        pred = self.uncrop(labels, true.center, true.scale, true.parts.shape)
        palette = np.full((256, 3), UNKNOWN_COLOR, np.uint8)
        palette[:25] = part_palette()
        crops = [self.crop(palette[parts], true.center, true.scale) for parts in (pred, true.parts)]
        return np.concatenate(crops, axis=1)


def check_label_images(
    labels: Iterable[tuple[str, UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"], tuple[int, int]]],
) -> Certificate:
    """Check label images (name, mask, parts, height and width of the photograph): size, classes, masks not empty."""
    count, problems = 0, []
    for name, mask, parts, size in labels:
        count += 1
        unknown = sorted(set(np.unique(parts).tolist()) - {*range(NUM_CLASSES), UNKNOWN})
        if mask.shape != size or parts.shape != size:
            problems.append(f"{name}: labels of {mask.shape} and {parts.shape} for an image of {size} (height, width)")
        elif unknown:
            problems.append(f"{name}: part classes {unknown}, expected 0..{NUM_CLASSES - 1} and {UNKNOWN}")
        elif not (mask > 0).any():
            problems.append(f"{name}: an empty mask")
    shown = "; ".join(problems[:SHOWN_PROBLEMS]) + ("; ..." if len(problems) > SHOWN_PROBLEMS else "")
    finding = f"{count} label images: {len(problems)} unusable" + (f" ({shown})." if problems else ".")
    return Certificate(not problems, (finding,))
