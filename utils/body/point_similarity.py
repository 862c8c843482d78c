"""Geodesic point similarity (GPS) of dense maps: how near predicted surface points are (docs/method.md 11.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utils.body.surface import Surface

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Coarse parts of DensePose's measure with k in metres: at a geodesic distance of 1.18 k a point scores one half.
COARSE_PARTS = {
    "torso": 0.351, "hands": 0.107, "feet": 0.126, "upper legs": 0.237, "lower legs": 0.173, "upper arms": 0.142,
    "lower arms": 0.128, "head": 0.150,
}  # fmt: skip
SPREAD = np.array([*COARSE_PARTS.values()])
# Coarse part of DensePose's 24 parts; the background has none.
COARSE_OF_PART = np.array([-1, *np.repeat(range(8), (2, 2, 2, 4, 4, 4, 4, 2))])
REACH = 4.5  # times k: points further away score below 4e-5, and 0 is given


def point_similarity(
    surface: Surface,
    true: tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N"], Float[np.ndarray, "N"]],
    predicted: tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N"], Float[np.ndarray, "N"]],
) -> Float[np.ndarray, "N"]:
    """exp(-g^2 / (2 k^2)) of each annotated point; 0 where background is predicted.

    Args:
        surface: gives the vertex closest to a point of a chart, and geodesic distances g between vertices.
        true, predicted: part (1..24, or 0 for predicted background), U and V of the same points.
    """
    coarse = COARSE_OF_PART[true[0]]
    start, end = surface.nearest(*true), surface.nearest(*predicted)
    similarity = np.zeros(len(start))
    for number, spread in enumerate(SPREAD):
        rows = np.flatnonzero((coarse == number) & (start >= 0) & (end >= 0))
        distance = surface.distance(start[rows], end[rows], REACH * spread)
        similarity[rows] = np.exp(-(distance**2) / (2 * spread**2))
    return similarity


def coarse_means(similarity: Float[np.ndarray, "N"], part: Int[np.ndarray, "N"]) -> Float[np.ndarray, "8"]:
    """Mean similarity of the points of each coarse part; NaN where none is annotated."""
    coarse = COARSE_OF_PART[part]
    counts = np.bincount(coarse, minlength=len(SPREAD))
    with np.errstate(invalid="ignore"):
        return np.bincount(coarse, similarity, len(SPREAD)) / counts
