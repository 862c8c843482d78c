"""Families of procedural backgrounds that only the evaluation split shows (`synthetic_split`)."""

from __future__ import annotations

import cv2
import numpy as np

from datasets.synthetic.places import SIZE, field, paint_color, wall
from datasets.synthetic.texture import draw_color


def crowd(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Rows of far heads and shirts over a field."""
    out = np.array(field(rng, clutter), order="C")
    step, bottom = rng.uniform(10, 24), rng.uniform(60, 190)
    for y in np.arange(-5, bottom, step):
        for x in np.arange(rng.uniform(-10, 0), SIZE, step * rng.uniform(0.7, 1.2)):
            at = (int(x + rng.normal(0, 1.5)), int(y + rng.normal(0, 1.5)))
            cv2.circle(out, (at[0], at[1] + int(step * 0.5)), max(1, int(step * 0.42)), paint_color(rng), -1)
            skin = tuple((np.array([0.85, 0.66, 0.55]) * rng.uniform(0.4, 1.05)).tolist())
            cv2.circle(out, at, max(1, int(step * 0.24)), skin, -1)
    return out


def cells(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Patches around random points, as stones and scales have."""
    points = rng.uniform(0, 56, (int(rng.integers(8, 20 + round(60 * clutter))), 2)).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(56), np.arange(56)), -1).reshape(-1, 1, 2).astype(np.float32)
    nearest = ((grid - points) ** 2).sum(-1).argmin(1)
    base, other = draw_color(rng), draw_color(rng)
    tone = base + rng.random((len(points), 1)).astype(np.float32) * (other - base)
    return cv2.resize(tone[nearest].reshape(56, 56, 3), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def stairs(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Bands of steps before a wall, with a rail."""
    out = np.array(wall(rng, clutter), order="C")
    color, row, height = draw_color(rng), rng.uniform(40, 130), rng.uniform(6, 14)
    while row < SIZE:
        edge = int(row + height * 0.4)
        out[int(row) : edge] = color
        out[edge : int(row + height)] = color * np.float32(rng.uniform(0.55, 0.75))
        row, height = row + height, height * 1.12
    ends = [(int(rng.uniform(0, SIZE)), int(rng.uniform(0, 120))), (int(rng.uniform(0, SIZE)), SIZE)]
    cv2.line(out, *ends, paint_color(rng), int(rng.integers(2, 8)), cv2.LINE_AA)
    return out
