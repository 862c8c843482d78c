"""All people of a full image, drawn over it with one z-buffer."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.geometry import assumed_focal_length, crop_to_full_weak, full_weak_to_perspective
from utils.renderer.mesh import LIGHT_BLUE, MeshRenderer

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

HUE_STEP = 0.381966  # golden ratio: neighbours in number are far apart in hue


@dataclass(frozen=True)
class FullCamera:
    """A pinhole camera of a full image, K = [[f, 0, px], [0, f, py], [0, 0, 1]], and where a body stands in it."""

    cam_t: Float[np.ndarray, "3"]  # metres, added to the body's vertices
    focal_length: float  # pixels
    principal_point: tuple[float, float]  # pixels

    def as_seen(self, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        """The body before the camera (metres), sheared along its rays so that its pixels are those of the crop.

        The network sees each person in the middle of a crop and without perspective. Under the pinhole camera, a body
        at the image's edge is seen from its side and leaves the person that it belongs to, by dozens of pixels where
        the focal length is short. With (x, y, z) = vertex + cam_t this point is (x z / tz, y z / tz, z): it lies at the
        pixel (px, py) + f (x, y) / tz of the weak camera, at its own depth.
        """
        points = vertices + self.cam_t
        return points * np.column_stack([points[:, 2:] / self.cam_t[2]] * 2 + [np.ones(len(points))])


def full_camera(
    cam: Float[torch.Tensor, "3"],
    center: tuple[float, float],
    scale: float,
    image_size: tuple[int, int],
    focal_length: float | None = None,
) -> FullCamera:
    """Camera of the full image from a crop's weak camera; see `utils.geometry` for the formulas.

    Args:
        cam: weak camera (s, tx, ty) of the crop.
        center, scale: of the crop, pixels and side / 200 px.
        image_size: width and height, pixels.
        focal_length: pixels; None assumes the image's diagonal.
    """
    focal = assumed_focal_length(image_size) if focal_length is None else float(focal_length)
    place = (torch.tensor(value, dtype=torch.float64) for value in (center, float(scale), image_size))
    cam_t = full_weak_to_perspective(crop_to_full_weak(cam.detach().cpu().double(), *place), focal)
    return FullCamera(cam_t.float().numpy(), focal, (image_size[0] / 2, image_size[1] / 2))


def person_colors(count: int) -> Float[np.ndarray, "N 3"]:
    """Light RGB colours in 0..1, one for each person; the first is the blue of single bodies."""
    hue = colorsys.rgb_to_hsv(*LIGHT_BLUE)[0]
    return np.array([colorsys.hsv_to_rgb((hue + i * HUE_STEP) % 1, 0.35, 0.92) for i in range(count)])


def draw_people(
    image: UInt8[np.ndarray, "H W 3"],
    people: Sequence[tuple[Float[np.ndarray, "V 3"], FullCamera]],
    faces: Int[np.ndarray, "F 3"],
    renderer: type[MeshRenderer] = MeshRenderer,
    colors: Float[np.ndarray, "N 3"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with all bodies drawn over it, nearer ones in front; the image itself without people.

    Args:
        image: full image, RGB.
        people: vertices (metres) and camera of each; it is drawn where its crop's camera sees it
            (`FullCamera.as_seen`). All cameras share focal length and principal point.
        faces: of one body.
        renderer: draws them.
        colors: one for each person, RGB in 0..1; None takes `person_colors`.
    """
    if not people:
        return image
    camera = people[0][1]
    vertices = np.concatenate([camera.as_seen(vertices) for vertices, camera in people])
    count = len(people[0][0])
    all_faces = np.concatenate([np.asarray(faces) + i * count for i in range(len(people))])
    colors = person_colors(len(people)) if colors is None else colors
    drawing = renderer(all_faces, np.repeat(colors, len(faces), axis=0))
    return drawing.overlay(image, vertices, np.zeros(3), camera.focal_length, camera.principal_point)
