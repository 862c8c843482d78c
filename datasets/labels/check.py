"""Plausibility of labels and images: units, forms of boxes, ranges.

What cannot be raises DataFileError; what is unlikely comes back as a sentence. The sizes of some images are read from
their headers, so that a check takes a moment however large the set is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.labels.arrays import Labels
from datasets.labels.values import Box
from utils.geometry import BOX_UNIT
from utils.images import image_size
from utils.io import DataFileError

if TYPE_CHECKING:
    from jaxtyping import Float

SAMPLED = 64  # people whose image sizes are read
MAX_SIZE, MIN_SIZE = 8.0, 0.01  # of a crop's square, to the image's longer side
MIN_REFUSED = 3  # boxes; fewer give a warning where more are refused
MANY = 10_000  # people whose bodies are looked at
MAX_ANGLE, MAX_BETA = 10.0, 10.0  # radians; a body's numbers reach 3.2 and 5
NECK, ANKLES = 12, [0, 5]  # among the 24 joints
LEGS, SMPL_LEGS = ((0, 1), (1, 2), (5, 4), (4, 3)), ((1, 4), (4, 7), (2, 5), (5, 8))
LEG_IMPOSSIBLE, LEG_UNLIKELY = (0.05, 5.0), (0.2, 0.7)  # metres
LEG_UNITS = {"millimetres": (150, 900), "centimetres": (15, 90)}
NO_SPAN, NO_BETA = 10.0, 100.0  # no body reaches so many metres, or such a shape parameter


def sizes_of_some(path_of: Callable[[int], Path], count: int) -> dict[int, tuple[int, int]]:
    """Width and height of the images of at most `SAMPLED` people, evenly spread, by person; unreadable ones lack."""
    sizes = {index: image_size(path_of(index)) for index in _spread(count, SAMPLED).tolist()}
    return {index: size for index, size in sizes.items() if size is not None}


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def check_labels(labels: Labels, sizes_of: Mapping[int, tuple[int, int]], source: str) -> list[str]:
    """Sentences about what is unlikely in boxes, keypoints and bodies.

    Args:
        sizes_of: width and height of some people's images, by person.
        source: names the labels in the sentences.

    Raises:
        DataFileError: for what cannot be.
    """
    found = _check_bodies(labels, source)
    if sizes_of:
        rows, sizes = np.array(list(sizes_of)), np.array(list(sizes_of.values()), dtype=np.float64)
        found += _check_boxes(labels.center[rows], BOX_UNIT * labels.scale[rows], sizes, source)
        found += _check_keypoints(labels, rows, source)
    return found


def _check_boxes(center: np.ndarray, side: np.ndarray, sizes: np.ndarray, source: str) -> list[str]:
    found = []
    relative = float(np.median(side / sizes.max(axis=1)))
    if relative > MAX_SIZE:
        raise DataFileError(
            f"{source}: the boxes are {relative:.0f} times as large as their images (median of {len(side)}); 'scale' "
            "is the box's side in units of 200 px. Are these pixels?"
        )
    if relative < MIN_SIZE:
        found.append(
            f"{source}: the boxes are {relative:.4f} of their images' size; 'scale' is side / 200 px."
        )
    if np.abs(center).max() <= 1:
        raise DataFileError(f"{source}: all box centres lie in 0..1; expected pixels.")
    outside = (np.abs(center - sizes / 2) >= (sizes + side[:, None]) / 2).any(axis=1)
    if outside.all() and len(side) >= MIN_REFUSED:
        raise DataFileError(
            f"{source}: no box touches its image; the first is around {center[0].round(1).tolist()} in an image of "
            f"{sizes[0, 0]:.0f} x {sizes[0, 1]:.0f} px. Do labels and images belong together?"
        )
    if outside.any():
        found.append(f"{source}: {outside.sum()} of {len(side)} boxes looked at lie outside their images.")
    return found


def _check_keypoints(labels: Labels, rows: np.ndarray, source: str) -> list[str]:
    if labels.keypoints is None:
        return []
    if not (labels.keypoints[..., 2] > 0).any():
        return [f"{source}: none of its keypoints is labelled."]
    points, confidence = labels.keypoints[rows, :, :2], labels.keypoints[rows, :, 2]
    known = confidence > 0
    if not known.any():
        return []
    if np.abs(points[known]).max() <= 1:
        raise DataFileError(f"{source}: all labelled keypoints lie in 0..1; expected pixels.")
    found = []
    if confidence.max() > 2:
        found.append(f"{source}: confidences of keypoints reach {confidence.max():g}; expected 0 to 1.")
    side = BOX_UNIT * labels.scale[rows, None, None]
    near = (np.abs(points - labels.center[rows, None]) <= side).all(axis=-1)
    if (share := float(near[known].mean())) < 0.5:
        found.append(
            f"{source}: {1 - share:.0%} of the labelled keypoints lie far outside their people's boxes."
        )
    return found


def _check_bodies(labels: Labels, source: str) -> list[str]:
    rows, found = _spread(len(labels), MANY), []
    if labels.joints_3d is not None:
        known = labels.joints_3d[..., 3:] > 0
        low, high = (np.where(known, labels.joints_3d[..., :3], empty) for empty in (np.inf, -np.inf))
        span = np.maximum(high.max(axis=1) - low.min(axis=1), 0).max(axis=1)
        if np.median(span) < NO_SPAN:  # else the unit is wrong, see `_check_legs`
            _check_limit(span, NO_SPAN, f"{source}: S", "m from joint to joint")
        points = np.where(known, labels.joints_3d[..., :3], np.nan)[rows]
        found += _check_legs(points, LEGS, f"{source}: S")
        height = points[:, ANKLES, 1].mean(axis=1) - points[:, NECK, 1]  # y points down
        if np.isfinite(height).any() and (height[np.isfinite(height)] < -0.3).mean() > 0.8:
            found.append(f"{source}: most people of S are upside down; y must point down. Is it flipped?")
    if labels.betas is not None:
        extreme = np.abs(labels.betas).max(axis=1)
        _check_limit(extreme, NO_BETA, f"{source}: shape", "as its largest number")
        if many := (extreme[rows] > MAX_BETA).sum():
            found.append(
                f"{source}: {many} people have a shape number beyond {MAX_BETA:g}; bodies reach about 5."
            )
    if labels.rotvec is not None:
        angle = np.linalg.norm(labels.rotvec[rows].reshape(len(rows), 24, 3), axis=2).max(axis=1)
        if np.median(angle) > MAX_ANGLE:
            raise DataFileError(
                f"{source}: people turn a joint by {np.median(angle):.0f} (median); pose must be axis-angles in "
                "radians. Are these degrees?"
            )
        if many := (angle > 2 * np.pi + 0.1).sum():
            found.append(f"{source}: {many} people turn a joint by more than a full turn.")
    if labels.smpl_joints is not None:
        found += _check_legs(labels.smpl_joints[rows], SMPL_LEGS, f"{source}: smpl_joints")
    return found


def _check_limit(values: Float[np.ndarray, "N"], limit: float, what: str, unit: str) -> None:
    """Raise DataFileError, naming the first item, where the value of some people is beyond what any body has."""
    if (beyond := values > limit).any():
        item = int(beyond.argmax())
        raise DataFileError(
            f"{what} of item {item} has {values[item]:.3g} {unit}, which no body has ({beyond.sum()} such people). "
            "Correct these items or leave them out."
        )


def _check_legs(
    points: Float[np.ndarray, "N 24 3"], bones: Iterable[tuple[int, int]], what: str
) -> list[str]:
    """A warning about the unit of joints, NaN where unknown, by the length of thighs and shins."""
    legs = np.concatenate([np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in bones])
    legs = legs[np.isfinite(legs)]
    if not legs.size:
        return [f"{what}: no person's hips, knees and ankles are annotated."]
    median = float(np.median(legs))
    if not LEG_IMPOSSIBLE[0] < median < LEG_IMPOSSIBLE[1]:
        units = [unit for unit, (low, high) in LEG_UNITS.items() if low < median < high]
        raise DataFileError(
            f"{what}: thighs and shins are {median:.3g} long (median); expected about 0.4, metres. "
            f"Is it {(units or ['another unit'])[0]}?"
        )
    if not LEG_UNLIKELY[0] < median < LEG_UNLIKELY[1]:
        return [f"{what}: thighs and shins are {median:.3g} m long (median); people's are about 0.4 m."]
    return []


def check_corners(
    boxes: Sequence[Box], keys: Iterable[int | str], sizes: Mapping[int | str, tuple[int, int]], source: str
) -> list[str]:
    """A warning where boxes x, y, width, height leave their images but fit as corners x1, y1, x2, y2.

    Args:
        keys: the image of each box.
        sizes: width and height of images by key.

    Raises:
        DataFileError: that holds for most of the boxes, and at least for three.
    """
    known = [(*box, *sizes[key]) for box, key in zip(boxes, keys, strict=True) if key in sizes]
    if not known:
        return []
    x, y, third, fourth, width, height = np.array(known).T
    with np.errstate(over="ignore", invalid="ignore"):
        leaving = (x + third > 1.02 * width + 1) | (y + fourth > 1.02 * height + 1)
    corners = (
        (third > x) & (fourth > y) & (x >= -1) & (y >= -1) & (third <= width + 1) & (fourth <= height + 1)
    )
    if not corners.all() or leaving.mean() <= 0.5:
        return []
    first = int(leaving.argmax())
    sentence = (
        f"{source}: as x, y, width, height, {leaving.sum()} of {len(known)} boxes leave their images, the first is "
        f"{[round(float(v), 1) for v in known[first][:4]]} in {width[first]:.0f} x {height[first]:.0f} px; as corners "
        "x1, y1, x2, y2 all fit. Expected are x, y, width, height."
    )
    if leaving.sum() >= MIN_REFUSED:
        raise DataFileError(sentence)
    return [sentence]
