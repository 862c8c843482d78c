"""Small textures by number: noise, stripes, checks, plaids, dots, flowers, prints, bricks, planks.

A texture is a tile [64,64,3] float32 in 0..1 that repeats without seams worth seeing; garments, walls, floors
and occluders all wear them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

TILE = 64
_AXIS = np.arange(TILE, dtype=np.float32) / TILE


def draw_color(rng: Generator) -> np.ndarray:
    """A colour [3] as clothes and rooms have it: often gray, dark or blue, sometimes bright."""
    kind = rng.random()
    if kind < 0.1:
        color = np.full(3, rng.uniform(0.8, 1.0))
    elif kind < 0.35:
        color = np.full(3, rng.random()) + rng.normal(0, 0.03, 3)
    elif kind < 0.5:
        color = np.array([0.16, 0.21, 0.36]) * rng.uniform(0.3, 2.4) + rng.normal(0, 0.03, 3)
    elif kind < 0.65:
        color = np.array([0.55, 0.42, 0.3]) * rng.uniform(0.4, 1.6) + rng.normal(0, 0.04, 3)
    else:
        color = 0.55 * rng.random(3) + 0.45 * rng.random()
        color = color.mean() + (color - color.mean()) * rng.uniform(0.4, 1.5)
    return np.clip(color, 0.02, 1).astype(np.float32)


def paint_color(rng: Generator) -> tuple[float, float, float]:
    """A random colour as OpenCV wants it."""
    return tuple(draw_color(rng).tolist())


def smooth_noise(rng: Generator, cells: int, size: int, channels: int = 1) -> np.ndarray:
    """Noise [size,size] or [size,size,C] about 0 with `cells` bumps a side, standard deviation near 1."""
    shape = (cells, cells) if channels == 1 else (cells, cells, channels)
    return cv2.resize(rng.standard_normal(shape, np.float32), (size, size), interpolation=cv2.INTER_CUBIC)


def octave_noise(rng: Generator, size: int, first: int, last: int, channels: int = 1) -> np.ndarray:
    """Sum of noises with `first`, 2 `first`, ... up to `last` bumps a side, each weaker by 0.6."""
    out, weight, cells = 0.0, 1.0, first
    while cells <= last:
        out = out + weight * smooth_noise(rng, cells, size, channels)
        weight, cells = weight * 0.6, cells * 2
    return out


def _stripes(rng: Generator) -> np.ndarray:
    wave = np.sin(2 * np.pi * _AXIS * int(rng.integers(1, 9)) + rng.uniform(0, 6)) > rng.uniform(-0.7, 0.7)
    mask = np.broadcast_to(wave[:, None] if rng.random() < 0.65 else wave[None], (TILE, TILE))
    return mask.astype(np.float32)


def _checks(rng: Generator) -> np.ndarray:
    cell = (_AXIS * 2 * int(rng.integers(1, 6))).astype(np.int32) % 2
    return (cell[:, None] ^ cell[None]).astype(np.float32)


def _plaid(rng: Generator) -> np.ndarray:
    lines = [np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)]
    for line in lines:
        for _ in range(int(rng.integers(1, 5))):
            at, width = int(rng.integers(TILE)), int(rng.integers(2, 14))
            line[np.arange(at, at + width) % TILE] += rng.uniform(0.2, 0.6)
    return np.clip(lines[0][:, None] + lines[1][None], 0, 1)


def _dots(rng: Generator) -> np.ndarray:
    count, radius = int(rng.integers(1, 6)), rng.uniform(0.12, 0.42)
    phase = (_AXIS * count) % 1 - 0.5
    return (phase[:, None] ** 2 + phase[None] ** 2 < radius**2).astype(np.float32)


def _camouflage(rng: Generator) -> np.ndarray:
    return (octave_noise(rng, TILE, int(rng.integers(3, 9)), 16) > rng.uniform(-0.3, 0.6)).astype(np.float32)


def _marble(rng: Generator) -> np.ndarray:
    noise = octave_noise(rng, TILE, 3, 24)
    return 0.5 + 0.5 * np.sin(2 * np.pi * _AXIS[:, None] * int(rng.integers(1, 4)) + 2 * noise)


def _bricks(rng: Generator) -> np.ndarray:
    rows = int(rng.integers(2, 7))
    row = (_AXIS * rows).astype(np.int32)
    across = (_AXIS[None] * max(1, rows // 2) + 0.5 * (row % 2)[:, None]) % 1
    return ((across < 0.06) | ((_AXIS * rows % 1) < 0.12)[:, None]).astype(np.float32)


def _planks(rng: Generator) -> np.ndarray:
    rows = int(rng.integers(2, 7))
    tone = rng.random(rows, dtype=np.float32)[(_AXIS * rows).astype(np.int32)]
    return np.clip(tone[:, None] + 0.25 * smooth_noise(rng, 4, TILE), 0, 1)


def _print(rng: Generator) -> np.ndarray:
    mask = np.zeros((TILE, TILE), np.float32)
    for _ in range(int(rng.integers(2, 9))):
        x, y = (int(v) for v in rng.integers(0, TILE, 2))
        if rng.random() < 0.5:
            cv2.circle(mask, (x, y), int(rng.integers(3, 14)), 1.0, -1 if rng.random() < 0.6 else 2)
        else:
            end = tuple(int(v) for v in rng.integers(0, TILE, 2))
            cv2.line(mask, (x, y), end, 1.0, int(rng.integers(1, 7)))
    return mask


GARMENT_PATTERNS = (_stripes, _stripes, _checks, _plaid, _plaid, _dots, _camouflage, _marble, _print)
SURFACE_PATTERNS = (
    _stripes, _checks, _plaid, _dots, _camouflage, _marble, _bricks, _bricks, _planks, _planks, _print,
)  # fmt: skip


def make_surface(seed: int, plain: float) -> np.ndarray:
    """The tile [64,64,3] of a wall, floor or thing; a share `plain` of all seeds gives one colour with a weave."""
    return make_tile(seed, SURFACE_PATTERNS, plain)


def make_tile(seed: int, patterns=GARMENT_PATTERNS, plain: float = 0.4) -> np.ndarray:
    """The tile [64,64,3] of a garment; a share `plain` of all seeds gives one colour with a weave."""
    rng = np.random.default_rng((11, seed))
    tile = np.empty((TILE, TILE, 3), np.float32)
    tile[:] = draw_color(rng)
    if rng.random() >= plain:
        mask = patterns[rng.integers(len(patterns))](rng)[..., None]
        other = draw_color(rng) if rng.random() < 0.7 else tile[0, 0] * np.float32(rng.uniform(0.5, 1.5))
        tile += mask * (other - tile)
    weave = smooth_noise(rng, 8, TILE) + np.float32(0.7) * rng.standard_normal((TILE, TILE), np.float32)
    tile *= 1 + np.float32(rng.uniform(0.01, 0.07)) * weave[..., None]
    return np.clip(tile, 0, 1, out=tile)


def make_streaks(seed: int, color: np.ndarray) -> np.ndarray:
    """Hair: a tile of `color` [3] with streaks along its rows' normal."""
    rng = np.random.default_rng((12, seed))
    streaks = cv2.resize(rng.standard_normal((6, 48), np.float32), (TILE, TILE))
    return np.clip(color * (1 + 0.22 * streaks[..., None]), 0, 1).astype(np.float32)


def make_skin(seed: int, color: np.ndarray) -> np.ndarray:
    """Skin: a tile of `color` [3] with soft redness."""
    rng = np.random.default_rng((13, seed))
    red = octave_noise(rng, TILE, 3, 12)[..., None] * np.float32([0.02, -0.01, -0.01])
    return np.clip(color * (1 + 0.03 * smooth_noise(rng, 24, TILE)[..., None]) + red, 0, 1).astype(np.float32)
