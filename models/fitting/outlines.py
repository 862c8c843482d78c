"""Distances of places from a person's mask, and points of its outline (docs/method.md 8.11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

GRID = 112  # cells of a crop's side
OUTLINE_POINTS = 150


@dataclass(frozen=True)
class Outline:
    """A mask in a crop (-1..1)."""

    distance: Float[np.ndarray, "112 112"]  # of each cell from the mask; 0 on it and beyond the photograph
    points: Float[np.ndarray, "150 2"]  # of the outline, evenly spread along it
    is_seen: bool  # whether there is a mask, and an outline that is not the photograph's edge


def read_outline(mask: Bool[np.ndarray, "112 112"], photograph: Bool[np.ndarray, "112 112"]) -> Outline:
    """The outline of a mask.

    Args:
        mask: cells of the person.
        photograph: cells of the crop that lie in the photograph. A body may reach beyond it, and the edge of the
            photograph at which a person is cut off is no outline.
    """
    inner = binary_erosion(photograph, border_value=1)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cells = np.concatenate([contour[:, 0] for contour in contours] or [np.zeros((0, 2), int)])
    cells = cells[inner[cells[:, 1], cells[:, 0]]]
    if not len(cells):
        return Outline(np.zeros((GRID, GRID), np.float32), np.zeros((OUTLINE_POINTS, 2), np.float32), False)
    spread = np.linspace(0, len(cells) - 1, OUTLINE_POINTS).astype(int)
    distance = np.where(photograph, distance_transform_edt(~mask) * (2 / GRID), 0.0)
    points = (cells[spread] + 0.5) * (2 / GRID) - 1
    return Outline(distance.astype(np.float32), points.astype(np.float32), True)
