"""From an image and a person box to the network's input; the one crop of every script (docs/method.md 8.1).

A crop is a square of side 200*scale around `center`, both in image pixels measured from the image's
upper left corner (so the first pixel's centre is 0.5). Crop pixel i samples the image at
c + (i + 0.5 - 112)*200*scale/224. A rotation turns the image about the crop's middle, counter-clockwise for
positive degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from utils.geometry import BOX_MARGIN, BOX_UNIT, CROP_SIZE
from utils.images import normalize, to_tensor

if TYPE_CHECKING:
    from jaxtyping import UInt8


def box_to_center_scale(
    box: Sequence[float], margin: float = BOX_MARGIN
) -> tuple[tuple[float, float], float]:
    """Box (x, y, width, height) in pixels -> ((center x, center y), scale); margin 1: the padded box."""
    x, y, width, height = (float(value) for value in box)
    return (x + width / 2, y + height / 2), margin * max(width, height) / BOX_UNIT


def _rotation(rotation_deg: float) -> np.ndarray:
    """[2,2] matrix from offsets from the crop's centre to offsets in the image (y down), but for the scale."""
    angle = math.radians(rotation_deg)
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def crop_points_to_image(
    points: np.ndarray, center: Sequence[float], scale: float, rotation_deg: float = 0.0
) -> np.ndarray:
    """Points [..., 2] on the crop, 0..224 from its corner, to the image's pixels."""
    offsets = (points - CROP_SIZE / 2) @ _rotation(rotation_deg).T
    return np.asarray(center, dtype=np.float64) + offsets * (BOX_UNIT * scale / CROP_SIZE)


def image_points_to_crop(
    points: np.ndarray, center: Sequence[float], scale: float, rotation_deg: float = 0.0
) -> np.ndarray:
    """Inverse of `crop_points_to_image`; nothing is rounded."""
    offsets = (points - np.asarray(center, dtype=np.float64)) @ _rotation(rotation_deg)
    return offsets * (CROP_SIZE / (BOX_UNIT * scale)) + CROP_SIZE / 2


def crop_image(
    image: UInt8[np.ndarray, "H W 3"], center: Sequence[float], scale: float, rotation_deg: float = 0.0
) -> UInt8[np.ndarray, "224 224 3"]:
    """Square crop of an RGB image; black outside the image.

    Shrinking is free of aliasing: area averaging to at most twice the crop, then one bilinear warp.
    Raises ValueError when the image has another form or the square does not touch it.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"Expected an RGB image [H, W, 3] of uint8, got {list(image.shape)} {image.dtype}.")
    if not (np.isfinite([*center, scale]).all() and scale > 0):
        raise ValueError(f"A crop needs a finite center and a positive scale, got {tuple(center)} and {scale}.")
    if not math.isfinite(rotation_deg):
        raise ValueError(f"A crop needs a finite rotation in degrees, got {rotation_deg}.")
    side = BOX_UNIT * float(scale)
    rotation = _rotation(rotation_deg)
    region, corner = _cut(image, center, side, extent=side * float(np.abs(rotation[0]).sum()))
    height, width = region.shape[:2]
    shrink = min(1.0, 2 * CROP_SIZE / side)
    size = (math.ceil(width * shrink - 1e-6), math.ceil(height * shrink - 1e-6))
    if size != (width, height):
        region = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
    factor = np.array([region.shape[1] / width, region.shape[0] / height])

    # region pixel = step @ crop pixel + start, both counted at pixel centres
    step = rotation * (side / CROP_SIZE * factor)[:, None]
    offset = np.asarray(center, dtype=np.float64) - corner
    start = offset * factor - (CROP_SIZE / 2 - 0.5) * step.sum(1) - 0.5
    return cv2.warpAffine(
        region,
        np.column_stack([step, start]),
        (CROP_SIZE, CROP_SIZE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0),
    )


def _cut(
    image: np.ndarray, center: Sequence[float], side: float, extent: float
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image under the square, with a rim for the filters, and its corner (x, y).

    `extent` is the width of the upright square around the (rotated) crop.
    """
    size = np.array([image.shape[1], image.shape[0]])
    rim = 2 + 2 * side / CROP_SIZE
    middle = np.asarray(center, dtype=np.float64)
    low = np.clip(np.floor(middle - extent / 2 - rim), 0, size).astype(int)
    high = np.clip(np.ceil(middle + extent / 2 + rim), 0, size).astype(int)
    outside = (middle + extent / 2 <= 0).any() or (middle - extent / 2 >= size).any()
    if outside or (high <= low).any():
        raise ValueError(
            f"The crop of side {side:.0f} px around ({middle[0]:.0f}, {middle[1]:.0f}) lies outside the "
            f"image of {size[0]} x {size[1]} px."
        )
    return np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]), low.astype(np.float64)


def preprocess(image: np.ndarray, center: Sequence[float], scale: float) -> torch.Tensor:
    """RGB image [H,W,3] uint8 and a person's square -> normalised network input [3,224,224] float32."""
    return normalize(to_tensor(crop_image(image, center, scale)))
