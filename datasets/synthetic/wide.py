"""Larger photographs with a synthetic person somewhere in them, and what is true of every pixel.

Training reads the 224-pixel crops of `generator`; evaluation reads whole photographs and crops them itself. The camera
is still that of the crop: (s, tx, ty) at focal length 5000 belongs to the square around the person's visible box, so
that a perfect prediction lies exactly on the photograph. Pixel coordinates are continuous: an image spans
[0,width] x [0,height] and pixel i has its centre at i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.random import Generator

from datasets.synthetic.background import draw_background
from datasets.synthetic.body import PeopleAssets, PosedBody, project, to_ndc
from datasets.synthetic.generator import Camera, Resources, paint, paint_bystander
from datasets.synthetic.scene import add_held_thing, add_ride, add_seat, add_shadow, photograph, sometimes
from datasets.transforms import box_to_center_scale, crop_points_to_image
from utils.geometry import BOX_UNIT, CROP_SIZE
from utils.renderer.rasterizer import rasterize_numpy

WIDE = 7_000_001  # stands where training has its epoch, so that these people are in no epoch
RIM = 8  # px around the bare body, for its clothes
TRUNCATED = 0.12  # share of the people that the image's edge cuts


@dataclass(frozen=True)
class View(Camera):
    """The camera of a crop, and the crop's place in the image."""

    box: np.ndarray  # [4] float64: x, y, width, height of the visible person, pixels of the image
    size: tuple[int, int]  # width, height of the image

    @property
    def center(self) -> np.ndarray:
        """Middle [2] of the crop, pixels of the image."""
        return self.box[:2] + self.box[2:] / 2

    @property
    def scale(self) -> float:
        """The crop's side is 200 * scale pixels."""
        return box_to_center_scale(self.box)[1]

    @property
    def metre(self) -> float:
        """Pixels of the image that a metre at the body's depth covers."""
        return float(self.cam[0]) * BOX_UNIT * self.scale / 2

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points [N,3] in metres -> [N,3]: x, y in pixels of the image, depth in metres."""
        crop = np.float64(project(points, self.cam))
        return np.column_stack([crop_points_to_image(crop[:, :2], self.center, self.scale), crop[:, 2]])

    def window(self, pixels: np.ndarray) -> tuple[int, int, int]:
        """Corner x, y and side of a square of the image that holds projected points [N,2]."""
        low = np.clip(np.floor(pixels.min(0)) - RIM, 0, self.size)
        high = np.clip(np.ceil(pixels.max(0)) + RIM, 0, self.size)
        return int(low[0]), int(low[1]), max(1, int((high - low).max()))


@dataclass(frozen=True)
class Surface:
    """Visible surface of a bare body, per pixel of the image."""

    part: np.ndarray  # [H,W] uint8, DensePose part, 0 = no body
    face: np.ndarray  # [H,W] int32, -1 = no body
    bary: np.ndarray  # [H,W,3] float32
    depth: np.ndarray  # [H,W] float32, metres from the camera

    @property
    def mask(self) -> np.ndarray:
        """Whether a pixel shows the body, [H,W] bool."""
        return self.part > 0


@dataclass(frozen=True)
class WidePerson:
    """A rendered photograph with its true labels."""

    image: np.ndarray  # [H,W,3] uint8 RGB
    view: View
    body: PosedBody
    surface: Surface
    bystander: np.ndarray | None  # [H,W] bool, visible pixels of another person who stands behind


def render_wide(resources: Resources, seed: int, index: int, difficulty: float = 1.0) -> WidePerson:
    """The photograph and the truth of person `index`; follows from split, seed, index and difficulty (0..1) alone."""
    rng = np.random.default_rng((seed, resources.split.number, WIDE, index))
    body = resources.draw_body(rng)
    view = _draw_place(rng, body.vertices, _draw_size(rng))
    surface = see_surface(resources.assets, body.vertices, view)
    image, bystander = _draw_behind(rng, resources, difficulty, body, view)
    paint(image, resources, body, view, resources.draw_outfit(rng))
    place = view.project(body.smpl_joints)[:, :2], view.metre
    sometimes(rng, 0.15 * difficulty, add_held_thing, image, *place)
    if bystander is not None:
        bystander = bystander & ~surface.mask
    return WidePerson(photograph(rng, image), view, body, surface, bystander)


def _draw_size(rng: Generator) -> tuple[int, int]:
    """Width and height of a photograph."""
    long = int(rng.integers(420, 641))
    short = int(long * rng.uniform(0.66, 0.85))
    return (short, long) if rng.random() < 0.3 else (long, short)


def _draw_place(rng: Generator, vertices: np.ndarray, size: tuple[int, int]) -> View:
    """A random size and place of the body in the image, now and then across one of its edges."""
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    room = np.float64(size) - 2 * RIM
    metre = float((room / (high - low)).min() * rng.uniform(0.5, 0.97))
    extent = metre * (high - low)
    place = RIM + extent / 2 + rng.random(2) * (room - extent)
    if rng.random() < TRUNCATED:
        axis, cut = int(rng.integers(2)), rng.uniform(0.08, 0.3) * extent
        edge = extent / 2 - cut
        left = axis == 0 and rng.random() < 0.5  # photographers rather cut feet than heads
        place[axis] = (edge if left else size - edge)[axis]
    return place_body(vertices, metre, place, size)


def place_body(vertices: np.ndarray, metre: float, place: np.ndarray, size: tuple[int, int]) -> View:
    """The view that shows the middle of a body at `place`, a metre of it `metre` pixels long.

    Args:
        vertices: [V,3] metres.
        place: [2] pixels of the image of `size` (width, height).
    """
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    extent = metre * np.float64(high - low)

    def view_of(box: np.ndarray) -> View:
        center, scale = box_to_center_scale(box)
        shift = (np.asarray(place) - center) / metre - (low + high) / 2
        return View(np.array([2 * metre / (BOX_UNIT * scale), *shift]), box, size)

    view = view_of(np.concatenate([place - extent / 2, extent]))
    for _ in range(6):  # the camera decides where the body lies, and the body's box where the crop
        view = view_of(_visible_box(view.project(vertices)[:, :2], size))
    return view


def _visible_box(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Box [4] x, y, width, height of projected vertices [V,2], as far as they lie in the image."""
    low, high = points.min(0), points.max(0)
    inside = points[((points >= 0) & (points <= size)).all(1)]
    # A side is the image's edge where the body crosses it.
    low = np.where(low < 0, 0.0, inside.min(0))
    high = np.where(high > size, np.float64(size), inside.max(0))
    return np.concatenate([low, high - low])


def see_surface(assets: PeopleAssets, vertices: np.ndarray, view: View) -> Surface:
    """Visible surface, per pixel, of a bare body with `vertices` [V,3] in metres."""
    width, height = view.size
    pixels = view.project(vertices)
    x, y, side = view.window(pixels[:, :2])
    fragments = rasterize_numpy(to_ndc(pixels, x, y, side), assets.faces, side)
    face = np.full((height, width), -1, np.int32)
    bary, depth = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    for whole, seen in zip((face, bary, depth), fragments, strict=True):
        window = whole[y : y + side, x : x + side]
        window[:] = seen[: window.shape[0], : window.shape[1]]
    part = np.where(face >= 0, assets.face_part[face], 0).astype(np.uint8)
    return Surface(part, face, bary, depth)


def _draw_behind(
    rng: Generator, resources: Resources, difficulty: float, body: PosedBody, view: View
) -> tuple[np.ndarray, np.ndarray | None]:
    """Image [H,W,3] float32 of all that is behind the person, and the mask of a bystander, if there is one."""
    (width, height), long = view.size, max(view.size)
    scene = draw_background(rng, resources.split, difficulty * rng.random(), resources.backgrounds)
    # Things are drawn on the small square scene, which then covers the image's longer side.
    zoom = long / CROP_SIZE
    x, y = (long - width) // 2, (long - height) // 2
    joints = view.project(body.smpl_joints)[:, :2]
    place = (joints + [x, y]) / zoom, view.metre / zoom
    sometimes(rng, 0.5, add_shadow, scene, *place)
    sometimes(rng, 0.6 * difficulty, add_seat, scene, *place, resources.split)
    scene = cv2.resize(scene, (long, long), interpolation=cv2.INTER_CUBIC)
    image = np.ascontiguousarray(np.clip(scene[y : y + height, x : x + width], 0, 1))
    image += rng.standard_normal((height, width), np.float32)[..., None] * np.float32(0.01)
    bystander = None
    if rng.random() < 0.35 * difficulty:
        other, place = paint_bystander(rng, image, resources, partial(_place_aside, view))
        bystander = see_surface(resources.assets, other.vertices, place).mask
    sometimes(rng, 0.08 * difficulty, add_ride, image, joints, view.metre)
    return image, bystander


def _place_aside(view: View, rng: Generator, other: PosedBody) -> View:
    """The view of another body, which stands beside or behind the person that `view` shows."""
    metre = view.metre * rng.uniform(0.45, 1.0)
    aside = rng.uniform(0.5, 1.1) * (1 if view.center[0] < view.size[0] / 2 else -1)
    place = view.center + np.array([aside, rng.normal(0, 0.08)]) * BOX_UNIT * view.scale * 0.6
    place = np.clip(place, 0.1 * np.float64(view.size), 0.9 * np.float64(view.size))
    return place_body(other.vertices, metre, place, view.size)
