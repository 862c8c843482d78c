"""Optional: the shaded views of the 2020 demo by opendr; without it the built-in renderer serves."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from utils.renderer import LIGHT_BLUE, turn_sideways

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Views = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
LIGHTS = ((-0.7, -0.7, -0.7), (0.7, -0.7, -0.7), (0.0, 0.5, 0.9))  # directions, camera frame
LIGHT_DISTANCE = 1000.0


def opendr_views(faces: Int[np.ndarray, "F 3"], focal: float, size: int) -> Views:
    """A function (picture [S,S,3] in 0..1, vertices [V,3], cam_t [3]) -> overlay and side view, [S,2S,3].

    Raises ImportError, saying what is used instead, when opendr cannot be imported.
    """
    try:
        camera, lighting, renderer = (
            importlib.import_module(f"opendr.{part}") for part in ("camera", "lighting", "renderer")
        )
    except Exception as error:  # a half-working opendr fails in many ways at import
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise ImportError(f"opendr does not work here ({reason}); the built-in renderer is used.") from error

    def draw(background: np.ndarray, points: Float[np.ndarray, "V 3"]) -> np.ndarray:
        view = renderer.ColoredRenderer()
        middle = np.full(2, size / 2)
        view.camera = camera.ProjectPoints(
            v=points, rt=np.zeros(3), t=np.zeros(3), f=np.full(2, focal), c=middle, k=np.zeros(5)
        )
        depth = points[:, 2]
        near, far = max(0.1, depth.min() - 1.0), depth.max() + 1.0
        view.frustum = {"near": near, "far": far, "width": size, "height": size}
        view.set(v=points, f=faces.astype(np.uint32), bgcolor=np.ones(3))
        view.background_image = background.astype(np.float64)
        albedo = np.tile(np.asarray(LIGHT_BLUE, dtype=np.float64), (len(points), 1))
        view.vc = sum(
            lighting.LambertianPointLight(
                f=view.f,
                v=view.v,
                num_verts=len(points),
                light_pos=np.asarray(direction) * LIGHT_DISTANCE,
                vc=albedo,
                light_color=np.full(3, 0.7),
            )
            for direction in LIGHTS
        )
        return np.clip(np.asarray(view.r), 0, 1)

    def views(picture: np.ndarray, vertices: np.ndarray, cam_t: np.ndarray) -> np.ndarray:
        sides = turn_sideways(vertices).astype(np.float64) + cam_t
        front = draw(picture, vertices.astype(np.float64) + cam_t)
        return np.concatenate([front, draw(np.ones_like(picture), sides)], axis=1)

    return views
