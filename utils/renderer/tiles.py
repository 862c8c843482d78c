"""Large images in squares of bounded size: where bodies are rendered, and their points in each square."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# Side of the squares that a large image is rendered in, pixels; bounds the memory.
TILE = 512


def tiles(pixels: Float[np.ndarray, "V 2"], width: int, height: int) -> list[tuple[int, int, int]]:
    """Squares (top, left, side) that cover the points, as far as they lie in an image of this size; may stick out."""
    x, y = pixels.T
    if not np.isfinite(x.sum() + y.sum()):  # seldom, and slow
        x, y = pixels[np.isfinite(pixels).all(axis=1)].T
    if not len(x):
        return []
    low = np.clip(np.floor([x.min(), y.min()]) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil([x.max(), y.max()]) + 1, 0, (width, height)).astype(int)
    side = int(min((high - low).max(), TILE))
    if (high <= low).any():
        return []
    return [(y, x, side) for y in range(low[1], high[1], side) for x in range(low[0], high[0], side)]


def tile_points(
    pixels: Float[np.ndarray, "V 2"], depth: Float[np.ndarray, "V"], left: int, top: int, side: int
) -> Float[np.ndarray, "V 3"]:
    """Points of the image (pixels) in a square's coordinates, as `renderer.rasterizer` takes them."""
    x, y = (pixels - (left, top)).T
    return np.column_stack([2 * x / side - 1, 1 - 2 * y / side, depth]).astype(np.float32)
