"""Families of procedural backgrounds: rooms, streets, fields, slopes, water, woods, walls, heaps, noise, crowds.

Each is a function (rng, clutter) -> image [224,224,3] float32, about 0..1; `clutter` in 0..1 says how busy.
Crowds, cells and stairs belong to the evaluation split (`split`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from datasets.synthetic.split import NUM_TEXTURE_SEEDS
from datasets.synthetic.texture import TILE, draw_color, make_surface, octave_noise, paint_color, smooth_noise
from utils.geometry import CROP_SIZE as SIZE

_ROWS = np.arange(SIZE, dtype=np.float32)[:, None]
_COLS = np.arange(SIZE, dtype=np.float32)[None]
_AA = cv2.LINE_AA


def _times(rng: Generator, low: int, high: float) -> range:
    return range(int(rng.integers(low, max(low, round(high)) + 1)))


def _canvas(image: np.ndarray) -> np.ndarray:
    """A copy that may be drawn on."""
    return np.array(np.broadcast_to(image, (SIZE, SIZE, 3)), np.float32, order="C")


def gradient(rng: Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A gradient [224,224,3] from one colour to another in a random direction."""
    a = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(a) / SIZE), np.float32(np.sin(a) / SIZE)
    t = np.clip(c * (_COLS - SIZE / 2) + (s * (_ROWS - SIZE / 2) + np.float32(0.5)), 0, 1)
    return cv2.merge([t * (b - a) + a for a, b in zip(np.float32(first), np.float32(second), strict=True)])


def _look_up(tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The endlessly repeated tile at places x, y [224,224] in texels."""
    padded = np.pad(tile, ((0, 1), (0, 1), (0, 0)), mode="wrap")
    return cv2.remap(padded, np.mod(x, TILE), np.mod(y, TILE), cv2.INTER_LINEAR)


def _surface_tile(rng: Generator) -> np.ndarray:
    """A tile of its own: seeds beyond those of the splits' textures."""
    return make_surface(NUM_TEXTURE_SEEDS + int(rng.integers(1 << 30)), plain=0.3)


def tiled(rng: Generator) -> np.ndarray:
    """A wall with a repeated texture at any scale."""
    a = rng.normal(0, 0.08) + (np.pi / 2 if rng.random() < 0.3 else 0)
    c, s = (np.float32(v / rng.uniform(0.5, 3.5)) for v in (np.cos(a), np.sin(a)))
    return _look_up(_surface_tile(rng), c * _COLS + s * _ROWS, c * _ROWS - s * _COLS)


def ground(rng: Generator, horizon: float) -> np.ndarray:
    """A textured plane in perspective below the row `horizon`; rows above are arbitrary."""
    tile, reach, a = _surface_tile(rng), rng.uniform(2500, 9000), rng.uniform(0, np.pi)
    depth = np.float32(reach) / (np.maximum(_ROWS - np.float32(horizon), 2) + 8)
    across = (_COLS - SIZE / 2) * depth / 160
    c, s = np.float32(np.cos(a)), np.float32(np.sin(a))
    out = _look_up(tile, c * across + s * depth, c * depth - s * across)
    fade = np.clip((_ROWS - np.float32(horizon)) / 50, 0, 1)[..., None]
    mean = tile.mean((0, 1))
    return mean + (out - mean) * fade


def _sky(rng: Generator) -> np.ndarray:
    if rng.random() < 0.6:
        top, low = np.float32([0.3, 0.5, 0.85]) * rng.uniform(0.7, 1.2), np.float32([0.75, 0.85, 0.95])
    else:
        top = np.float32([0.85, 0.87, 0.9]) * rng.uniform(0.55, 1.15)
        low = top * rng.uniform(0.85, 1.15)
    clouds = np.clip(octave_noise(rng, SIZE, 3, 24), 0, 2) * np.float32(rng.uniform(0, 0.2))
    return np.float32(top) + (_ROWS / SIZE)[..., None] * np.float32(low - top) + clouds[..., None]


def _grain(rng: Generator, color: np.ndarray, strength: float) -> np.ndarray:
    """Grass, leaves, sand or gravel: a colour with noise down to single pixels."""
    fine = 0.3 * smooth_noise(rng, int(rng.integers(4, 12)), SIZE)
    for cells, weight in ((22, 0.4), (50, 0.5), (100, 0.7)):
        fine += np.float32(weight) * smooth_noise(rng, cells, SIZE)
    fine += 0.6 * rng.standard_normal((SIZE, SIZE), np.float32)
    fine = 1 + np.float32(strength) * fine
    return cv2.merge([fine * c for c in np.float32(color)])


def _leaves(rng: Generator) -> np.ndarray:
    palette = np.float32([[0.28, 0.4, 0.16], [0.4, 0.45, 0.2], [0.45, 0.35, 0.18], [0.2, 0.28, 0.2]])
    color = palette[rng.integers(4)] * rng.uniform(0.5, 1.5)
    return _grain(rng, color, rng.uniform(0.15, 0.42)) + 0.03 * smooth_noise(rng, 60, SIZE, 3)


def _below(above: np.ndarray, other: np.ndarray, line: np.ndarray | float) -> np.ndarray:
    """`above` over a line of rows (one number or one for each column), `other` under it."""
    return _canvas(np.where((line < _ROWS)[..., None], other, above))


def _ragged(rng: Generator, bumps: int, height: float) -> np.ndarray:
    """A line [1,224] of tree tops or hills."""
    return np.float32(height) * cv2.resize(rng.standard_normal((1, bumps), np.float32), (SIZE, 1))


def _box(rng: Generator, image: np.ndarray, *corners: float) -> None:
    """A framed rectangle from x, y to x, y, with a colour, a texture or a gradient."""
    a, b, c, d = (max(0, min(SIZE, int(v))) for v in corners)
    if c <= a or d <= b:
        return
    kind = rng.random()
    if kind < 0.4:
        image[b:d, a:c] = draw_color(rng)
    else:
        fill = tiled(rng) if kind < 0.7 else gradient(rng, draw_color(rng), draw_color(rng))
        image[b:d, a:c] = fill[b:d, a:c]
    if rng.random() < 0.6:
        cv2.rectangle(image, (a, b), (c, d), paint_color(rng), int(rng.integers(1, 5)))


def room(rng: Generator, clutter: float) -> np.ndarray:
    """Wall, floor, windows, pictures, shelves, furniture."""
    base = 0.5 + 0.5 * draw_color(rng) if rng.random() < 0.6 else draw_color(rng)
    back = gradient(rng, base, base * rng.uniform(0.6, 1.1)) if rng.random() < 0.7 else tiled(rng)
    horizon = rng.uniform(90, 230)
    out = _below(back, ground(rng, horizon - 60), horizon)
    if rng.random() < 0.5:
        cv2.line(out, (0, int(horizon)), (SIZE, int(horizon)), paint_color(rng), int(rng.integers(1, 7)))
    if rng.random() < 0.4:  # a corner: the side wall is darker
        x = int(rng.uniform(20, 204))
        side = slice(0, x) if rng.random() < 0.5 else slice(x, SIZE)
        out[: int(min(horizon, SIZE)), side] *= np.float32(rng.uniform(0.6, 0.95))
    for _ in _times(rng, 0, 1 + 6 * clutter):
        x, y, w, h = rng.uniform((-30, -20, 12, 12), (200, 110, 90, 90))
        _box(rng, out, x, y, x + w, y + h)
    for _ in _times(rng, 0, 1 + 4 * clutter):
        x, h, w, foot = rng.uniform((-40, 20, 20, horizon), (200, 110, 110, horizon + 50))
        _box(rng, out, x, foot - h, x + w, foot)
    return out


def street(rng: Generator, clutter: float) -> np.ndarray:
    """Sky, facades with rows of windows, road, poles, parked things."""
    out = _canvas(_sky(rng))
    horizon, x = rng.uniform(100, 190), -rng.uniform(0, 60)
    while x < SIZE:
        w, top = rng.uniform(30, 130), rng.uniform(-60, horizon - 20)
        pane = tuple((draw_color(rng) * 0.6).tolist())
        cv2.rectangle(out, (int(x), int(top)), (int(x + w), int(horizon)), paint_color(rng), -1)
        step, row = rng.uniform((9, 10), (30, 30))
        for wx in np.arange(x + 4, x + w - step * 0.5, step):
            for wy in np.arange(top + 5, horizon - row * 0.5, row):
                cv2.rectangle(out, (int(wx), int(wy)), (int(wx + step * 0.55), int(wy + row * 0.6)), pane, -1)
        x += w * rng.uniform(0.7, 1.3)
    gray = np.float32([0.5, 0.5, 0.5]) * rng.uniform(0.5, 1.5)
    road = ground(rng, horizon - 20) if rng.random() < 0.4 else _grain(rng, gray, rng.uniform(0.02, 0.1))
    out = _below(out, road, horizon)
    for _ in _times(rng, 0, 5 * clutter):
        x, top, foot = rng.uniform((0, 0, horizon), (SIZE, horizon, horizon + 40))
        cv2.line(out, (int(x), int(top)), (int(x), int(foot)), paint_color(rng), int(rng.integers(1, 9)))
    for _ in _times(rng, 0, 4 * clutter):
        x, w, h = rng.uniform((-40, 30, 15), (200, 110, 50))
        _box(rng, out, x, horizon - h * 0.6, x + w, horizon + h * 0.4)
    return out


def field(rng: Generator, clutter: float) -> np.ndarray:
    """A pitch, court or beach under trees, a fence, stands or sky, with lines."""
    horizon = rng.uniform(-60, 150)
    palette = [[0.32, 0.48, 0.2], [0.42, 0.55, 0.25], [0.35, 0.5, 0.3], [0.75, 0.65, 0.48],
               [0.25, 0.4, 0.6], [0.65, 0.4, 0.3], [0.55, 0.55, 0.55]]  # fmt: skip
    color = np.float32(palette[rng.integers(len(palette))]) * rng.uniform(0.7, 1.35)
    flat = _canvas(_grain(rng, color, rng.uniform(0.02, 0.2)))
    flat *= 1 + np.float32(0.08) * smooth_noise(rng, 3, SIZE)[..., None]
    for _ in range(int(rng.integers(0, 5))):
        ends = [(int(rng.uniform(-100, 324)), int(rng.uniform(horizon, 260))) for _ in range(2)]
        cv2.line(flat, *ends, (0.92, 0.92, 0.92), int(rng.integers(1, 6)), _AA)
    far = _canvas(_leaves(rng) if rng.random() < 0.55 else gradient(rng, draw_color(rng), draw_color(rng)))
    if rng.random() < 0.5:
        far = _below(_sky(rng), far, np.float32(horizon - rng.uniform(10, 90)) + _ragged(rng, 20, 9))
    if rng.random() < 0.15 + 0.3 * clutter:  # a fence
        step, tone = int(rng.integers(4, 16)), np.float32(rng.uniform(0.4, 1.4))
        far[:, ::step] *= tone
        far[::step] *= tone
    return _below(far, flat, horizon)


def slope(rng: Generator, clutter: float) -> np.ndarray:
    """Snow, water or sand with a tilted horizon, sky and far woods."""
    palette = [[0.93, 0.95, 0.98], [0.93, 0.95, 0.98], [0.35, 0.5, 0.6], [0.8, 0.72, 0.55]]
    base = np.float32(palette[rng.integers(4)]) * rng.uniform(0.75, 1.08)
    waves = smooth_noise(rng, 5, SIZE) + cv2.resize(rng.standard_normal((40, 10), np.float32), (SIZE, SIZE))
    waves += rng.standard_normal((SIZE, SIZE), np.float32) * np.float32(rng.uniform(0, 0.8))
    line = np.float32(rng.uniform(-60, 150)) + np.float32(rng.normal(0, 0.2)) * (_COLS - 112)
    out = _sky(rng)
    if rng.random() < 0.6:
        out = _below(out, _leaves(rng) * 0.7, line - np.float32(rng.uniform(5, 60)) + _ragged(rng, 44, 7))
    return _below(out, np.float32(base) * (1 + np.float32(0.03 + 0.06 * clutter) * waves[..., None]), line)


def surf(rng: Generator, clutter: float) -> np.ndarray:
    """Water with white foam."""
    color = np.float32([[0.2, 0.38, 0.5], [0.3, 0.5, 0.5], [0.15, 0.25, 0.4]][rng.integers(3)])
    out = _canvas(_grain(rng, color * rng.uniform(0.7, 1.4), rng.uniform(0.05, 0.2)))
    noise = octave_noise(rng, SIZE, 4, 112) + smooth_noise(rng, 2, SIZE)
    foam = np.clip(noise * rng.uniform(0.6, 2.0) - np.float32(1.4 - clutter), 0, 1)[..., None]
    out += foam * (np.float32(rng.uniform(0.8, 1.0)) - out)
    return _below(_sky(rng), out, rng.uniform(-90, 90))


def woods(rng: Generator, clutter: float) -> np.ndarray:
    """Foliage with trunks over grass."""
    out = _canvas(_leaves(rng))
    for _ in _times(rng, 0, 1 + 6 * clutter):
        x, w, foot = rng.uniform((0, 2, 130), (SIZE, 16, SIZE))
        tone = tuple((np.array([0.4, 0.32, 0.25]) * rng.uniform(0.3, 1.6)).tolist())
        cv2.line(out, (int(x), 0), (int(x + rng.normal(0, 14)), int(foot)), tone, int(w), _AA)
    if rng.random() < 0.7:
        out = _below(out, _leaves(rng) * 1.2, np.float32(rng.uniform(90, 230)) + _ragged(rng, 6, 5))
    return out


def wall(rng: Generator, clutter: float) -> np.ndarray:
    """One surface, plain or patterned, with some light on it."""
    out = tiled(rng) if rng.random() < 0.6 else gradient(rng, draw_color(rng), draw_color(rng))
    return out * (1 + np.float32(0.12) * octave_noise(rng, SIZE, 2, 4 if clutter < 0.5 else 28)[..., None])


def heap(rng: Generator, clutter: float) -> np.ndarray:
    """Many shapes over each other, as shelves, markets and workshops have."""
    out = _canvas(gradient(rng, draw_color(rng), draw_color(rng)))
    for _ in _times(rng, 3, 5 + 24 * clutter):
        x, y = (int(v) for v in rng.integers(0, SIZE, 2))
        w, h = rng.uniform(6, 60, 2)
        kind = rng.integers(4)
        if kind == 0:
            _box(rng, out, x - w, y - h, x + w, y + h)
        elif kind == 1:
            turn = float(rng.uniform(0, 180))
            cv2.ellipse(out, (x, y), (int(w / 2), int(h / 2)), turn, 0, 360, paint_color(rng), -1, _AA)
        elif kind == 2:
            corners = np.array([x, y]) + rng.normal(0, 1, (int(rng.integers(3, 7)), 2)) * (w, h)
            cv2.fillPoly(out, [corners.astype(np.int32)], paint_color(rng), _AA)
        else:
            other = tuple(int(v) for v in rng.integers(0, SIZE, 2))
            cv2.line(out, (x, y), other, paint_color(rng), int(rng.integers(1, 12)), _AA)
    return out


def bokeh(rng: Generator, clutter: float) -> np.ndarray:
    """A scene far out of focus."""
    family = (room, street, field, woods, heap)[rng.integers(5)]
    small = cv2.resize(family(rng, clutter), (56, 56), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.8, 4))
    return cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def fog(rng: Generator, clutter: float) -> np.ndarray:
    """Noise in many octaves over a gradient."""
    last = int(8 * 2 ** rng.integers(0, 2 + round(3 * clutter)))
    noise = octave_noise(rng, SIZE, 2, last, 3 if rng.random() < 0.3 else 1).reshape(SIZE, SIZE, -1)
    return gradient(rng, draw_color(rng), draw_color(rng)) + noise * np.float32(rng.uniform(0.02, 0.16))


def crowd(rng: Generator, clutter: float) -> np.ndarray:
    """Rows of far heads and shirts over a field."""
    out = _canvas(field(rng, clutter))
    step, bottom = rng.uniform(10, 24), rng.uniform(60, 190)
    for y in np.arange(-5, bottom, step):
        for x in np.arange(rng.uniform(-10, 0), SIZE, step * rng.uniform(0.7, 1.2)):
            at = (int(x + rng.normal(0, 1.5)), int(y + rng.normal(0, 1.5)))
            cv2.circle(out, (at[0], at[1] + int(step * 0.5)), max(1, int(step * 0.42)), paint_color(rng), -1)
            skin = tuple((np.array([0.85, 0.66, 0.55]) * rng.uniform(0.4, 1.05)).tolist())
            cv2.circle(out, at, max(1, int(step * 0.24)), skin, -1)
    return out


def cells(rng: Generator, clutter: float) -> np.ndarray:
    """Patches around random points, as stones and scales have."""
    points = rng.uniform(0, 56, (int(rng.integers(8, 20 + round(60 * clutter))), 2)).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(56), np.arange(56)), -1).reshape(-1, 1, 2).astype(np.float32)
    nearest = ((grid - points) ** 2).sum(-1).argmin(1)
    base, other = draw_color(rng), draw_color(rng)
    tone = base + rng.random((len(points), 1)).astype(np.float32) * (other - base)
    return cv2.resize(tone[nearest].reshape(56, 56, 3), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def stairs(rng: Generator, clutter: float) -> np.ndarray:
    """Bands of steps before a wall, with a rail."""
    out = _canvas(wall(rng, clutter))
    color, row, height = draw_color(rng), rng.uniform(40, 130), rng.uniform(6, 14)
    while row < SIZE:
        edge = int(row + height * 0.4)
        out[int(row) : edge] = color
        out[edge : int(row + height)] = color * np.float32(rng.uniform(0.55, 0.75))
        row, height = row + height, height * 1.12
    ends = [(int(rng.uniform(0, SIZE)), int(rng.uniform(0, 120))), (int(rng.uniform(0, SIZE)), SIZE)]
    cv2.line(out, *ends, paint_color(rng), int(rng.integers(2, 8)), _AA)
    return out
