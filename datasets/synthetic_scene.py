"""What stands before the person and what the camera does: occluders, things in hands, blur, noise, compression.

Everything works on one picture [224,224,3] float32 in 0..1.
"""

from __future__ import annotations

import cv2
import numpy as np

from datasets.synthetic_split import Split
from datasets.synthetic_texture import SURFACE_PATTERNS, TILE, draw_color, make_tile

SIZE = 224


def _color(rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(float(v) for v in draw_color(rng))


def _surface(rng: np.random.Generator, split: Split) -> np.ndarray:
    """A texture that fills the picture, for occluders."""
    tile = make_tile(split.texture_seed(rng), SURFACE_PATTERNS, 0.45)
    size = int(rng.integers(TILE, SIZE + 1))
    tile = cv2.resize(tile, (size, size), interpolation=cv2.INTER_LINEAR)
    count = -(-SIZE // size)
    shade = np.linspace(1, rng.uniform(0.6, 1.2), SIZE, dtype=np.float32)[:, None, None]
    return np.tile(tile, (count, count, 1))[:SIZE, :SIZE] * shade


def add_occluder(rng: np.random.Generator, picture: np.ndarray, split: Split) -> None:
    """One thing between camera and person: a table top, a pole, a box, a round or cornered thing."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    kind = rng.random()
    x, y = (int(v) for v in rng.integers(0, SIZE, 2))
    w, h = (int(v) for v in rng.uniform(12, 60, 2))
    if kind < 0.25:  # table, counter, fence: the lower edge of the picture
        top = int(rng.uniform(125, 215))
        tilt = int(rng.normal(0, 12))
        cv2.fillPoly(mask, [np.array([[0, top + tilt], [SIZE, top - tilt], [SIZE, SIZE], [0, SIZE]])], 255)
    elif kind < 0.4:  # pole, rail
        far = (x + int(rng.normal(0, 20)), SIZE) if rng.random() < 0.7 else (SIZE, y + int(rng.normal(0, 20)))
        near = (x, 0) if far[1] == SIZE else (0, y)
        cv2.line(mask, near, far, 255, int(rng.integers(3, 16)), cv2.LINE_AA)
    elif kind < 0.7:
        cv2.rectangle(mask, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), 255, -1)
    elif kind < 0.85:
        cv2.ellipse(mask, (x, y), (w // 2, h // 2), float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    else:
        corners = np.array([x, y]) + rng.normal(0, 0.5, (int(rng.integers(3, 8)), 2)) * (w, h)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    alpha = (mask.astype(np.float32) / 255)[..., None]
    picture += alpha * (_surface(rng, split) - picture)


def add_held_thing(rng: np.random.Generator, picture: np.ndarray, joints: np.ndarray, pixels_per_metre: float) -> None:
    """Something in a hand or at the feet: a racket, bat, ball, phone, bag, skis, a board. `joints` [24,2] pixels."""
    hand = joints[22 + int(rng.integers(2))]
    elbow = joints[18 + int(rng.integers(2))]
    m = pixels_per_metre
    out = (hand - elbow) / (np.linalg.norm(hand - elbow) + 1e-6)
    a = rng.normal(0, 0.7)
    out = np.array([out[0] * np.cos(a) - out[1] * np.sin(a), out[0] * np.sin(a) + out[1] * np.cos(a)])
    end = hand + out * m * rng.uniform(0.4, 0.8)
    point = lambda p: (int(np.clip(p[0], -999, 999)), int(np.clip(p[1], -999, 999)))  # noqa: E731
    kind = rng.integers(7)
    if kind == 0:  # racket
        cv2.line(picture, point(hand), point(end), _color(rng), max(1, int(0.02 * m)), cv2.LINE_AA)
        angle = float(np.degrees(np.arctan2(out[1], out[0])))
        axes = (max(2, int(0.16 * m)), max(2, int(0.16 * m * rng.uniform(0.3, 0.8))))
        cv2.ellipse(picture, point(end + out * 0.1 * m), axes, angle, 0, 360, _color(rng), max(1, int(0.015 * m)), cv2.LINE_AA)
    elif kind == 1:  # bat, stick, umbrella
        cv2.line(picture, point(hand - out * 0.1 * m), point(end), _color(rng), max(1, int(rng.uniform(0.015, 0.06) * m)), cv2.LINE_AA)
    elif kind == 2:  # ball, plate, balloon
        cv2.circle(picture, point(hand + out * 0.1 * m), max(2, int(rng.uniform(0.04, 0.14) * m)), _color(rng), -1, cv2.LINE_AA)
    elif kind == 3:  # phone, book, cup
        size = rng.uniform(0.06, 0.25, 2) * m
        cv2.fillPoly(picture, [cv2.boxPoints((point(hand), tuple(size.tolist()), float(rng.uniform(0, 180)))).astype(np.int32)], _color(rng), cv2.LINE_AA)
    elif kind == 4:  # bag
        size, at = rng.uniform(0.15, 0.4, 2) * m, hand + [0, 0.2 * m]
        cv2.rectangle(picture, point(at - size / 2), point(at + size / 2), _color(rng), -1)
        cv2.line(picture, point(hand), point(at - [0, size[1] / 2]), _color(rng), max(1, int(0.02 * m)), cv2.LINE_AA)
    else:  # skis, board, step
        feet = joints[[10, 11]] + [0, 0.05 * m]
        along = np.array([1.0, rng.normal(0, 0.25)]) * m * rng.uniform(0.3, 0.8)
        places = feet if kind == 5 else feet.mean(0, keepdims=True)
        color, width = _color(rng), max(1, int(rng.uniform(0.03, 0.09) * m))
        for at in places:
            cv2.line(picture, point(at - along), point(at + along), color, width, cv2.LINE_AA)


def add_shadow(rng: np.random.Generator, picture: np.ndarray, joints: np.ndarray, pixels_per_metre: float) -> None:
    """A soft dark spot under the feet; `joints` [24,2] pixels."""
    feet = joints[[7, 8, 10, 11]]
    small = np.zeros((56, 56), np.float32)
    center = tuple(int(v) for v in np.clip(feet.mean(0) / 4 + rng.normal(0, 1, 2), -99, 150))
    width = int(np.clip(np.ptp(feet[:, 0]) / 8 + rng.uniform(0.1, 0.3) * pixels_per_metre / 4, 1, 60))
    cv2.ellipse(small, center, (width, max(1, width // 4)), float(rng.normal(0, 8)), 0, 360, 1.0, -1)
    shade = cv2.resize(cv2.GaussianBlur(small, (0, 0), rng.uniform(0.8, 2.5)), (SIZE, SIZE))
    picture *= 1 - np.float32(rng.uniform(0.2, 0.7)) * shade[..., None]


def add_border(rng: np.random.Generator, picture: np.ndarray) -> None:
    """The photograph ends within the crop: one colour beyond its edge, as cropping beyond a picture gives."""
    color = np.float32(0) if rng.random() < 0.7 else np.float32(rng.random())
    width = int(rng.uniform(4, 50))
    for side in range(4):
        if rng.random() < 0.4:
            rows = (slice(0, width), slice(SIZE - width, SIZE), slice(None), slice(None))[side]
            cols = (slice(None), slice(None), slice(0, width), slice(SIZE - width, SIZE))[side]
            picture[rows, cols] = color


def photograph(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The picture [224,224,3] uint8 as a camera gives it: tone, colour cast, gray, blur, noise, compression."""
    if rng.random() < 0.5:
        picture = (picture - 0.5) * np.float32(rng.uniform(0.65, 1.3)) + np.float32(0.5 + rng.normal(0, 0.06))
    if rng.random() < 0.3:
        picture = picture * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.08:
        gray = picture.mean(2, keepdims=True)
        picture = np.repeat(gray, 3, 2) * (np.float32([1.05, 1.0, 0.88]) if rng.random() < 0.3 else np.float32(1))
    kind = rng.random()
    if kind < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.6))
    elif kind < 0.42:
        size = int(rng.uniform(70, 200))
        picture = cv2.resize(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), (SIZE, SIZE))
    elif kind < 0.48:
        picture = cv2.filter2D(picture, -1, _motion_kernel(rng))
    if rng.random() < 0.4:
        noise = rng.standard_normal((SIZE, SIZE, 3 if rng.random() < 0.6 else 1), np.float32)
        picture = picture + noise * np.float32(rng.uniform(0.005, 0.045))
    out = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.3:
        lut = (255 * (np.arange(256) / 255) ** rng.uniform(0.65, 1.5) + 0.5).astype(np.uint8)
        out = lut[out]
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(25, 92))]
        out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
    return out


def _motion_kernel(rng: np.random.Generator) -> np.ndarray:
    kernel = np.zeros((9, 9), np.float32)
    a, length = rng.uniform(0, np.pi), rng.uniform(1, 4)
    ends = [(round(4 + sign * length * np.cos(a)), round(4 + sign * length * np.sin(a))) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0, 1)
    return kernel / kernel.sum()
