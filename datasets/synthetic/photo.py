"""What a camera makes of a scene: tone, colour cast, gray, blur, low resolution, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np

SIZE = 224


def photograph(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A scene [H,W,3] float32 in 0..1 -> the photograph, uint8."""
    if rng.random() < 0.6:
        contrast, brightness = rng.uniform(0.7, 1.5), rng.normal(0.02, 0.07)
        picture = (picture - np.float32(0.5)) * np.float32(contrast) + np.float32(0.5 + brightness)
    if rng.random() < 0.3:
        picture = picture * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.07:
        tint = np.float32([1.05, 1.0, 0.88] if rng.random() < 0.3 else [1, 1, 1])
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] * tint
    picture = _soften(rng, picture)
    if rng.random() < 0.35:
        channels = 3 if rng.random() < 0.6 else 1
        noise = rng.standard_normal((*picture.shape[:2], channels), np.float32)
        picture = picture + noise * np.float32(rng.uniform(0.005, 0.04))
    out = picture * np.float32(255)
    out += np.float32(0.5)
    out = np.clip(out, 0, 255, out=out).astype(np.uint8)
    if rng.random() < 0.3:
        out = (255 * (np.arange(256) / 255) ** rng.uniform(0.65, 1.4) + 0.5).astype(np.uint8)[out]
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(25, 92))]
        out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
    return out


def _soften(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Out of focus, enlarged from a small picture, or moved; half of the pictures stay sharp."""
    kind = rng.random()
    if kind < 0.15:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.4))
    if kind < 0.35:
        size, (height, width) = int(rng.uniform(75, 210)), picture.shape[:2]
        fewer = (width * size // SIZE, height * size // SIZE)
        small = cv2.resize(picture, fewer, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if kind < 0.4:
        return cv2.filter2D(picture, -1, _motion_kernel(rng))
    return picture


def _motion_kernel(rng: np.random.Generator) -> np.ndarray:
    kernel = np.zeros((9, 9), np.float32)
    a, length = rng.uniform(0, np.pi), rng.uniform(1, 4)
    ends = [(round(4 + sign * length * np.cos(a)), round(4 + sign * length * np.sin(a))) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0, 1)
    return kernel / kernel.sum()
