"""The crop of 2020, bit for bit, and its way back (docs/method.md section 8.2): for comparisons with its numbers only.

Everything else crops with `datasets.transforms.crop_image`. What differs here: positions are truncated to
whole pixels through a numerically inverted matrix, a crop is stretched to its own range of values, and a
rotated crop is turned before it is resized. The resampling of that time is Pillow's bilinear one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utils.geometry import BOX_UNIT, CROP_SIZE

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

MAX_SIDE = 10_000  # px; a damaged box must not ask for any amount of memory


def crop_matrix(center: Sequence[float], scale: float, rotation_deg: float = 0.0) -> Float[np.ndarray, "3 3"]:
    """Image -> crop in homogeneous coordinates; positive angles turn the image counter-clockwise.

    Raises ValueError for a center that is not finite or a scale that is not positive.
    """
    x, y, scale, angle = float(center[0]), float(center[1]), float(scale), -float(rotation_deg)
    if not (np.isfinite([x, y, scale, angle]).all() and scale > 0):
        raise ValueError(f"A crop needs a finite center and a positive scale, got {(x, y)} and {scale}.")
    side = BOX_UNIT * scale
    matrix = np.zeros((3, 3))
    matrix[0, 0] = matrix[1, 1] = CROP_SIZE / side
    matrix[0, 2] = CROP_SIZE * (-x / side + 0.5)
    matrix[1, 2] = CROP_SIZE * (-y / side + 0.5)
    matrix[2, 2] = 1
    if angle == 0:
        return matrix
    sine, cosine = np.sin(angle * np.pi / 180), np.cos(angle * np.pi / 180)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2], back[:2, 2] = -CROP_SIZE / 2, CROP_SIZE / 2
    # The order of the products decides the last bits, and those decide what truncation makes of them.
    return np.dot(back, np.dot(turn, np.dot(to_middle, matrix)))


def transform_points(
    points: Float[np.ndarray, "N 2"],
    center: Sequence[float],
    scale: float,
    rotation_deg: float = 0.0,
    invert: bool = False,
) -> Int[np.ndarray, "N 2"]:
    """Image points (counted from 1) to whole crop pixels (counted from 1), or back with `invert`.

    Truncation is toward zero, before the 1 is added again.
    """
    matrix = crop_matrix(center, scale, rotation_deg)
    if invert:
        matrix = np.linalg.inv(matrix)
    # One product a point: a product of all points sums in another order and may truncate otherwise.
    rows = [np.dot(matrix, np.array([float(x) - 1, float(y) - 1, 1.0]))[:2] for x, y in points]
    return np.asarray(rows, dtype=np.float64).reshape(-1, 2).astype(np.int64) + 1


def crop_box(center: Sequence[float], scale: float) -> Int[np.ndarray, "4"]:
    """Whole image pixels x1, y1, x2, y2 under the crop; x2, y2 belong to it no more.

    Raises ValueError for a crop without a pixel or of more than `MAX_SIDE` a side.
    """
    corners = transform_points(np.array([[1, 1], [CROP_SIZE + 1] * 2]), center, scale, invert=True) - 1
    sides = corners[1] - corners[0]
    if sides.min() < 1 or sides.max() > MAX_SIDE:
        raise ValueError(
            f"A crop of scale {float(scale):g} is {BOX_UNIT * float(scale):.4g} px wide; "
            f"expected 1 to {MAX_SIDE} px."
        )
    return corners.reshape(4)


def stretch(values: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Numbers -> 0..255 from their own minimum to their own maximum, rounded; all the same -> 0.

    Arrays of uint8 pass as they are.
    """
    if values.dtype == np.uint8:
        return values
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    factor = 255.0 / (float(high - low) or 1.0)
    return (((values - low) * factor).clip(0, 255) + 0.5).astype(np.uint8)


def resize(values: np.ndarray, size: tuple[int, int], nearest: bool = False) -> UInt8[np.ndarray, "..."]:
    """Stretch, then resize to (height, width) as Pillow does: bilinear (smoothing when shrinking) or nearest."""
    resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(stretch(values)).resize((size[1], size[0]), resample))


def crop_legacy(
    image: UInt8[np.ndarray, "H W 3"], center: Sequence[float], scale: float, rotation_deg: float = 0.0
) -> UInt8[np.ndarray, "224 224 3"]:
    """The 2020 crop of an RGB image. Raises ValueError for impossible boxes."""
    box = crop_box(center, scale)
    pad = 0
    if rotation_deg != 0:  # room for the corners that the rotation brings in
        pad = int(np.linalg.norm(box[2:] - box[:2]) / 2 - float(box[3] - box[1]) / 2)
        box = box + np.array([-pad, -pad, pad, pad])
    window = cut_window(image, box).astype(np.float64)
    if rotation_deg != 0:
        turned = Image.fromarray(stretch(window)).rotate(rotation_deg, Image.Resampling.BILINEAR)
        height, width = window.shape[:2]
        window = np.asarray(turned)[pad : height - pad, pad : width - pad]
    return resize(window, (CROP_SIZE, CROP_SIZE))


def cut_window(image: np.ndarray, box: Int[np.ndarray, "4"]) -> np.ndarray:
    """Pixels of the box x1, y1, x2, y2; zeros where it leaves the image."""
    x1, y1, x2, y2 = (int(value) for value in box)
    window = np.zeros((y2 - y1, x2 - x1, *image.shape[2:]), dtype=image.dtype)
    rows, columns = _overlap(y1, y2, image.shape[0]), _overlap(x1, x2, image.shape[1])
    window[rows.start - y1 : rows.stop - y1, columns.start - x1 : columns.stop - x1] = image[rows, columns]
    return window


def _overlap(start: int, stop: int, size: int) -> slice:
    low = min(max(0, start), stop)
    return slice(low, max(low, min(stop, size)))


def uncrop_legacy(
    image: UInt8[np.ndarray, "224 224"], center: Sequence[float], scale: float, size: tuple[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """A map on the crop back at its place in an image of `size` (height, width): nearest, 0 outside.

    uint8 keeps its values. Any other type (a mask of bool, 0 and 1) is stretched to 0..255 first, and comes
    back all 0 when it is the same everywhere: that is what the evaluation of 2020 did.
    """
    box = crop_box(center, scale)
    x1, y1, x2, y2 = (int(value) for value in box)
    pixels = resize(image, (y2 - y1, x2 - x1), nearest=True)
    result = np.zeros(size, dtype=np.uint8)
    rows, columns = _overlap(y1, y2, size[0]), _overlap(x1, x2, size[1])
    result[rows, columns] = pixels[rows.start - y1 : rows.stop - y1, columns.start - x1 : columns.stop - x1]
    return result
