"""Random augmentation of a training person and its labels (docs/method.md section 8.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from datasets.labels.masks import HALF
from datasets.legacy_crop import transform_points
from datasets.transforms import image_points_to_crop
from utils.config import option
from utils.geometry import BOX_UNIT, CROP_SIZE
from utils.skeleton import GT24_FLIP, SMPL_FLIP

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

FLIP_RATE = 0.5
PART_SCALES = (0.35, 0.8)  # side of a crop that shows a part of a person, in sides of the person's box
UPRIGHT_RATE = 0.6  # share of images that are not rotated


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random changes of training images; 0 switches a change off."""

    rot_factor: float = option(30.0, "degrees of random rotation (standard deviation, at most twice that)")
    noise_factor: float = option(0.4, "colour channels are multiplied by 1 - this to 1 + this")
    scale_factor: float = option(0.25, "random change of size (standard deviation, and at most that)")
    zoom_rate: float = option(0.0, "share of people of whom the crop shows only a part")
    occlude_rate: float = option(0.0, "share of people with a mask that something is drawn in front of")
    crowd_rate: float = option(0.0, "share of people with a mask that another person of the set is drawn beside")

    def __post_init__(self) -> None:
        rates = ("zoom_rate", "occlude_rate", "crowd_rate")
        for name in ("rot_factor", "noise_factor", "scale_factor", *rates):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; expected a number of at least 0.")
        if max(self.noise_factor, self.scale_factor) >= 1:
            given = f"{self.noise_factor} and {self.scale_factor}"
            raise ValueError(f"noise_factor and scale_factor must stay below 1, got {given}: at 1 nothing may be left.")
        for name in rates:
            if getattr(self, name) > 1:
                raise ValueError(f"{name} is a share of people, at most 1; got {getattr(self, name)}.")


@dataclass(frozen=True, eq=False)
class Occluder:
    """A rectangle in front of a person, filled with an enlarged image; places and sizes in sides of the crop."""

    left: float
    top: float
    width: float
    height: float
    texture: UInt8[np.ndarray, "h w 3"]

    def cover(self, crop: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The crop behind the rectangle."""
        covered, side = crop.copy(), len(crop)
        rows = slice(round(max(0, self.top) * side), round((self.top + self.height) * side))
        columns = slice(round(max(0, self.left) * side), round((self.left + self.width) * side))
        area = covered[rows, columns]
        if area.size:
            area[...] = cv2.resize(self.texture, area.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        return covered

    def hide(self, mask: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The mask without what the rectangle covers."""
        return replace(self, texture=np.zeros((1, 1, 3), np.uint8)).cover(mask)


@dataclass(frozen=True)
class Bystander:
    """Another person of the set, cut out by their mask and drawn beside a person."""

    index: int
    offset: tuple[float, float]  # of the middle of their box from the middle of the crop, in sides of the crop
    size: float  # side of their box in sides of the crop
    in_front: bool

    def square(self, center: Float[np.ndarray, "2"], scale: float) -> tuple[Float[np.ndarray, "2"], float]:
        """Centre (pixels) and scale (side / 200 px) of the square of their image that lies over the crop."""
        scale = scale / self.size
        return center - BOX_UNIT * scale * np.asarray(self.offset), scale

    def cover(
        self, crop: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W 3"],
        other: UInt8[np.ndarray, "H W 3"], other_mask: UInt8[np.ndarray, "H W 3"],
    ) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]:  # fmt: skip
        """Crop and mask of a person with the other one's drawn before or behind them."""
        if not self.in_front:
            other_mask = np.where(mask > HALF, 0, other_mask).astype(np.uint8)
        alpha = cv2.GaussianBlur(other_mask, (3, 3), 0) / 255.0
        drawn = (crop * (1 - alpha) + other * alpha).round().astype(np.uint8)
        return drawn, np.where(other_mask > HALF, 0, mask).astype(np.uint8)


@dataclass(frozen=True)
class AugmentValues:
    """The changes of one person. The default changes nothing."""

    flip: bool = False
    noise: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of red, green, blue
    rotation_deg: float = 0.0  # counter-clockwise
    scale: float = 1.0  # of the box around the person
    shift: tuple[float, float] = (0.0, 0.0)  # of the box's centre, in sides of the unscaled box
    occluder: Occluder | None = None
    bystander: Bystander | None = None

    def square(self, center: Float[np.ndarray, "2"], scale: float) -> tuple[Float[np.ndarray, "2"], float]:
        """Centre (pixels) and scale (side / 200 px) of the crop of a person whose box has these."""
        return center + BOX_UNIT * scale * np.asarray(self.shift), scale * self.scale


def draw_augmentation(rng: np.random.Generator, config: AugmentConfig = AugmentConfig()) -> AugmentValues:
    """Random changes, distributed as in 2020: half are flipped, three fifths upright, sizes and angles are clipped.

    Parts of people and occluders, which 2020 did not have, are drawn after the others (docs/method.md 8).
    """
    flip = rng.uniform() <= FLIP_RATE
    noise = rng.uniform(1 - config.noise_factor, 1 + config.noise_factor, 3)
    rotation = np.clip(rng.normal() * config.rot_factor, -2 * config.rot_factor, 2 * config.rot_factor)
    scale = np.clip(rng.normal() * config.scale_factor + 1, 1 - config.scale_factor, 1 + config.scale_factor)
    upright = rng.uniform() <= UPRIGHT_RATE
    shift, occluder = (0.0, 0.0), None
    if config.zoom_rate and rng.uniform() < config.zoom_rate:
        scale = rng.uniform(*PART_SCALES)
        aside, below = np.clip(rng.normal() * 0.25, -0.4, 0.4), rng.uniform(-0.5, 0.2)  # legs are cut off more often
        shift = (float(aside * (1 - scale)), float(below * (1 - scale)))
    if config.occlude_rate and rng.uniform() < config.occlude_rate:
        occluder = draw_occluder(rng)
    rotation = 0.0 if upright else float(rotation)
    return AugmentValues(flip, tuple(noise.tolist()), rotation, float(scale), shift, occluder)


def draw_occluder(rng: np.random.Generator) -> Occluder:
    """A rectangle of 0.1 to 0.6 of the crop's side, in one colour that varies smoothly or not at all."""
    width, height = rng.uniform(0.1, 0.6, 2)
    left, top = rng.uniform(-0.1, 0.9), rng.uniform(0.0, 0.95)
    texture = rng.uniform(0, 255, 3) + rng.normal(size=(*rng.integers(1, 7, 2), 3)) * rng.uniform(0, 60)
    return Occluder(left, top, width, height, texture.clip(0, 255).astype(np.uint8))


def draw_bystander(rng: np.random.Generator, people: int) -> Bystander:
    """One of the people of a set, to the left or right, about as large as the person."""
    size = float(np.clip(rng.normal() * 0.2 + 1, 0.6, 1.5))
    aside = rng.choice((-1, 1)) * rng.uniform(0.2, 0.4 + 0.3 * size)
    return Bystander(int(rng.integers(people)), (float(aside), float(rng.normal() * 0.1)), size, bool(rng.integers(2)))


def change_colors(crop: UInt8[np.ndarray, "H W 3"], noise: Sequence[float]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with each RGB channel times its factor, clipped to 0..255, fractions cut off."""
    if all(factor == 1 for factor in noise):
        return crop
    return np.clip(crop * np.asarray(noise, dtype=np.float64), 0, 255).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------- labels


def keypoints_to_crop(
    keypoints: Float[np.ndarray, "N 3"],
    center: Sequence[float],
    scale: float,
    rotation_deg: float,
    crop_mode: str,
) -> Float[np.ndarray, "N 3"]:
    """Keypoints (x, y, confidence) in the crop, x and y in [-1,1].

    Args:
        keypoints: x and y in pixels of the image.
        center: of the crop's square, pixels.
        scale: side of the square / 200 px.
        rotation_deg: of the image, degrees counter-clockwise.
        crop_mode: "warp", or "legacy" for whole pixels of the crop.
    """
    result = keypoints.copy()
    if crop_mode == "legacy":
        result[:, :2] = transform_points(keypoints[:, :2] + 1, center, scale, rotation_deg)
    else:
        result = result.astype(np.float64)
        result[:, :2] = image_points_to_crop(result[:, :2], center, scale, rotation_deg)
    result[:, :2] = 2.0 * result[:, :2] / CROP_SIZE - 1.0
    return result


def flip_keypoints(points: Float[np.ndarray, "N C"], partners: Sequence[int]) -> Float[np.ndarray, "N C"]:
    """Points mirrored at x = 0, left and right `partners` exchanged; 2D in [-1,1] or 3D."""
    mirrored = points[list(partners)]
    mirrored[:, 0] = -mirrored[:, 0]
    return mirrored


def flip_rotvec(rotvec: Float[np.ndarray, "72"]) -> Float[np.ndarray, "72"]:
    """The mirrored pose of 24 axis-angle triples (radians)."""
    return (rotvec.reshape(24, 3)[list(SMPL_FLIP)] * np.array([1.0, -1.0, -1.0])).reshape(72)


def rotate_rotvec(rotvec: Float[np.ndarray, "3"], rotation_deg: float) -> Float[np.ndarray, "3"]:
    """The global orientation (radians) turned about the viewing axis, as by turning the image counter-clockwise."""
    turn = _about_z(np.deg2rad(-rotation_deg))
    rotation, _ = cv2.Rodrigues(np.asarray(rotvec, dtype=np.float64))
    return cv2.Rodrigues(turn @ rotation)[0].reshape(3)


def change_pose(rotvec: Float[np.ndarray, "72"], rotation_deg: float, flip: bool) -> Float[np.ndarray, "72"]:
    """A pose (24 axis-angle triples) turned about the viewing axis, then mirrored if `flip`."""
    changed = rotvec.astype(np.float64)
    changed[:3] = rotate_rotvec(changed[:3], rotation_deg)
    return flip_rotvec(changed) if flip else changed


def change_joints_3d(
    joints: Float[np.ndarray, "24 4"], rotation_deg: float, flip: bool
) -> Float[np.ndarray, "24 4"]:
    """The 24 annotated joints (metres, confidence) turned about the viewing axis, then mirrored if `flip`."""
    changed = joints.copy()
    if rotation_deg != 0:
        turn = _about_z(-rotation_deg * np.pi / 180)
        changed[:, :3] = np.einsum("ij,kj->ki", turn, joints[:, :3])
    return flip_keypoints(changed, GT24_FLIP) if flip else changed


def _about_z(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
