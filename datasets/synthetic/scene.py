"""Things around the person, and what a camera makes of the scene.

The functions `add_...` draw on one image [H,W,3] float32 in 0..1, in place; `joints` [24,2] are pixels of it, and
`metre` is how many pixels a metre at the person's depth covers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

from datasets.synthetic.appearance import Outfit
from datasets.synthetic.shading import BOTTOM, HAIR, TEXELS
from datasets.synthetic.split import Split
from datasets.synthetic.texture import TILE, draw_color, make_surface, paint_color
from utils.geometry import CROP_SIZE as SIZE

_AA = cv2.LINE_AA


def _blend(image: np.ndarray, mask: np.ndarray, surface: np.ndarray) -> None:
    x, y, w, h = cv2.boundingRect(mask)
    window = (slice(y, y + h), slice(x, x + w))
    alpha = (mask[window].astype(np.float32) / 255)[..., None]
    image[window] += alpha * (surface[window] - image[window])


def _surface(rng: Generator, split: Split) -> np.ndarray:
    """A texture that fills the image, for occluders."""
    tile = make_surface(split.texture_seed(rng), plain=0.45)
    size = int(rng.integers(TILE, SIZE + 1))
    tile = cv2.resize(tile, (size, size), interpolation=cv2.INTER_LINEAR)
    count = -(-SIZE // size)
    shade = np.linspace(1, rng.uniform(0.6, 1.2), SIZE, dtype=np.float32)[:, None, None]
    return np.tile(tile, (count, count, 1))[:SIZE, :SIZE] * shade


def sometimes(rng: Generator, probability: float, add: Callable, image: np.ndarray, *place: Any) -> None:
    """Draw one of the things below with a probability."""
    if rng.random() < probability:
        add(rng, image, *place)


def add_occluder(rng: Generator, image: np.ndarray, split: Split) -> None:
    """One thing between camera and person: a table top, a pole, a box, a round or cornered thing."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    kind = rng.random()
    x, y = (int(v) for v in rng.integers(0, SIZE, 2))
    w, h = (int(v) for v in rng.uniform(12, 60, 2))
    if kind < 0.3:  # table, counter, fence: the lower edge of the image
        top, tilt = int(rng.uniform(125, 215)), int(rng.normal(0, 12))
        cv2.fillPoly(mask, [np.array([[0, top + tilt], [SIZE, top - tilt], [SIZE, SIZE], [0, SIZE]])], 255)
    elif kind < 0.45:  # pole, rail
        shift, width = int(rng.normal(0, 20)), int(rng.integers(3, 16))
        ends = ((x, 0), (x + shift, SIZE)) if rng.random() < 0.7 else ((0, y), (SIZE, y + shift))
        cv2.line(mask, *ends, 255, width, _AA)
    elif kind < 0.7:
        cv2.rectangle(mask, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), 255, -1)
    elif kind < 0.85:
        cv2.ellipse(mask, (x, y), (w // 2, h // 2), float(rng.uniform(0, 180)), 0, 360, 255, -1, _AA)
    else:
        corners = np.array([x, y]) + rng.normal(0, 0.5, (int(rng.integers(3, 8)), 2)) * (w, h)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255, _AA)
    _blend(image, mask, _surface(rng, split))


def _point(place: np.ndarray) -> tuple[int, int]:
    return int(np.clip(place[0], -999, 999)), int(np.clip(place[1], -999, 999))


def add_held_thing(rng: Generator, image: np.ndarray, joints: np.ndarray, metre: float) -> None:
    """A racket, bat, pole, ball, phone or bag in a hand; `joints` [24,2] pixels, `metre` pixels long."""
    side = int(rng.integers(2))
    hand = joints[22 + side]
    out = hand - joints[18 + side]
    a = np.arctan2(out[1], out[0]) + rng.normal(0, 0.7)
    out = np.array([np.cos(a), np.sin(a)])
    end, color = hand + out * metre * rng.uniform(0.4, 0.8), paint_color(rng)
    kind = rng.integers(5)
    if kind == 0:  # racket
        axes = tuple(max(2, int(0.16 * metre * share)) for share in (1, rng.uniform(0.3, 0.8)))
        cv2.line(image, _point(hand), _point(end), color, max(1, int(0.02 * metre)), _AA)
        at, angle, width = _point(end + out * 0.1 * metre), float(np.degrees(a)), max(1, int(0.015 * metre))
        cv2.ellipse(image, at, axes, angle, 0, 360, paint_color(rng), width, _AA)
    elif kind == 1:  # bat, pole, umbrella
        width = max(1, int(rng.uniform(0.01, 0.06) * metre))
        cv2.line(image, _point(hand - out * 0.1 * metre), _point(end), color, width, _AA)
    elif kind == 2:  # ball, plate, balloon
        radius = max(2, int(rng.uniform(0.04, 0.14) * metre))
        cv2.circle(image, _point(hand + out * 0.1 * metre), radius, color, -1, _AA)
    elif kind == 3:  # phone, book, cup
        size = tuple((rng.uniform(0.06, 0.25, 2) * metre).tolist())
        corners = cv2.boxPoints((_point(hand), size, float(rng.uniform(0, 180))))
        cv2.fillPoly(image, [corners.astype(np.int32)], color, _AA)
    else:  # bag
        size, at = rng.uniform(0.15, 0.4, 2) * metre, hand + [0, 0.2 * metre]
        cv2.rectangle(image, _point(at - size / 2), _point(at + size / 2), color, -1)
        cv2.line(image, _point(hand), _point(at - [0, size[1] / 2]), color, max(1, int(0.02 * metre)), _AA)


def add_ride(rng: Generator, image: np.ndarray, joints: np.ndarray, metre: float) -> None:
    """Something under the feet or the seat: skis, a board, a bicycle; `joints` [24,2] pixels."""
    feet = joints[[10, 11]] + [0, 0.05 * metre]
    along = np.array([1.0, rng.normal(0, 0.25)]) * metre * rng.uniform(0.3, 0.8)
    color, width = paint_color(rng), max(1, int(rng.uniform(0.03, 0.09) * metre))
    kind = rng.integers(3)
    if kind < 2:
        for at in feet if kind == 0 else feet.mean(0, keepdims=True):
            cv2.line(image, _point(at - along), _point(at + along), color, width, _AA)
        return
    seat, radius = joints[0], rng.uniform(0.25, 0.36) * metre
    hubs = [feet.mean(0) + side * along * 1.2 - [0, 0.5 * radius] for side in (-1, 1)]
    for hub in hubs:
        cv2.circle(image, _point(hub), int(radius), (0.08, 0.08, 0.08), width, _AA)
        cv2.line(image, _point(hub), _point(seat + [0, 0.1 * metre]), color, width, _AA)
    cv2.line(image, _point(hubs[0]), _point(hubs[1]), color, width, _AA)


def add_seat(rng: Generator, image: np.ndarray, joints: np.ndarray, metre: float, split: Split) -> None:
    """A chair, box or sofa under a sitting person; nothing when the thighs hang. `joints` [24,2] pixels."""
    hips, knees, feet = joints[[1, 2]], joints[[4, 5]], joints[[7, 8]]
    if (knees - hips)[:, 1].mean() > 0.22 * metre:
        return
    across = np.concatenate([hips[:, 0], (hips + 0.6 * (knees - hips))[:, 0]])
    left, right = across.min() - rng.uniform(0.1, 0.4) * metre, across.max() + rng.uniform(0.05, 0.4) * metre
    top, bottom = hips[:, 1].mean() + 0.08 * metre, max(feet[:, 1].mean(), hips[:, 1].mean() + 0.2 * metre)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.rectangle(mask, _point(np.array([left, top])), _point(np.array([right, bottom])), 255, -1)
    if rng.random() < 0.6:
        back = np.array([left, top - rng.uniform(0.2, 0.7) * metre])
        cv2.rectangle(mask, _point(back), _point(np.array([right, top])), 255, -1)
    _blend(image, mask, _surface(rng, split))


def add_shadow(rng: Generator, image: np.ndarray, joints: np.ndarray, metre: float) -> None:
    """A soft dark spot under the feet; `joints` [24,2] pixels."""
    feet = joints[[7, 8, 10, 11]]
    small = np.zeros((56, 56), np.float32)
    center = tuple(int(v) for v in np.clip(feet.mean(0) / 4 + rng.normal(0, 1, 2), -99, 150))
    width = int(np.clip(np.ptp(feet[:, 0]) / 8 + rng.uniform(0.1, 0.3) * metre / 4, 1, 60))
    cv2.ellipse(small, center, (width, max(1, width // 4)), float(rng.normal(0, 8)), 0, 360, 1.0, -1)
    shade = cv2.resize(cv2.GaussianBlur(small, (0, 0), rng.uniform(0.8, 2.5)), (SIZE, SIZE))
    image *= 1 - np.float32(rng.uniform(0.2, 0.7)) * shade[..., None]


def add_loose_parts(image: np.ndarray, outfit: Outfit, pixels: np.ndarray) -> None:
    """Cloth between the legs of a skirt and hair behind the neck, before the person is painted over them.

    `pixels` [V,2] are the projected vertices.
    """
    _fill_hull(image, outfit, pixels[outfit.skirt], BOTTOM)
    hair = pixels[outfit.wear == HAIR]
    if outfit.cut.hair_drop > -0.1 and len(hair):
        size = np.ptp(hair, axis=0)
        drop = np.array([0, (0.35 + 2 * max(0.0, outfit.cut.hair_drop)) * size.max()])
        fall = hair.mean(0) + (hair - hair.mean(0)) * [0.85, 0.5] + drop
        _fill_hull(image, outfit, np.concatenate([hair, fall]), HAIR)


def _fill_hull(image: np.ndarray, outfit: Outfit, points: np.ndarray, garment: int) -> None:
    """The convex hull of points [N,2], textured with a garment's tile."""
    if len(points) < 3:
        return
    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.clip(hull, -500, 700).astype(np.int32), 255, _AA)
    light = outfit.light
    energy = light.ambient * (1 - 0.15 * light.sky) + 0.3 * light.key + 0.2 * light.fill
    folds = 1 + np.float32(outfit.cut.fold) * outfit.folds[:1, :, None]
    tile = np.clip(outfit.tiles[garment] * folds * np.float32(energy), 0, 1)
    count = (-(-height // TEXELS), -(-width // TEXELS), 1)
    _blend(image, mask, np.tile(tile, count)[:height, :width])


def add_border(rng: Generator, image: np.ndarray) -> None:
    """The photograph ends within the crop: one colour beyond its edge, as cropping beyond an image gives."""
    color = np.float32(0) if rng.random() < 0.7 else draw_color(rng)
    width = int(rng.uniform(4, 50))
    for side in range(4):
        if rng.random() < 0.4:
            flipped = image[::-1, ::-1] if side % 2 else image
            if side < 2:
                flipped[:width] = color
            else:
                flipped[:, :width] = color


# --------------------------------------------------------------------------------------------- the photograph


def photograph(rng: Generator, image: np.ndarray) -> np.ndarray:
    """A scene [H,W,3] float32 in 0..1 -> the photograph, uint8."""
    if rng.random() < 0.6:
        contrast, brightness = rng.uniform(0.7, 1.5), rng.normal(0.02, 0.07)
        image = (image - np.float32(0.5)) * np.float32(contrast) + np.float32(0.5 + brightness)
    if rng.random() < 0.3:
        image = image * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.07:
        tint = np.float32([1.05, 1.0, 0.88] if rng.random() < 0.3 else [1, 1, 1])
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] * tint
    image = _soften(rng, image)
    if rng.random() < 0.35:
        channels = 3 if rng.random() < 0.6 else 1
        noise = rng.standard_normal((*image.shape[:2], channels), np.float32)
        image = image + noise * np.float32(rng.uniform(0.005, 0.04))
    out = image * np.float32(255)
    out += np.float32(0.5)
    out = np.clip(out, 0, 255, out=out).astype(np.uint8)
    if rng.random() < 0.3:
        out = (255 * (np.arange(256) / 255) ** rng.uniform(0.65, 1.4) + 0.5).astype(np.uint8)[out]
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(25, 92))]
        out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
    return out


def _soften(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Out of focus, enlarged from a small image, or moved; half of the images stay sharp."""
    kind = rng.random()
    if kind < 0.15:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))
    if kind < 0.35:
        size, (height, width) = int(rng.uniform(75, 210)), image.shape[:2]
        fewer = (width * size // SIZE, height * size // SIZE)
        small = cv2.resize(image, fewer, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if kind < 0.4:
        return cv2.filter2D(image, -1, _motion_kernel(rng))
    return image


def _motion_kernel(rng: Generator) -> np.ndarray:
    kernel = np.zeros((9, 9), np.float32)
    a, length = rng.uniform(0, np.pi), rng.uniform(1, 4)
    ends = [(round(4 + sign * length * np.cos(a)), round(4 + sign * length * np.sin(a))) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0, 1)
    return kernel / kernel.sum()
