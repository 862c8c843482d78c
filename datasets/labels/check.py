"""Whether labels and pictures belong together: units, forms of boxes, ranges; what it finds, in sentences.

What cannot be is refused (DataFileError); what is odd comes back as a suspicion. The sizes of some pictures are read
from their headers, so that a check takes a moment however large the set is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.labels.arrays import Labels
from datasets.labels.values import Box
from datasets.people.images import picture_size
from utils.io import DataFileError

if TYPE_CHECKING:
    from jaxtyping import Float

SAMPLED = 64  # people whose pictures' sizes are read
MAX_SIZE = 8.0  # of a crop's square, to the picture's longer side
MIN_SIZE = 0.01
FEW = 3  # boxes; fewer are suspected where more are refused
UNIT = 200.0  # px
MANY = 10_000  # people whose bodies are looked at
MAX_ANGLE, MAX_BETA = 10.0, 10.0  # radians; a body's numbers reach 3.2 and 5
NECK, ANKLES = 12, [0, 5]  # among the 24 joints
LEGS, SMPL_LEGS = ((0, 1), (1, 2), (5, 4), (4, 3)), ((1, 4), (4, 7), (2, 5), (5, 8))
LEG_IMPOSSIBLE, LEG_ODD = (0.05, 5.0), (0.2, 0.7)  # metres
NO_SPAN, NO_BETA = 10.0, 100.0  # no body reaches so many metres, or such a number of shape


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
    found = check_bodies(labels, source)
    if not sizes_of:
        return found
    rows, sizes = np.array(list(sizes_of)), np.array(list(sizes_of.values()), dtype=np.float64)
    center, side = labels.center[rows], UNIT * labels.scale[rows]
    relative = float(np.median(side / sizes.max(axis=1)))
    if relative > MAX_SIZE:
        raise DataFileError(
            f"{source}: the boxes are {relative:.0f} times as large as their pictures (median of {len(rows)}); "
            "'scale' is the box's side in units of 200 px. Are these pixels?"
        )
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


def check_bodies(labels: Labels, source: str) -> list[str]:
    """Suspicions about units and axes of poses, shapes and joints. Raises DataFileError for what cannot be."""
    rows = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MANY)).astype(np.int64))
    found = []
    if labels.joints_3d is not None:
        known = labels.joints_3d[..., 3:] > 0
        ends = [np.where(known, labels.joints_3d[..., :3], empty) for empty in (np.inf, -np.inf)]
        span = np.maximum(ends[1].max(axis=1) - ends[0].min(axis=1), 0).max(axis=1)
        if np.median(span) < NO_SPAN:  # else the unit is wrong, which is told below
            _refuse_beyond(span, NO_SPAN, f"{source}: S", "m from joint to joint")
    if labels.betas is not None:
        _refuse_beyond(np.abs(labels.betas).max(axis=1), NO_BETA, f"{source}: shape", "as its largest number")
    if labels.rotvec is not None:
        angle = np.linalg.norm(labels.rotvec[rows].reshape(len(rows), 24, 3), axis=2).max(axis=1)
        if np.median(angle) > MAX_ANGLE:
            raise DataFileError(
                f"{source}: people turn a joint by {np.median(angle):.0f} (median); pose must be axis-angles in "
                "radians. Are these degrees?"
            )
        if (angle > 2 * np.pi + 0.1).any():
            found.append(
                f"{source}: {(angle > 2 * np.pi + 0.1).sum()} people turn a joint by more than a full turn."
            )
    if labels.betas is not None and (extreme := np.abs(labels.betas[rows]).max(axis=1) > MAX_BETA).any():
        found.append(
            f"{source}: {extreme.sum()} people have a shape number beyond {MAX_BETA:g}; bodies reach about 5."
        )
    if labels.smpl_joints is not None:
        found += _check_legs(labels.smpl_joints[rows], SMPL_LEGS, f"{source}: smpl_joints")
    if labels.joints_3d is not None:
        joints = labels.joints_3d[rows]
        points = np.where(joints[..., 3:] > 0, joints[..., :3], np.nan)
        found += _check_legs(points, LEGS, f"{source}: S")
        height = points[:, ANKLES, 1].mean(axis=1) - points[:, NECK, 1]  # y points down
        height = height[np.isfinite(height)]
        if height.size and (height < -0.3).mean() > 0.8:
            found.append(
                f"{source}: most people of S stand on their heads; y must point down. Is it flipped?"
            )
    return found


def _refuse_beyond(values: Float[np.ndarray, "N"], limit: float, what: str, unit: str) -> None:
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
    """A suspicion about the unit of joints, NaN where unknown, by the length of thighs and shins."""
    legs = np.concatenate([np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in bones])
    legs = legs[np.isfinite(legs)]
    if not legs.size:
        return [f"{what}: the hips, knees and ankles of nobody are annotated."]
    median = float(np.median(legs))
    if not LEG_IMPOSSIBLE[0] < median < LEG_IMPOSSIBLE[1]:
        units = {"millimetres": 150 < median < 900, "centimetres": 15 < median < 90}
        unit = next((name for name, fits in units.items() if fits), "another unit")
        raise DataFileError(
            f"{what}: thighs and shins are {median:.3g} long (median); expected about 0.4, metres. Is it {unit}?"
        )
    if not LEG_ODD[0] < median < LEG_ODD[1]:
        return [f"{what}: thighs and shins are {median:.3g} m long (median); people's are about 0.4 m."]
    return []


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
    with np.errstate(over="ignore", invalid="ignore"):
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
