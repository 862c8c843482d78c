"""Mesh renderers of `--renderer`: our own rasteriser, opendr or neural_renderer.

The packages are imported when they draw. All of them get the same triangles, seen from the front only, with the colours
of our own light at their corners, so that the images differ in little but the edges. IUV images are always drawn by
`utils.renderer.rasterizer`.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.renderer.mesh import MeshRenderer
from utils.renderer.shading import lambert, vertex_normals

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Array = np.ndarray | torch.Tensor

log = logging.getLogger(__name__)

_LOCK = threading.Lock()  # opendr and neural_renderer have graphics contexts of their own
CUDA = "cuda"
NEAREST = 0.05  # metres; triangles with a corner nearer to the camera's plane are left out


@dataclass(frozen=True)
class View:
    """A camera at the origin, looking along z, and the depths (metres) between which everything lies."""

    focal: float  # pixels
    center: tuple[float, float]  # pixels from the upper left corner of the image
    width: int
    height: int
    near: float
    far: float


class PackageMeshRenderer(MeshRenderer):
    """A mesh renderer whose coloured triangles another package draws; anti-aliasing depends on the package."""

    def _draw(
        self, points: np.ndarray, focal: float, width: int, height: int, center: tuple[float, float]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        corners = points[self.faces]
        outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        seen = ((outward * corners[:, 0]).sum(axis=1) < 0) & (corners[..., 2] > NEAREST).all(axis=1)
        if not seen.any():
            return
        normals = vertex_normals(points, self.faces)[self.faces[seen]].reshape(-1, 3)
        colors = lambert(normals, np.repeat(self.face_colors[seen], 3, axis=0)).reshape(-1, 3, 3)
        depth = corners[seen][..., 2]
        near, far = 0.9 * float(depth.min()), 1.1 * float(depth.max())
        with _LOCK:
            image = self.draw(corners[seen], colors, View(float(focal), center, width, height, near, far))
        yield 0, 0, image

    def draw(
        self, corners: Float[np.ndarray, "F 3 3"], colors: Float[np.ndarray, "F 3 3"], view: View
    ) -> Float[np.ndarray, "H W 4"]:
        """RGBA of triangles (metres, camera axes) with RGB at their corners, both sides of them visible."""
        raise NotImplementedError


class OpendrMeshRenderer(PackageMeshRenderer):
    """Draws with opendr, as the 2020 demo did: no anti-aliasing, alpha is 0 or 1."""

    def draw(self, corners: np.ndarray, colors: np.ndarray, view: View) -> np.ndarray:
        coloured_renderer, project_points = _import_opendr()
        # opendr's pixel i has its centre at i.
        camera = project_points(
            rt=np.zeros(3), t=np.zeros(3), f=np.full(2, view.focal), c=np.subtract(view.center, 0.5), k=np.zeros(5)
        )  # fmt: skip
        frustum = {"near": view.near, "far": view.far, "width": view.width, "height": view.height}
        drawing = coloured_renderer(camera=camera, frustum=frustum)
        faces = np.arange(3 * len(corners), dtype=np.uint32).reshape(-1, 3)
        drawing.set(  # overdraw is for its gradients, and fails with NumPy 2
            v=corners.reshape(-1, 3).astype(np.float64), f=faces,
            vc=colors.reshape(-1, 3).astype(np.float64), bgcolor=np.zeros(3), overdraw=False,
        )  # fmt: skip
        hit = np.asarray(drawing.visibility_image).reshape(view.height, view.width, 1) != 0xFFFFFFFF
        return np.concatenate([np.clip(drawing.r, 0, 1) * hit, hit], axis=2).astype(np.float32)


def _import_opendr():
    """opendr's renderer and camera; names of 2019 that have left Python and NumPy are put back for it."""
    if not hasattr(inspect, "getargspec"):
        inspect.getargspec = inspect.getfullargspec
    for name, kind in {"bool": bool, "int": int, "float": float, "complex": complex, "object": object,
                       "unicode": str, "str": str}.items():  # fmt: skip
        if name not in vars(np):
            setattr(np, name, kind)
    package = importlib.util.find_spec("opendr")
    if package is None:
        raise ModuleNotFoundError("No module named 'opendr'")
    contexts = str(Path(package.submodule_search_locations[0]) / "contexts")
    if contexts not in sys.path:  # it imports its own parts as top-level modules
        sys.path.append(contexts)
    from opendr.camera import ProjectPoints
    from opendr.renderer import ColoredRenderer

    return ColoredRenderer, ProjectPoints


class NeuralMeshRenderer(PackageMeshRenderer):
    """Draws with neural_renderer on a CUDA device: one colour per face, no anti-aliasing."""

    def draw(self, corners: np.ndarray, colors: np.ndarray, view: View) -> np.ndarray:
        import neural_renderer

        side = max(view.width, view.height)  # it draws squares
        (x, y), focal = view.center, view.focal
        camera = {"K": [[focal, 0, x], [0, focal, y], [0, 0, 1]], "R": np.eye(3), "t": np.zeros((1, 3))}
        renderer = neural_renderer.Renderer(
            image_size=side, orig_size=side, anti_aliasing=False, fill_back=True, camera_mode="projection",
            near=view.near, far=view.far, light_intensity_ambient=1, light_intensity_directional=0,
            **{name: _on_cuda(value) for name, value in camera.items()},
        )  # fmt: skip
        faces = torch.arange(3 * len(corners), dtype=torch.int32, device=CUDA).view(1, -1, 3)
        textures = _on_cuda(colors.mean(axis=1)).view(1, -1, 1, 1, 1, 3).expand(-1, -1, 2, 2, 2, -1)
        rgb, _, alpha = renderer(_on_cuda(corners.reshape(-1, 3)), faces, textures.contiguous())
        drawn = torch.cat([rgb, alpha[:, None]], dim=1)[0].permute(1, 2, 0)
        return drawn[: view.height, : view.width].clamp(0, 1).cpu().numpy()


def _on_cuda(values: Float[Array, "*shape"]) -> Float[torch.Tensor, "1 *shape"]:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=CUDA)[None]


_CLASSES = {"builtin": MeshRenderer, "opendr": OpendrMeshRenderer, "neural_renderer": NeuralMeshRenderer}
RENDERERS = tuple(_CLASSES)
_HELP = {
    "opendr": "It needs OSMesa (libosmesa6-dev), a compiler and Cython: pip install Cython setuptools wheel, then "
    "pip install --no-build-isolation chumpy opendr",
    "neural_renderer": "It needs a CUDA device and neural_renderer_pytorch, built from its sources",
}


def renderer_problem(name: str) -> str | None:
    """Why a renderer of `RENDERERS` cannot draw a triangle here, a sentence without its full stop; None when it can."""
    corners, face = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]]), np.array([[0, 2, 1], [0, 1, 2]])
    try:
        image = _CLASSES[name](face).render(corners, np.array([0, 0, 5.0]), 20.0, 16, 16)
    except Exception as error:  # compiled packages of 2019 fail in many ways, and none may end a run
        return f"{name} does not work here ({type(error).__name__}: {error})"
    return None if image[..., 3].any() else f"{name} does not work here (it draws nothing)"


def mesh_renderer_class(name: str) -> type[MeshRenderer]:
    """The class of a renderer of `RENDERERS`. Raises ValueError for other names and for one that cannot draw here."""
    if name not in _CLASSES:
        raise ValueError(f"Unknown renderer '{name}'; choose one of {', '.join(RENDERERS)}.")
    if problem := renderer_problem(name):
        raise ValueError(f"{problem}. {_HELP.get(name)}. The renderer builtin always works.")
    return _CLASSES[name]


def opendr_or_none(faces: Int[Array, "F 3"]) -> MeshRenderer | None:
    """opendr's renderer, or None, with a warning that says why, without a working opendr."""
    if problem := renderer_problem("opendr"):
        log.warning("%s; the panel shows the built-in renderer's views only.", problem)
        return None
    return OpendrMeshRenderer(faces)
