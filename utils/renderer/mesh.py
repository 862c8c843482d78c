"""Pictures of bodies: IUV maps (paper section 3.1; docs/method.md section 5.1) and shaded meshes.

Both are shadings of the same fragments (`utils.renderer.rasterizer`). The camera frame is x right, y down, z forward.
Other packages can draw the shaded meshes: `utils.renderer.backends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.body import default_atlas, face_colors
from utils.geometry import CROP_SIZE, MAP_SIZE, cam_to_translation
from utils.renderer.rasterizer import Backend, rasterize
from utils.renderer.shading import shade, vertex_normals
from utils.structures import Atlas, Fragments

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Array = np.ndarray | Tensor

LIGHT_BLUE = (0.68, 0.78, 0.9)
SUPERSAMPLE = 2
# Side of the squares that a shaded picture is rendered in, pixels; bounds the memory of large pictures.
TILE = 512


class IUV_Renderer:
    """Bodies and weak cameras to IUV pictures.

    Colours are flat per face: (part/24, mean U, mean V); the background is 0. There is no anti-aliasing and
    no gradient. A body further than `far` metres (s < 0.4465 at the default size) gives an empty picture.
    """

    def __init__(
        self,
        orig_size: int = CROP_SIZE,
        out_size: int = MAP_SIZE,
        focal_length: float = 5000.0,
        atlas: Atlas | None = None,
        far: float = 100.0,
        backend: Backend = "auto",
    ) -> None:
        """`orig_size` is the crop that `focal_length` refers to; its centre is the principal point."""
        self.orig_size = orig_size
        self.out_size = out_size
        self.focal_length = focal_length
        self.far = far
        self.backend = backend
        self.atlas = default_atlas() if atlas is None else atlas
        self._faces = torch.from_numpy(self.atlas.vertex_map.astype(np.int32)[self.atlas.faces])
        colors = np.concatenate([np.zeros((1, 3), np.float32), face_colors(self.atlas)])  # background first
        self._colors = torch.from_numpy(colors.T.copy())

    def verts2uvimg(
        self, vertices: Float[Tensor, "B V 3"], cam: Float[Tensor, "B 3"]
    ) -> Float[Tensor, "B 3 H W"]:
        """IUV pictures of bodies (metres, camera axes) under weak cameras (s, tx, ty)."""
        face = self.fragments(vertices, cam).face
        colors = self._colors.to(device=vertices.device, dtype=vertices.dtype)
        picture = colors.index_select(1, (face + 1).view(-1))
        return picture.view(3, *face.shape).transpose(0, 1).contiguous()

    def fragments(self, vertices: Float[Tensor, "B V 3"], cam: Float[Tensor, "B 3"]) -> Fragments:
        """Visible faces of the atlas, per pixel. Raises ValueError for shapes that do not fit."""
        if vertices.ndim != 3 or vertices.shape[2] != 3 or cam.shape != (len(vertices), 3):
            raise ValueError(
                "Expected vertices [B, V, 3] and cameras [B, 3], got "
                f"{tuple(vertices.shape)} and {tuple(cam.shape)}."
            )
        points = self._project(vertices.detach().float(), cam.detach().float())
        return rasterize(points, self._faces, self.out_size, far=self.far, backend=self.backend)

    def _project(self, vertices: Tensor, cam: Tensor) -> Tensor:
        # The order of operations is that of the 2020 system: a last-bit difference can move a pixel.
        size, center = self.orig_size, self.orig_size / 2
        x, y, z = (vertices + cam_to_translation(cam, self.focal_length, size)[:, None]).unbind(-1)
        z_safe = z + 1e-9
        column = (x / z_safe).mul_(self.focal_length).add_(center)
        row = (y / z_safe).mul_(self.focal_length).add_(center).neg_().add_(size)  # flipped: y up
        column, row = (t.sub_(center).mul_(2).div_(size) for t in (column, row))
        return torch.stack([column, row, z], dim=-1)


class MeshRenderer:
    """Smooth shaded, anti-aliased pictures of a mesh, one body or several; no far plane.

    Pixel coordinates are continuous: a picture spans [0, width] x [0, height], pixel i has its centre at
    i + 0.5.
    """

    def __init__(
        self, faces: Int[Array, "F 3"], color: Sequence[float] | Float[np.ndarray, "F 3"] = LIGHT_BLUE
    ) -> None:
        """`color` is one for all faces or one for each, RGB in 0..1."""
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
        """The picture (uint8, or float in 0..1) with the body drawn over it, of the same type and size.

        cam_t: translation, metres; focal: pixels; center: principal point, default the middle.
        """
        height, width = image.shape[:2]
        layer = self.render(vertices, cam_t, focal, width, height, center)
        covered = np.flatnonzero(layer[..., 3] > 0)
        over, drawn = layer.reshape(-1, 4)[covered], image[..., :3].copy()
        pixels = drawn.reshape(-1, 3)
        alpha, scale = over[:, 3:], 255.0 if image.dtype == np.uint8 else 1.0
        blend = pixels[covered] * (1 - alpha) + over[:, :3] * alpha * scale
        pixels[covered] = blend.round() if image.dtype == np.uint8 else blend
        return drawn

    def side_view(
        self,
        vertices: Float[Array, "V 3"],
        cam_t: Float[Array, "3"],
        focal: float,
        size: int,
    ) -> Float[np.ndarray, "S S 4"]:
        """The body turned by 90 degrees about the vertical through its centre: RGBA as of `render`.

        The camera steps back where the turned body would leave the picture.
        """
        turned = turn_sideways(to_array(vertices))
        return self.render(turned, step_back(turned, to_array(cam_t), focal, size), focal, size, size)

    def render(
        self,
        vertices: Float[Array, "V 3"],
        cam_t: Float[Array, "3"],
        focal: float,
        width: int,
        height: int,
        center: tuple[float, float] | None = None,
    ) -> Float[np.ndarray, "H W 4"]:
        """RGBA picture in 0..1, colour not multiplied by alpha; alpha is the covered share of a pixel."""
        points = (to_array(vertices) + to_array(cam_t)).astype(np.float32)
        center = (width / 2, height / 2) if center is None else center
        return self._draw_points(points, focal, width, height, center)

    def _draw_points(
        self,
        points: Float[np.ndarray, "V 3"],
        focal: float,
        width: int,
        height: int,
        center: tuple[float, float],
    ) -> Float[np.ndarray, "H W 4"]:
        """`render` for vertices before the camera (metres); other renderers draw in their own way."""
        normals = vertex_normals(points, self.faces)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = focal * points[:, :2] / points[:, 2:] + np.asarray(center, np.float32)
        picture = np.zeros((height, width, 4), np.float32)
        for top, left, side in _tiles(pixels[points[:, 2] > 0], width, height):
            tile = self._render_tile(pixels - (left, top), points[:, 2], normals, side)
            target = picture[top : top + side, left : left + side]
            target[:] = tile[: target.shape[0], : target.shape[1]]
        return picture

    def _render_tile(
        self, pixels: np.ndarray, depth: np.ndarray, normals: np.ndarray, side: int
    ) -> np.ndarray:
        ndc = np.column_stack([2 * pixels[:, 0] / side - 1, 1 - 2 * pixels[:, 1] / side, depth]).astype(
            np.float32
        )
        fragments = rasterize(torch.from_numpy(ndc)[None], torch.from_numpy(self.faces), side * SUPERSAMPLE)
        face, bary = fragments.face[0].numpy(), fragments.bary[0].numpy()
        return shade(face, bary, self.faces, normals, self.face_colors, SUPERSAMPLE)


def turn_sideways(vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """Turn by 90 degrees about the vertical through the mean: what faced the camera then faces right."""
    center = vertices.mean(axis=0)
    x, y, z = (vertices - center).T
    return np.column_stack([-z, y, x]) + center


def step_back(
    vertices: Float[np.ndarray, "V 3"], cam_t: Float[np.ndarray, "3"], focal: float, size: int
) -> Float[np.ndarray, "3"]:
    """`cam_t`, moved away from the camera until the body fits into a square picture with a margin of 5 %."""
    points = vertices + cam_t
    reach = np.abs(focal * points[:, :2] / points[:, 2:]).max() / (0.95 * size / 2)
    return cam_t * np.array([1, 1, max(1.0, reach)])


def _tiles(pixels: np.ndarray, width: int, height: int) -> list[tuple[int, int, int]]:
    """Squares (top, left, side) that cover the part of the body inside the picture."""
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(pixels):
        return []
    low = np.clip(np.floor(pixels.min(axis=0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0)) + 1, 0, (width, height)).astype(int)
    side = int(min((high - low).max(), TILE))
    if (high <= low).any():
        return []
    return [(y, x, side) for y in range(low[1], high[1], side) for x in range(low[0], high[0], side)]


def to_array(values: Array) -> np.ndarray:
    """An array of the same numbers, from any device."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
