"""Dense maps of bodies that are given by their vertices' pixels and depths (docs/method.md 11.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utils.renderer.rasterizer import rasterize_numpy
from utils.structures import Atlas

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SIDE = 448  # pixels of the drawing of a square
DISTANCE = 1000.0  # of the camera, in depths of the body: rays are parallel


@dataclass(frozen=True)
class ProjectedBody:
    """A body in an image."""

    xy: Float[np.ndarray, "V 2"]  # pixels from the image's upper left corner
    depth: Float[np.ndarray, "V"]  # larger is further away, in any unit and from any origin


class ProjectedRenderer:
    """Draws IUV of projected bodies; a point shows U and V of its place on the face, not the face's mean.

    Args:
        atlas: of the bodies.
    """

    def __init__(self, atlas: Atlas) -> None:
        self.faces = atlas.vertex_map[atlas.faces].astype(np.int32)
        self.part, self.uv = atlas.face_part, atlas.face_uv

    def draw(
        self, body: ProjectedBody, corner: Float[np.ndarray, "2"], side: float, size: int = SIDE
    ) -> Float[np.ndarray, "size size 3"]:
        """Part (0..24), U and V of what is seen in a square of the image; 0 on background.

        Args:
            body: V must be the atlas's vertices.
            corner, side: of the square, pixels of the image.
            size: pixels of the drawing's side.

        Raises:
            ValueError: a body of another number of vertices.
        """
        return self._values(*self._rasterize(body, corner, side, size))

    def sample(
        self,
        body: ProjectedBody,
        corner: Float[np.ndarray, "2"],
        side: float,
        points: Float[np.ndarray, "N 2"],
    ) -> Float[np.ndarray, "N 3"]:
        """Part, U and V at points (pixels of the image) within a square of it; 0 on background and outside."""
        face, bary = self._rasterize(body, corner, side, SIDE)
        cells = np.floor((points - corner) * (SIDE / side))
        inside = ((cells >= 0) & (cells < SIDE)).all(axis=1)
        column, row = np.where(inside[:, None], cells, 0).astype(np.int64).T
        return self._values(face[row, column], bary[row, column]) * inside[:, None]

    def _rasterize(
        self, body: ProjectedBody, corner: Float[np.ndarray, "2"], side: float, size: int
    ) -> tuple[Int[np.ndarray, "size size"], Float[np.ndarray, "size size 3"]]:
        """Visible face of each pixel, -1 on background, and its weights."""
        if self.faces.max() >= len(body.xy):
            raise ValueError(f"A body of {len(body.xy):,} vertices was given; expected {self.faces.max() + 1:,}.")
        x, y = ((body.xy - corner) * (2 / side) - 1).T
        low, high = body.depth.min(), body.depth.max()
        depth = DISTANCE + (body.depth - low) / max(high - low, 1e-9)
        points = np.column_stack([x, -y, depth]).astype(np.float32)
        return rasterize_numpy(points, self.faces, size)[:2]

    def _values(
        self, face: Int[np.ndarray, "*N"], bary: Float[np.ndarray, "*N 3"]
    ) -> Float[np.ndarray, "*N 3"]:
        """Part, U and V of places on faces."""
        uv = np.einsum("...k,...kc->...c", bary, self.uv[face])
        values = np.concatenate([self.part[face][..., None], uv], axis=-1)
        return np.where(face[..., None] >= 0, values, 0.0)
