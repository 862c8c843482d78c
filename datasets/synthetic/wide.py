"""Larger photographs with a synthetic person somewhere in them, and what is true of every pixel.

`synthetic` makes the 224-pixel crops that training reads; evaluation reads whole photographs and crops them
itself. The camera is still that of the crop: (s, tx, ty) at focal length 5000 belongs to the square around the
person's visible box, so that a perfect prediction lies exactly on the photograph. Pixel coordinates are
continuous: a picture spans [0,width] x [0,height] and pixel i has its centre at i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from datasets.synthetic.appearance import Outfit, draw_outfit
from datasets.synthetic.background import draw_background
from datasets.synthetic.body import PosedBody, pose_body, project
from datasets.synthetic.photo import photograph
from datasets.synthetic.pose import draw_betas, draw_pose, draw_view
from datasets.synthetic.scene import add_held_thing, add_loose_parts, add_ride, add_seat, add_shadow
from datasets.synthetic.shading import paint_fragments
from datasets.transforms import box_to_center_scale, crop_points_to_picture
from utils.geometry import BOX_UNIT, CROP_SIZE
from utils.renderer.rasterizer import rasterize_numpy

if TYPE_CHECKING:
    from datasets.synthetic.dataset import SyntheticPeople

WIDE = 7_000_001  # stands where training has its epoch, so that these people are nobody else's
RIM = 8  # px around the bare body, for its clothes
TRUNCATED = 0.12  # share of the people that the picture's edge cuts


@dataclass(frozen=True)
class View:
    """The camera of a crop, and the crop's place in the picture."""

    cam: np.ndarray  # [3] float64: s, tx, ty
    box: np.ndarray  # [4] float64: x, y, width, height of the visible person, pixels of the picture

    @property
    def center(self) -> np.ndarray:
        """Middle [2] of the crop, pixels of the picture."""
        return self.box[:2] + self.box[2:] / 2

    @property
    def scale(self) -> float:
        """The crop's side is 200 * scale pixels."""
        return box_to_center_scale(self.box)[1]

    @property
    def metre(self) -> float:
        """Pixels of the picture that a metre at the body's depth covers."""
        return float(self.cam[0]) * BOX_UNIT * self.scale / 2

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points [N,3] in metres -> [N,3] float64: x, y in pixels of the picture, and depth."""
        crop = np.float64(project(points, self.cam))
        return np.column_stack([crop_points_to_picture(crop[:, :2], self.center, self.scale), crop[:, 2]])


@dataclass(frozen=True)
class Surface:
    """What of a bare body the picture shows; arrays of the picture's size."""

    part: np.ndarray  # [H,W] uint8, DensePose part, 0 = no body
    face: np.ndarray  # [H,W] int32, -1 = no body
    bary: np.ndarray  # [H,W,3] float32
    depth: np.ndarray  # [H,W] float32, metres from the camera

    @property
    def mask(self) -> np.ndarray:
        return self.part > 0


@dataclass(frozen=True)
class WidePerson:
    """A photograph and its truth; metres are in the camera's frame before its translation."""

    image: np.ndarray  # [H,W,3] uint8 RGB
    view: View
    rotvec: np.ndarray  # [24,3] float64, the root is the camera-frame orientation
    betas: np.ndarray  # [10] float32
    body: PosedBody
    surface: Surface
    bystander: np.ndarray | None  # [H,W] bool, what can be seen of somebody else who stands behind

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photograph."""
        return self.image.shape[1], self.image.shape[0]


def render_wide(people: SyntheticPeople, index: int) -> WidePerson:
    """The photograph and the truth of person `index`; follows from seed, split and index alone."""
    rng = np.random.default_rng((people.seed, people.split.number, WIDE, index))
    rotvec, betas, body = _draw_body(rng, people)
    size = _draw_size(rng)
    view = _draw_place(rng, body.vertices, size)
    surface = see_surface(people, body.vertices, view, size)
    canvas, bystander = _draw_behind(rng, people, body, view, size)
    paint_person(people, canvas, body, view, draw_outfit(rng, people.split, people.assets, people.figure))
    if rng.random() < 0.15 * people.difficulty:
        add_held_thing(rng, canvas, view.project(body.smpl_joints)[:, :2], view.metre)
    if bystander is not None:
        bystander = bystander & ~surface.mask
    return WidePerson(photograph(rng, canvas), view, rotvec, betas, body, surface, bystander)


def _draw_body(rng: np.random.Generator, people: SyntheticPeople) -> tuple[np.ndarray, np.ndarray, PosedBody]:
    pose = draw_pose(rng, people.motions, people.clips, people.assets.joint_template)
    rotvec = np.float64(draw_view(rng, pose)).reshape(24, 3)
    betas = draw_betas(rng)
    return rotvec, betas, pose_body(people.assets, rotvec, betas)


def _draw_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a photograph."""
    long = int(rng.integers(420, 641))
    short = int(long * rng.uniform(0.66, 0.85))
    return (short, long) if rng.random() < 0.3 else (long, short)


# ---------------------------------------------------------------------------------------------------- the place


def _draw_place(rng: np.random.Generator, vertices: np.ndarray, size: tuple[int, int]) -> View:
    """A random size and place of the body in the picture, now and then across one of its edges."""
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

    The crop's camera decides where the body lies, and the body's box where the crop: a few rounds settle both.
    """
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    extent = metre * np.float64(high - low)
    view = _view((low + high) / 2, metre, place, np.concatenate([place - extent / 2, extent]))
    for _ in range(6):
        box = _visible_box(view.project(vertices)[:, :2], size)
        view = _view((low + high) / 2, metre, place, box)
    return view


def _view(middle: np.ndarray, metre: float, place: np.ndarray, box: np.ndarray) -> View:
    """The view whose crop belongs to `box`, with the body's `middle` [2] (metres) at `place`."""
    center, scale = box_to_center_scale(box)
    shift = (np.asarray(place) - center) / metre - middle
    return View(np.array([2 * metre / (BOX_UNIT * scale), *shift]), box)


def _visible_box(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Box [4] x, y, width, height of projected vertices [V,2], as far as they lie in the picture."""
    low, high = points.min(0), points.max(0)
    inside = points[((points >= 0) & (points <= size)).all(1)]
    # A side is the picture's edge where the body crosses it.
    low = np.where(low < 0, 0.0, inside.min(0))
    high = np.where(high > size, np.float64(size), inside.max(0))
    return np.concatenate([low, high - low])


# ----------------------------------------------------------------------------------------------------- drawing


def _window(points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Corner and side of a square that holds points [N,2], with a rim, as far as they lie in the picture."""
    low = np.clip(np.floor(points.min(0)) - RIM, 0, size)
    high = np.clip(np.ceil(points.max(0)) + RIM, 0, size)
    return low.astype(int), max(1, int((high - low).max()))


def _rasterize(
    pixels: np.ndarray, faces: np.ndarray, corner: np.ndarray, side: int, samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fragments of projected vertices [V,3] in a square of the picture, `samples` a pixel and direction."""
    x, y = (2 * (pixels[:, :2] - corner) / side - 1).T
    return rasterize_numpy(np.column_stack([x, -y, pixels[:, 2]]), faces, side * samples)


def see_surface(people: SyntheticPeople, vertices: np.ndarray, view: View, size: tuple[int, int]) -> Surface:
    """What a picture of `size` (width, height) shows of a bare body."""
    width, height = size
    pixels = view.project(vertices)
    corner, side = _window(pixels[:, :2], size)
    face, bary, depth = _rasterize(pixels, people.assets.faces, corner, side, 1)
    place = (slice(corner[1], corner[1] + side), slice(corner[0], corner[0] + side))
    whole = Surface(
        part=np.zeros((height, width), np.uint8),
        face=np.full((height, width), -1, np.int32),
        bary=np.zeros((height, width, 3), np.float32),
        depth=np.zeros((height, width), np.float32),
    )
    rows, cols = whole.part[place].shape
    for target, seen in ((whole.face, face), (whole.bary, bary), (whole.depth, depth)):
        target[place] = seen[:rows, :cols]
    whole.part[:] = np.where(whole.face >= 0, people.assets.face_part[whole.face], 0)
    return whole


def paint_person(
    people: SyntheticPeople, picture: np.ndarray, body: PosedBody, view: View, outfit: Outfit
) -> None:
    """Paint a dressed person over `picture` [H,W,3] float32, in place, with 2x2 samples a pixel."""
    assets = people.assets
    pixels = view.project(body.vertices + body.normals * outfit.thickness[:, None])
    add_loose_parts(picture, outfit, pixels[:, :2], people.leg_share)
    corner, side = _window(pixels[:, :2], (picture.shape[1], picture.shape[0]))
    face, bary, _ = _rasterize(pixels, assets.faces, corner, side, 2)
    part = picture[corner[1] : corner[1] + side, corner[0] : corner[0] + side]
    square = np.zeros((side, side, 3), np.float32)
    square[: part.shape[0], : part.shape[1]] = part
    points = np.concatenate([assets.v_template, body.normals], axis=1)
    look = (people.figure, outfit.cut, outfit.tiles, outfit.folds, outfit.light)
    paint_fragments(face, bary, assets.faces, assets.face_part, points, *look, square)
    part[:] = square[: part.shape[0], : part.shape[1]]


def _draw_behind(
    rng: np.random.Generator, people: SyntheticPeople, body: PosedBody, view: View, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """All that is behind the person: picture [H,W,3] float32 and the mask of a bystander, if there is one."""
    hard, split = people.difficulty, people.split
    width, height = size
    scene = draw_background(rng, split, hard * rng.random(), people.pictures)
    # Things are drawn on the small square scene, which then covers the picture's longer side.
    zoom = max(size) / CROP_SIZE
    margin = np.array([(max(size) - width) // 2, (max(size) - height) // 2])
    joints, metre = (view.project(body.smpl_joints)[:, :2] + margin) / zoom, view.metre / zoom
    if rng.random() < 0.5:
        add_shadow(rng, scene, joints, metre)
    if rng.random() < 0.6 * hard:
        add_seat(rng, scene, joints, metre, split)
    scene = cv2.resize(scene, (max(size), max(size)), interpolation=cv2.INTER_CUBIC)
    picture = scene[margin[1] : margin[1] + height, margin[0] : margin[0] + width]
    picture = np.ascontiguousarray(np.clip(picture, 0, 1))
    picture += rng.standard_normal(picture.shape[:2], np.float32)[..., None] * np.float32(0.01)
    bystander = None
    if rng.random() < 0.35 * hard:
        bystander = _paint_bystander(rng, people, picture, view)
    if rng.random() < 0.08 * hard:
        add_ride(rng, picture, view.project(body.smpl_joints)[:, :2], view.metre)
    return picture, bystander


def _paint_bystander(
    rng: np.random.Generator, people: SyntheticPeople, picture: np.ndarray, view: View
) -> np.ndarray:
    """Somebody else beside or behind the person; returns the mask [H,W] of the bare body."""
    size = (picture.shape[1], picture.shape[0])
    _, _, body = _draw_body(rng, people)
    metre = view.metre * rng.uniform(0.45, 1.0)
    aside = rng.uniform(0.5, 1.1) * (1 if view.center[0] < size[0] / 2 else -1)
    place = view.center + np.array([aside, rng.normal(0, 0.08)]) * BOX_UNIT * view.scale * 0.6
    place = np.clip(place, 0.1 * np.float64(size), 0.9 * np.float64(size))
    other = place_body(body.vertices, metre, place, size)
    paint_person(people, picture, body, other, draw_outfit(rng, people.split, people.assets, people.figure))
    return see_surface(people, body.vertices, other, size).mask
