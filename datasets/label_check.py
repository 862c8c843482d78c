"""Whether labels and pictures belong together: units, forms of boxes, ranges; what it finds, in sentences.

What cannot be is refused (DataFileError); what is odd comes back as a suspicion. The sizes of some pictures are read
from their headers, so that a check takes a moment however large the set is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.label_values import Box
from datasets.labels import Labels
from datasets.pictures import picture_size
from utils.safe_io import DataFileError

SAMPLED = 64  # people whose pictures' sizes are read
MAX_SIZE = 8.0  # of a crop's square, to the picture's longer side
MIN_SIZE = 0.01
FEW = 3  # boxes; fewer are suspected where more are refused
UNIT = 200.0  # px


def sizes_of_some(path_of: Callable[[int], Path], count: int) -> dict[int, tuple[int, int]]:
    """Width and height of the pictures of at most `SAMPLED` of so many people, evenly spread, by person.

    Those that cannot be read are not among them.
    """
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64)).tolist()
    found = {index: picture_size(path_of(index)) for index in chosen}
    return {index: size for index, size in found.items() if size is not None}


def check_labels(labels: Labels, sizes_of: Mapping[int, tuple[int, int]], source: str) -> list[str]:
    """Suspicions about boxes and keypoints of people whose pictures have these sizes (width, height).

    Raises DataFileError for what cannot be.
    """
    if not sizes_of:
        return []
    rows, sizes = np.array(list(sizes_of)), np.array(list(sizes_of.values()), dtype=np.float64)
    center, side = labels.center[rows], UNIT * labels.scale[rows]
    relative = float(np.median(side / sizes.max(axis=1)))
    if relative > MAX_SIZE:
        raise DataFileError(
            f"{source}: the boxes are {relative:.0f} times as large as their pictures (median of {len(rows)}); "
            "'scale' is the box's side in units of 200 px. Are these pixels?"
        )
    found = []
    if relative < MIN_SIZE:
        found.append(
            f"{source}: the boxes are {relative:.4f} of their pictures' size; 'scale' is the box's side / 200 px."
        )
    if np.abs(center).max() <= 1:
        raise DataFileError(
            f"{source}: all box centres lie in 0..1. They must be in pixels, not in shares of the picture's size."
        )
    outside = (np.abs(center - sizes / 2) >= (sizes + side[:, None]) / 2).any(axis=1)
    if outside.all() and len(rows) >= FEW:
        raise DataFileError(
            f"{source}: no box touches its picture; the first is around {center[0].round(1).tolist()} in a picture of "
            f"{sizes[0, 0]:.0f} x {sizes[0, 1]:.0f} px. Do labels and pictures belong together?"
        )
    if outside.any():
        found.append(f"{source}: {outside.sum()} of {len(rows)} boxes looked at lie outside their pictures.")
    return found + _check_keypoints(labels, rows, center, side, source)


def _check_keypoints(
    labels: Labels, rows: np.ndarray, center: np.ndarray, side: np.ndarray, source: str
) -> list[str]:
    if labels.keypoints is None:
        return []
    points, confidence = labels.keypoints[rows, :, :2], labels.keypoints[rows, :, 2]
    known = confidence > 0
    if not known.any():
        return (
            [] if (labels.keypoints[..., 2] > 0).any() else [f"{source}: none of its keypoints is labelled."]
        )
    if np.abs(points[known]).max() <= 1:
        raise DataFileError(
            f"{source}: all labelled keypoints lie in 0..1. They must be in pixels, not in shares of a size."
        )
    found = []
    if confidence.max() > 2:
        found.append(f"{source}: confidences of keypoints reach {confidence.max():g}; expected 0 to 1.")
    near = (np.abs(points - center[:, None]) <= side[:, None, None]).all(axis=-1)
    share = float(near[known].mean())
    if share < 0.5:
        found.append(
            f"{source}: {1 - share:.0%} of the labelled keypoints lie far outside their people's boxes. Do both belong "
            "to the same pictures?"
        )
    return found


def check_corners(
    boxes: Sequence[Box], keys: Iterable[int | str], sizes: Mapping[int | str, tuple[int, int]], source: str
) -> list[str]:
    """A suspicion where boxes x, y, width, height leave their pictures but fit as corners x1, y1, x2, y2.

    sizes: width and height of pictures by key. Raises DataFileError where that holds for most of at least three boxes.
    """
    known = [(*box, *sizes[key]) for box, key in zip(boxes, keys, strict=True) if key in sizes]
    if not known:
        return []
    x, y, third, fourth, width, height = np.array(known).T
    leave = (x + third > 1.02 * width + 1) | (y + fourth > 1.02 * height + 1)
    corners = (
        (third > x) & (fourth > y) & (x >= -1) & (y >= -1) & (third <= width + 1) & (fourth <= height + 1)
    )
    if not corners.all() or leave.mean() <= 0.5:
        return []
    first = int(np.flatnonzero(leave)[0])
    told = (
        f"{source}: as x, y, width, height, {leave.sum()} of {len(known)} boxes leave their pictures, the first is "
        f"{[round(float(v), 1) for v in known[first][:4]]} in {width[first]:.0f} x {height[first]:.0f} px; as corners "
        "x1, y1, x2, y2 all fit. Expected are x, y, width, height."
    )
    if leave.sum() >= FEW:
        raise DataFileError(told)
    return [told]
