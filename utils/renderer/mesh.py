"""Shaded images of meshes: a shading of `utils.renderer.rasterizer`'s fragments.

The camera frame is x right, y down, z forward. Other packages can draw the meshes, too: `utils.renderer.backends`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.renderer.rasterizer import rasterize
from utils.renderer.shading import shade, vertex_normals
from utils.renderer.tiles import tile_points, tiles

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Array = np.ndarray | Tensor

LIGHT_BLUE = (0.68, 0.78, 0.9)
SUPERSAMPLE = 2


class MeshRenderer:
    """Renders smooth shaded, anti-aliased images of a mesh, one body or several; no far plane.

    Pixel coordinates are continuous: an image spans [0, width] x [0, height], pixel i has its centre at i + 0.5.

    Args:
        faces: corners of the triangles, counter-clockwise from outside.
        color: RGB in 0..1, one for all faces or one for each.
    """

    def __init__(
        self, faces: Int[Array, "F 3"], color: Sequence[float] | Float[np.ndarray, "F 3"] = LIGHT_BLUE
    ) -> None:
        self.faces = np.ascontiguousarray(to_array(faces), np.int32)
        color = np.asarray(color, np.float32)
        self.face_colors = np.ascontiguousarray(np.broadcast_to(color, self.faces.shape))

    def overlay(
        self,
        image: Float[np.ndarray, "H W 3"],
        vertices: Float[Array, "V 3"],
        cam_t: Float[Array, "3"],
        focal: float,
        center: tuple[float, float] | None = None,
    ) -> Float[np.ndarray, "H W 3"]:
        """A copy of the image (uint8, or float in 0..1) with the body drawn over it; arguments as of `render`."""
        height, width = image.shape[:2]
        drawn, is_bytes = image[..., :3].copy(), image.dtype == np.uint8
        for top, left, tile in self._tiles(vertices, cam_t, focal, width, height, center):
            row, column = np.nonzero(tile[..., 3])
            over, place = tile[row, column], (row + top, column + left)
            alpha = over[:, 3:]
            blend = drawn[place] * (1 - alpha) + over[:, :3] * alpha * (255.0 if is_bytes else 1.0)
            drawn[place] = blend.round() if is_bytes else blend
        return drawn

    def side_view(
        self, vertices: Float[Array, "V 3"], cam_t: Float[Array, "3"], focal: float, size: int
    ) -> Float[np.ndarray, "S S 4"]:
        """RGBA as of `render` of the body turned by 90 degrees about the vertical through its centre.

        The camera steps back where the turned body would leave the image.
        """
        turned = turn_sideways(to_array(vertices))
        return self.render(turned, _step_back(turned, to_array(cam_t), focal, size), focal, size, size)

    def render(
        self,
        vertices: Float[Array, "V 3"],
        cam_t: Float[Array, "3"],
        focal: float,
        width: int,
        height: int,
        center: tuple[float, float] | None = None,
    ) -> Float[np.ndarray, "H W 4"]:
        """RGBA image in 0..1, colour not multiplied by alpha; alpha is the covered share of a pixel.

        Args:
            vertices: metres, camera axes.
            cam_t: translation that is added to them, metres.
            focal: focal length, pixels.
            width, height: of the image, pixels.
            center: principal point, pixels; None is the middle.
        """
        image = np.zeros((height, width, 4), np.float32)
        for top, left, tile in self._tiles(vertices, cam_t, focal, width, height, center):
            image[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        return image

    def _tiles(
        self,
        vertices: Float[Array, "V 3"],
        cam_t: Float[Array, "3"],
        focal: float,
        width: int,
        height: int,
        center: tuple[float, float] | None,
    ) -> Iterator[tuple[int, int, Float[np.ndarray, "h w 4"]]]:
        """Top, left and content of the parts of the image of `render` in which the body is."""
        points = (to_array(vertices) + to_array(cam_t)).astype(np.float32)
        return self._draw(points, focal, width, height, (width / 2, height / 2) if center is None else center)

    def _draw(
        self, points: np.ndarray, focal: float, width: int, height: int, center: tuple[float, float]
    ) -> Iterator[tuple[int, int, Float[np.ndarray, "h w 4"]]]:
        """`_tiles` for vertices before the camera (metres); other renderers draw in their own way."""
        normals = vertex_normals(points, self.faces)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = focal * points[:, :2] / points[:, 2:] + np.asarray(center, np.float32)
        for top, left, side in tiles(pixels[points[:, 2] > 0], width, height):
            tile = self._render_tile(tile_points(pixels, points[:, 2], left, top, side), normals, side)
            yield top, left, tile[: height - top, : width - left]

    def _render_tile(self, points: np.ndarray, normals: np.ndarray, side: int) -> np.ndarray:
        fragments = rasterize(
            torch.from_numpy(points)[None], torch.from_numpy(self.faces), side * SUPERSAMPLE
        )
        face, bary = fragments.face[0].numpy(), fragments.bary[0].numpy()
        return shade(face, bary, self.faces, normals, self.face_colors, SUPERSAMPLE)


def turn_sideways(vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """The vertices turned by 90 degrees about the vertical through their mean: the front then faces right."""
    center = vertices.mean(axis=0)
    x, y, z = (vertices - center).T
    return np.column_stack([-z, y, x]) + center


def _step_back(vertices: np.ndarray, cam_t: np.ndarray, focal: float, size: int) -> Float[np.ndarray, "3"]:
    """`cam_t`, moved away from the camera until the body fits into a square image with a margin of 5 %."""
    points = vertices + cam_t
    reach = np.abs(focal * points[:, :2] / points[:, 2:]).max() / (0.95 * size / 2)
    return cam_t * np.array([1, 1, max(1.0, reach)])


def to_array(values: Array) -> np.ndarray:
    """The same numbers as an array, from any device."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
