"""IUV images of bodies (paper section 3.1; docs/method.md 5.1): a shading of `renderer.rasterizer`'s fragments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.body import default_atlas, face_colors
from utils.geometry import CROP_SIZE, FOCAL_LENGTH, MAP_SIZE, cam_to_translation
from utils.renderer.rasterizer import Backend, rasterize
from utils.structures import Atlas, Fragments

if TYPE_CHECKING:
    from jaxtyping import Float


class IUV_Renderer:
    """Renders IUV images of bodies under weak cameras.

    Colours are flat per face: (part/24, mean U, mean V); the background is 0. There is no anti-aliasing and
    no gradient. A body further than `far` metres (s < 0.4465 at the default size) gives an empty image.

    Args:
        orig_size: side of the crop that `focal_length` refers to, pixels; its centre is the principal point.
        out_size: side of the image, pixels.
        focal_length: pixels.
        atlas: of the body; None takes `default_atlas()`.
        far: distance of the far plane, metres.
        backend: of `rasterize`.
    """

    def __init__(
        self,
        orig_size: int = CROP_SIZE,
        out_size: int = MAP_SIZE,
        focal_length: float = FOCAL_LENGTH,
        atlas: Atlas | None = None,
        far: float = 100.0,
        backend: Backend = "auto",
    ) -> None:
        self.orig_size, self.out_size, self.focal_length = orig_size, out_size, focal_length
        self.far, self.backend = far, backend
        self.atlas = default_atlas() if atlas is None else atlas
        self._faces = torch.from_numpy(self.atlas.vertex_map.astype(np.int32)[self.atlas.faces])
        colors = np.concatenate([np.zeros((1, 3), np.float32), face_colors(self.atlas)])  # background first
        self._colors = torch.from_numpy(colors.T.copy())

    def verts2uvimg(
        self, vertices: Float[Tensor, "B V 3"], cam: Float[Tensor, "B 3"]
    ) -> Float[Tensor, "B 3 H W"]:
        """IUV images (part/24, U, V), in the dtype and on the device of the vertices.

        Args:
            vertices: metres, camera axes.
            cam: weak cameras (s, tx, ty).

        Raises:
            ValueError: for shapes that do not fit.
        """
        face = self.fragments(vertices, cam).face
        colors = self._colors.to(device=vertices.device, dtype=vertices.dtype)
        image = colors.index_select(1, (face + 1).view(-1))
        return image.view(3, *face.shape).transpose(0, 1).contiguous()

    def fragments(self, vertices: Float[Tensor, "B V 3"], cam: Float[Tensor, "B 3"]) -> Fragments:
        """Visible faces of the atlas, per pixel; arguments as of `verts2uvimg`."""
        if vertices.ndim != 3 or vertices.shape[2] != 3 or cam.shape != (len(vertices), 3):
            raise ValueError(
                f"Expected vertices [B, V, 3] and cameras [B, 3], got {tuple(vertices.shape)} and {tuple(cam.shape)}."
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
