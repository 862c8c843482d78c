"""One rendered person: body, clothes and light drawn from a random generator, between background and occluders.

The camera is the network's own, (s, tx, ty) at focal length 5000, so that a camera fitted to the keypoints is the
camera of the image (docs/method.md 7.3, 8.9). `Resources` holds what all people of a split are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator

from datasets.synthetic.appearance import Outfit, draw_outfit, measure_figure
from datasets.synthetic.background import draw_background, list_images
from datasets.synthetic.body import PeopleAssets, PosedBody, load_assets, pose_body, project, to_ndc
from datasets.synthetic.fitted_poses import FittedPoses
from datasets.synthetic.pose import MotionClips, draw_betas, draw_pose, draw_view, load_motions
from datasets.synthetic.scene import (
    add_border,
    add_held_thing,
    add_loose_parts,
    add_occluder,
    add_ride,
    add_seat,
    add_shadow,
    photograph,
    sometimes,
)
from datasets.synthetic.shading import Figure, paint_fragments
from datasets.synthetic.split import Split
from utils.geometry import CROP_SIZE
from utils.renderer.rasterizer import rasterize_numpy

MIN_SCALE, MAX_SCALE = 0.5, 2.6  # of the camera
# SMPL joints that an upper-body or partial crop keeps, and the margin around them in metres.
PARTIAL_CROPS = (
    ((15, 12, 16, 17, 18, 19, 20, 21, 0), 0.16),
    ((15, 12, 16, 17, 18, 19, 9), 0.14),
    ((15, 16, 17, 0, 1, 2, 4, 5), 0.14),
    ((9, 16, 17, 0, 1, 2, 4, 5, 7, 8), 0.12),
)


@dataclass(frozen=True)
class Resources:
    """Body, motions, textures and backgrounds of one split."""

    split: Split
    assets: PeopleAssets
    motions: MotionClips  # of the split
    figure: Figure
    backgrounds: list[Path]  # the user's images for backgrounds, of the split
    fitted: FittedPoses | None = None

    def draw_body(self, rng: Generator) -> PosedBody:
        """A body with pose, view and shape drawn."""
        if self.fitted and rng.random() < self.fitted.share:
            pose = self.fitted.draw(rng)
        else:
            pose = draw_pose(rng, self.motions, self.assets.joint_template)
        return pose_body(self.assets, draw_view(rng, pose), draw_betas(rng))

    def draw_outfit(self, rng: Generator) -> Outfit:
        """Clothes, skin, hair and light."""
        return draw_outfit(rng, self.split, self.assets, self.figure)


def load_resources(
    split: str, backgrounds: Path | str | None = None, fitted: FittedPoses | None = None
) -> Resources:
    """The open body, motions, figure and own background images for a split; see `SyntheticPeople`."""
    material, assets, motions = Split(split), load_assets(), load_motions()
    motions = replace(motions, chosen=material.clips(motions.names))
    images = material.images(list_images(Path(backgrounds))) if backgrounds else []
    return Resources(material, assets, motions, measure_figure(assets), images, fitted)


@dataclass(frozen=True)
class Camera:
    """The network's camera over the 224-pixel crop."""

    cam: np.ndarray  # [3]: s, tx, ty

    @property
    def metre(self) -> float:
        """Pixels of the image that a metre at the body's depth covers."""
        return float(self.cam[0]) * CROP_SIZE / 2

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points [N,3] in metres -> [N,3]: x, y in pixels of the image, depth in metres."""
        return project(points, self.cam)

    def window(self, pixels: np.ndarray) -> tuple[int, int, int]:
        """Corner x, y and side of a square of the image that holds projected points [N,2]."""
        return 0, 0, CROP_SIZE


@dataclass(frozen=True)
class SyntheticRender:
    """A rendered person with its true camera and body."""

    image: np.ndarray  # [224,224,3] uint8 RGB
    cam: np.ndarray  # [3] float32: s, tx, ty
    body: PosedBody


def render_person(
    rng: Generator, resources: Resources, difficulty: float, labels_only: bool
) -> SyntheticRender:
    """Draw a person, the camera and, unless the labels will do, the image.

    Args:
        difficulty: 0..1, scales occluders, other people and busy backgrounds.
        labels_only: leave the image black; all labels are the same.
    """
    body = resources.draw_body(rng)
    camera = draw_camera(rng, body)
    if labels_only:
        image = np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8)
    else:
        image = _draw_image(rng, resources, difficulty, body, camera)
    return SyntheticRender(image, camera.cam, body)


def draw_camera(rng: Generator, body: PosedBody) -> Camera:
    """Camera of a crop around the person's box, in every fifth image around a part of it."""
    points, margin = body.vertices[::7], 0.0
    if rng.random() < 0.2:
        joints, margin = PARTIAL_CROPS[rng.integers(len(PARTIAL_CROPS))]
        points = body.smpl_joints[list(joints)]
    low, high = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
    side = float((high - low).max()) * 1.2 * np.exp(rng.normal(0, 0.11))
    scale = float(np.clip(2 / side, MIN_SCALE, MAX_SCALE))
    middle = (low + high) / 2 + rng.normal(0, 0.05, 2) / scale
    return Camera(np.float32([scale, -middle[0], -middle[1]]))


def _draw_image(
    rng: Generator, resources: Resources, difficulty: float, body: PosedBody, camera: Camera
) -> np.ndarray:
    """The image [224,224,3] uint8, drawn back to front."""
    split = resources.split
    image = draw_background(rng, split, difficulty * rng.random(), resources.backgrounds)
    if rng.random() < 0.3 * difficulty:
        for _ in range(2 if rng.random() < 0.3 else 1):
            paint_bystander(rng, image, resources, partial(_place_aside, camera))
    place = camera.project(body.smpl_joints)[:, :2], camera.metre
    sometimes(rng, 0.4, add_shadow, image, *place)
    sometimes(rng, 0.6 * difficulty, add_seat, image, *place, split)
    sometimes(rng, 0.12 * difficulty, add_ride, image, *place)
    sometimes(rng, 0.15 * difficulty, add_held_thing, image, *place)
    paint(image, resources, body, camera, resources.draw_outfit(rng))
    sometimes(rng, 0.2 * difficulty, add_held_thing, image, *place)
    sometimes(rng, 0.05 * difficulty, add_ride, image, *place)
    if rng.random() < 0.25 * difficulty:
        for _ in range(int(rng.integers(1, 3))):
            add_occluder(rng, image, split)
    if rng.random() < 0.04 * difficulty:
        paint_bystander(rng, image, resources, partial(_place_aside, camera))
    sometimes(rng, 0.12, add_border, image)
    return photograph(rng, image)


def _place_aside(camera: Camera, rng: Generator, other: PosedBody) -> Camera:
    """Camera of another body, which stands further away or beside the person that `camera` shows."""
    scale = np.clip(camera.cam[0] * rng.uniform(0.5, 1.1), 0.3, MAX_SCALE)
    aside = rng.uniform(0.45, 1.0) * (1 if rng.random() < 0.5 else -1)
    cam = np.float32([scale, aside / scale, rng.normal(0, 0.12) / scale])
    cam[1:] -= other.smpl_joints[0, :2]
    return Camera(cam)


def paint_bystander(
    rng: Generator, image: np.ndarray, resources: Resources, place: Callable[[Generator, PosedBody], Camera]
) -> tuple[PosedBody, Camera]:
    """Paint another person over `image` [H,W,3] float32, in place, seen by the camera `place(rng, body)`."""
    body = resources.draw_body(rng)
    camera = place(rng, body)
    paint(image, resources, body, camera, resources.draw_outfit(rng))
    return body, camera


def paint(image: np.ndarray, resources: Resources, body: PosedBody, camera: Camera, outfit: Outfit) -> None:
    """Paint a body in its outfit over `image` [H,W,3] float32, in place, with 2x2 samples a pixel."""
    assets = resources.assets
    pixels = camera.project(body.vertices + body.normals * outfit.thickness[:, None])
    add_loose_parts(image, outfit, pixels[:, :2])
    x, y, side = camera.window(pixels[:, :2])
    face, bary, _ = rasterize_numpy(to_ndc(pixels, x, y, side), assets.faces, 2 * side)
    window = image[y : y + side, x : x + side]
    painted = np.ascontiguousarray(window)
    points = np.concatenate([assets.v_template, body.normals], axis=1)
    look = (resources.figure, outfit.cut, outfit.tiles, outfit.folds, outfit.light)
    paint_fragments(face, bary, assets.faces, assets.face_part, points, *look, painted)
    window[:] = painted
