"""Strips of images that show one evaluated person: crop, predicted body, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from torch import Tensor

from utils.geometry import CROP_SIZE, FOCAL_LENGTH, cam_to_translation
from utils.renderer import MeshRenderer
from utils.renderer.panel import part_palette

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

SIZE = CROP_SIZE
PIXELS_PER_METRE = 95.0
# Among the first 14 joints of J14 and J17: legs, arms, neck and head, hips, shoulders to hips.
BONES_J14 = ((0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (12, 13), (8, 12), (9, 12), (2, 3),
             (8, 2), (9, 3))  # fmt: skip
BONES_COCO17 = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (5, 6), (11, 12), (5, 11),
                (6, 12), (0, 1), (0, 2), (1, 3), (2, 4))  # fmt: skip
PREDICTED, TRUE = (40, 90, 220), (240, 130, 20)  # blue, orange
PAPER = 250


def body_over_crop(
    crop: UInt8[np.ndarray, "224 224 3"],
    vertices: Float[Tensor, "V 3"],
    cam: Float[Tensor, "3"],
    renderer: MeshRenderer,
) -> UInt8[np.ndarray, "224 448 3"]:
    """The crop, and the predicted body drawn over it."""
    over = renderer.overlay(crop, vertices, cam_to_translation(cam), FOCAL_LENGTH)
    return np.concatenate([crop, over], axis=1)


def stick_figures(
    pred: Float[np.ndarray, "J 3"], true: Float[np.ndarray, "J 3"]
) -> UInt8[np.ndarray, "224 448 3"]:
    """Both skeletons (metres, about their roots) from the front and from the side; predicted blue, true orange."""
    middle = (true.max(axis=0) + true.min(axis=0)) / 2
    views = []
    for across in (0, 2):
        view = np.full((SIZE, SIZE, 3), PAPER, np.uint8)
        for joints, color in ((true, TRUE), (pred, PREDICTED)):
            points = (joints - middle)[:, [across, 1]] * PIXELS_PER_METRE + SIZE / 2
            _draw_bones(view, points, BONES_J14, color)
        views.append(view)
    return np.concatenate(views, axis=1)


def keypoints_over_crop(
    crop: UInt8[np.ndarray, "224 224 3"],
    pred: Float[np.ndarray, "17 2"],
    true: Float[np.ndarray, "17 3"],
) -> UInt8[np.ndarray, "224 224 3"]:
    """COCO keypoints (pixels of the crop) on it; predicted blue, true orange where their visibility is above 0."""
    image = crop.copy()
    _draw_bones(image, np.where(true[:, 2:] > 0, true[:, :2], np.nan), BONES_COCO17, TRUE)
    _draw_bones(image, pred, BONES_COCO17, PREDICTED)
    return image


def label_pair(
    pred: UInt8[np.ndarray, "H W"],
    true: UInt8[np.ndarray, "H W"],
    to_crop: Callable[[np.ndarray], np.ndarray],
) -> UInt8[np.ndarray, "224 448 3"]:
    """Predicted and true part labels in colours, cropped by `to_crop`; unknown pixels are grey."""
    palette = np.full((256, 3), 128, np.uint8)
    palette[:25] = part_palette()
    return np.concatenate([to_crop(palette[labels]) for labels in (pred, true)], axis=1)


def _draw_bones(
    image: np.ndarray, points: np.ndarray, bones: Sequence[tuple[int, int]], color: tuple[int, int, int]
) -> None:
    known = np.isfinite(points).all(axis=1)
    fixed = (np.clip(np.nan_to_num(points) - 0.5, -1e4, 1e4) * 16).round().astype(int).tolist()
    for start, end in bones:
        if max(start, end) < len(points) and known[start] and known[end]:
            cv2.line(image, fixed[start], fixed[end], color, 2, cv2.LINE_AA, 4)
    for joint in np.flatnonzero(known):
        cv2.circle(image, fixed[joint], 2 << 4, color, -1, cv2.LINE_AA, 4)
