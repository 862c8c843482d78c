"""The area of a person whose annotation does not say it: from the segmentation, else from the box."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets.labels import values as values
from datasets.labels.rle import readable, split_runs
from datasets.labels.values import Box

BOX_SHARE = 0.53  # of a person's box that the person covers: median of COCO's annotations


def filled_area(segmentation: Any, box: Box) -> tuple[float, str]:
    """Pixels of a person that has no `area`, and where the number comes from: segmentation or box."""
    try:
        pixels = _polygons(segmentation) if isinstance(segmentation, list) else _runs(segmentation)
        if 0 < pixels <= box[2] * box[3] * 1.1:
            return pixels, "segmentation"
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        pass  # none, or a damaged one
    return BOX_SHARE * box[2] * box[3], "box"


def _polygons(polygons: list[list[float]]) -> float:
    total = 0.0
    for polygon in polygons:
        x, y = values.numbers(polygon, len(polygon)).reshape(-1, 2).T
        total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return total


def _runs(mask: dict[str, Any]) -> float:
    counts, (height, width) = mask["counts"], map(values.size, mask["size"])
    if isinstance(counts, list):
        runs, starts = np.array([values.whole(run) for run in counts], np.int64), np.array([0, len(counts)])
    else:
        runs, starts = split_runs([counts.encode("ascii")])
    return float(runs[1::2].sum()) if readable(runs, starts, height * width)[0] else 0.0
