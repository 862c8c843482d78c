"""Backgrounds by number: rooms, streets, fields, slopes, foliage, walls, clutter, bokeh; some held out.

Each family is a function (rng, clutter) -> picture [224,224,3] float32 in 0..1; `clutter` in 0..1 says how busy.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from datasets.synthetic_split import Split
from datasets.synthetic_texture import SURFACE_PATTERNS, TILE, draw_color, make_tile, octave_noise, smooth_noise

SIZE = 224
_ROWS = np.arange(SIZE, dtype=np.float32)[:, None]
_COLS = np.arange(SIZE, dtype=np.float32)[None]
_PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def _canvas(picture: np.ndarray) -> np.ndarray:
    """A copy that may be drawn on."""
    return np.array(picture, np.float32, order="C")


def gradient(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """From one colour to another, straight across the picture in a random direction."""
    a = rng.uniform(0, 2 * np.pi)
    t = (np.float32(np.cos(a)) * (_COLS / SIZE - 0.5) + np.float32(np.sin(a)) * (_ROWS / SIZE - 0.5) + 0.5)[..., None]
    return (first + np.clip(t, 0, 1) * (second - first)).astype(np.float32)


def tiled(rng: np.random.Generator, texture: np.ndarray | None = None) -> np.ndarray:
    """A flat surface with a repeated texture, any scale and slight turn."""
    tile = make_tile(int(rng.integers(1 << 30)), SURFACE_PATTERNS, 0.3) if texture is None else texture
    zoom, a = rng.uniform(0.5, 3.5), rng.normal(0, 0.08) + (np.pi / 2 if rng.random() < 0.3 else 0)
    c, s = zoom * np.cos(a), zoom * np.sin(a)
    warp = np.float32([[c, -s, rng.uniform(0, TILE)], [s, c, rng.uniform(0, TILE)]])
    return _warp_tile(tile, np.vstack([warp, [0, 0, 1]]))


def ground(rng: np.random.Generator, horizon: float, texture: np.ndarray | None = None) -> np.ndarray:
    """A textured plane in perspective below the row `horizon`; rows above are filled without meaning."""
    tile = make_tile(int(rng.integers(1 << 30)), SURFACE_PATTERNS, 0.3) if texture is None else texture
    reach, a = rng.uniform(2500, 9000), rng.uniform(0, np.pi)
    depth = reach / (np.maximum(_ROWS - horizon, 2.0) + 8)
    across = (_COLS - SIZE / 2) * depth / 160
    u = np.cos(a) * across + np.sin(a) * depth
    v = np.cos(a) * depth - np.sin(a) * across
    big = np.tile(tile, (2, 2, 1))
    u, v = np.mod(u, TILE).astype(np.float32), np.mod(v, TILE).astype(np.float32)
    out = cv2.remap(big, u, v, cv2.INTER_LINEAR)
    fade = np.clip((_ROWS - horizon) / 50, 0, 1)[..., None]
    return out * fade + tile.mean((0, 1)) * (1 - fade)


def _warp_tile(tile: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The repeated tile seen through a 3x3 map from tile to picture."""
    inverse = np.linalg.inv(matrix)
    x, y, w = (inverse[i, 0] * _COLS + inverse[i, 1] * _ROWS + inverse[i, 2] for i in range(3))
    big = np.tile(tile, (2, 2, 1))
    return cv2.remap(big, np.mod(x / w, TILE).astype(np.float32), np.mod(y / w, TILE).astype(np.float32), cv2.INTER_LINEAR)


def _sky(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.6:
        top, low = np.float32([0.3, 0.5, 0.85]) * rng.uniform(0.7, 1.15), np.float32([0.75, 0.85, 0.95])
    else:
        top = np.float32([0.8, 0.82, 0.85]) * rng.uniform(0.5, 1.15)
        low = top * np.float32(rng.uniform(0.85, 1.15))
    t = (_ROWS / SIZE)[..., None]
    clouds = np.clip(octave_noise(rng, SIZE, 3, 24), 0, 2)[..., None] * np.float32(rng.uniform(0, 0.15))
    return np.broadcast_to(top + t * (low - top), (SIZE, SIZE, 3)) + clouds


def _leaves(rng: np.random.Generator, color: np.ndarray | None = None) -> np.ndarray:
    base = np.float32([0.25, 0.4, 0.15]) * rng.uniform(0.4, 1.5) if color is None else color
    noise = octave_noise(rng, SIZE, 6, 112)[..., None]
    return np.clip(base * (1 + 0.35 * noise) + 0.04 * smooth_noise(rng, 60, SIZE, 3), 0, 1)


def _below(picture: np.ndarray, other: np.ndarray, line: np.ndarray | float) -> np.ndarray:
    """`picture` above a line of rows (one number or one for each column), `other` under it."""
    return np.where((_ROWS > line)[..., None], other, picture)


def _box(rng, picture: np.ndarray, x0: float, y0: float, x1: float, y1: float, fill: np.ndarray | None = None) -> None:
    """A framed rectangle with a colour, a texture or a gradient."""
    a, b = (max(0, int(v)) for v in (x0, y0))
    c, d = (max(0, min(SIZE, int(v))) for v in (x1, y1))
    if c <= a or d <= b:
        return
    if fill is None:
        fill = tiled(rng) if rng.random() < 0.35 else gradient(rng, draw_color(rng), draw_color(rng))
    picture[b:d, a:c] = fill[b:d, a:c]
    if rng.random() < 0.6:
        cv2.rectangle(picture, (a, b), (c, d), tuple(float(v) for v in draw_color(rng)), int(rng.integers(1, 5)))


def room(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Wall, floor, windows, pictures, shelves, furniture."""
    base = 0.5 + 0.5 * draw_color(rng) if rng.random() < 0.6 else draw_color(rng)
    wall = gradient(rng, base, base * np.float32(rng.uniform(0.6, 1.1))) if rng.random() < 0.7 else tiled(rng)
    horizon = rng.uniform(90, 230)
    floor = ground(rng, horizon - 60)
    out = _canvas(_below(wall, floor, horizon))
    if rng.random() < 0.5:
        cv2.line(out, (0, int(horizon)), (SIZE, int(horizon)), tuple(float(v) for v in draw_color(rng)), int(rng.integers(1, 7)))
    if rng.random() < 0.4:  # a corner: the side wall is darker
        x = int(rng.uniform(20, 204))
        side = slice(0, x) if rng.random() < 0.5 else slice(x, SIZE)
        out[: int(min(horizon, SIZE)), side] *= np.float32(rng.uniform(0.6, 0.95))
    for _ in range(int(rng.integers(0, 2 + round(5 * clutter)))):
        x, y, w, h = rng.uniform(-30, 200), rng.uniform(-20, 110), rng.uniform(15, 90), rng.uniform(15, 90)
        _box(rng, out, x, y, x + w, y + h)
    for _ in range(int(rng.integers(0, 1 + round(4 * clutter)))):
        x, h, w = rng.uniform(-40, 200), rng.uniform(20, 110), rng.uniform(20, 110)
        foot = horizon + rng.uniform(0, 50)
        _box(rng, out, x, foot - h, x + w, foot)
    return out


def street(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Sky, facades with rows of windows, road, poles."""
    out = _canvas(_sky(rng))
    horizon, x = rng.uniform(100, 190), -rng.uniform(0, 60)
    while x < SIZE:
        w, top = rng.uniform(30, 130), rng.uniform(-60, horizon - 20)
        wall, pane = draw_color(rng), draw_color(rng) * np.float32(0.6)
        cv2.rectangle(out, (int(x), int(top)), (int(x + w), int(horizon)), tuple(float(v) for v in wall), -1)
        step_x, step_y = rng.uniform(9, 30), rng.uniform(10, 30)
        for wx in np.arange(x + 4, x + w - step_x * 0.5, step_x):
            for wy in np.arange(top + 5, horizon - step_y * 0.5, step_y):
                cv2.rectangle(out, (int(wx), int(wy)), (int(wx + step_x * 0.55), int(wy + step_y * 0.6)), tuple(float(v) for v in pane), -1)
        x += w * rng.uniform(0.7, 1.3)
    road = ground(rng, horizon - 20) if rng.random() < 0.5 else np.float32([0.45, 0.45, 0.45]) * rng.uniform(0.5, 1.5) * (1 + 0.06 * octave_noise(rng, SIZE, 28, 112)[..., None])
    out = _canvas(_below(out, road, horizon))
    for _ in range(int(rng.integers(0, 1 + round(5 * clutter)))):
        x = int(rng.uniform(0, SIZE))
        top = int(rng.uniform(0, horizon))
        cv2.line(out, (x, top), (x, int(horizon + rng.uniform(0, 40))), tuple(float(v) for v in draw_color(rng)), int(rng.integers(1, 9)))
    for _ in range(int(rng.integers(0, 1 + round(3 * clutter)))):  # parked things
        x, w, h = rng.uniform(-40, 200), rng.uniform(30, 110), rng.uniform(15, 45)
        _box(rng, out, x, horizon - h * 0.6, x + w, horizon + h * 0.4)
    return out


def field(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """A pitch, court or beach under trees, a fence, stands or the sea, with lines."""
    horizon = rng.uniform(-20, 170)
    palette = ((0.3, 0.5, 0.2), (0.25, 0.45, 0.25), (0.75, 0.65, 0.48), (0.25, 0.4, 0.6), (0.65, 0.4, 0.3), (0.55, 0.55, 0.55))
    color = np.float32(palette[rng.integers(len(palette))]) * np.float32(rng.uniform(0.6, 1.3))
    grain = octave_noise(rng, SIZE, 14, 112)[..., None] * np.float32(rng.uniform(0.02, 0.16))
    flat = color * (1 + grain) * (1 + 0.1 * smooth_noise(rng, 3, SIZE)[..., None])
    flat = _canvas(np.broadcast_to(flat, (SIZE, SIZE, 3)))
    for _ in range(int(rng.integers(0, 5))):
        ends = [(int(rng.uniform(-100, 324)), int(rng.uniform(horizon, 260))) for _ in range(2)]
        cv2.line(flat, *ends, (0.92, 0.92, 0.92), int(rng.integers(1, 6)), cv2.LINE_AA)
    far = _leaves(rng) if rng.random() < 0.55 else _canvas(gradient(rng, draw_color(rng), draw_color(rng)))
    if rng.random() < 0.5:
        edge = horizon - rng.uniform(10, 90) + 9 * cv2.resize(rng.standard_normal((1, 20), np.float32), (SIZE, 1))
        far = _canvas(_below(_sky(rng), far, edge))
    if rng.random() < 0.3 * (0.5 + clutter):
        step = int(rng.integers(5, 16))
        far[:, ::step] *= 0.6
        far[::step] *= 0.6
    return _below(far, flat, horizon)


def slope(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Snow, water or sand with a tilted horizon, sky and far woods."""
    base = np.float32([[0.9, 0.93, 0.97], [0.35, 0.5, 0.6], [0.8, 0.72, 0.55]][rng.integers(3)]) * np.float32(rng.uniform(0.7, 1.08))
    waves = smooth_noise(rng, 5, SIZE) * 0.05 + cv2.resize(rng.standard_normal((40, 10), np.float32), (SIZE, SIZE)) * 0.05
    line = rng.uniform(-40, 170) + rng.normal(0, 0.2) * (_COLS - 112)
    out = _sky(rng)
    if rng.random() < 0.6:
        trees = line - rng.uniform(5, 60) + 7 * cv2.resize(rng.standard_normal((1, 44), np.float32), (SIZE, 1))
        out = _below(out, _leaves(rng, np.float32([0.15, 0.22, 0.15]) * np.float32(rng.uniform(0.5, 1.6))), trees)
    return _below(out, base * (1 + np.float32(0.3 + clutter) * waves[..., None]), line)


def woods(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Foliage with trunks over grass."""
    out = _canvas(_leaves(rng))
    for _ in range(int(rng.integers(0, 2 + round(6 * clutter)))):
        x, w = rng.uniform(0, SIZE), rng.uniform(2, 16)
        tone = tuple(float(v) for v in np.array([0.35, 0.27, 0.2]) * rng.uniform(0.3, 1.5))
        cv2.line(out, (int(x), 0), (int(x + rng.normal(0, 14)), int(rng.uniform(130, 224))), tone, max(1, int(w)), cv2.LINE_AA)
    if rng.random() < 0.7:
        color = np.float32([0.38, 0.48, 0.2]) * np.float32(rng.uniform(0.5, 1.4))
        out = _below(out, _leaves(rng, color), rng.uniform(110, 230) + 5 * smooth_noise(rng, 6, SIZE)[:1])
    return out


def wall(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """One surface, plain or patterned, with some light on it."""
    out = tiled(rng) if rng.random() < 0.6 else gradient(rng, draw_color(rng), draw_color(rng))
    return out * (1 + np.float32(0.12) * octave_noise(rng, SIZE, 2, 4 if clutter < 0.5 else 28)[..., None])


def clutter_heap(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Many shapes over each other, as shelves, markets and workshops have."""
    out = _canvas(gradient(rng, draw_color(rng), draw_color(rng)))
    for _ in range(int(rng.integers(3, 6 + round(24 * clutter)))):
        center = tuple(int(v) for v in rng.integers(0, SIZE, 2))
        color = tuple(float(v) for v in draw_color(rng))
        w, h = rng.uniform(6, 70, 2)
        kind = rng.integers(4)
        if kind == 0:
            _box(rng, out, center[0] - w, center[1] - h, center[0] + w, center[1] + h)
        elif kind == 1:
            cv2.ellipse(out, center, (int(w / 2), int(h / 2)), float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
        elif kind == 2:
            corners = np.array(center) + rng.normal(0, 1, (int(rng.integers(3, 7)), 2)) * (w, h)
            cv2.fillPoly(out, [corners.astype(np.int32)], color, cv2.LINE_AA)
        else:
            other = tuple(int(v) for v in rng.integers(0, SIZE, 2))
            cv2.line(out, center, other, color, int(rng.integers(1, 12)), cv2.LINE_AA)
    return out


def bokeh(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """A scene far out of focus."""
    family = (room, street, field, woods, clutter_heap)[rng.integers(5)]
    small = cv2.resize(family(rng, clutter), (56, 56), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), rng.uniform(0.8, 4)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def fog(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Noise in many octaves over a gradient."""
    last = int(8 * 2 ** rng.integers(0, 2 + round(3 * clutter)))
    noise = octave_noise(rng, SIZE, 2, last, 3 if rng.random() < 0.3 else 1).reshape(SIZE, SIZE, -1)
    return gradient(rng, draw_color(rng), draw_color(rng)) + noise * np.float32(rng.uniform(0.02, 0.14))


def crowd(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Rows of far heads and shirts over a field (held out)."""
    out = _canvas(field(rng, clutter))
    step, bottom = rng.uniform(8, 22), rng.uniform(60, 190)
    for y in np.arange(-5, bottom, step):
        for x in np.arange(rng.uniform(-10, 0), SIZE, step * rng.uniform(0.7, 1.2)):
            at = (int(x + rng.normal(0, 1.5)), int(y + rng.normal(0, 1.5)))
            cv2.circle(out, (at[0], at[1] + int(step * 0.5)), max(1, int(step * 0.42)), tuple(float(v) for v in draw_color(rng)), -1)
            skin = np.array([0.85, 0.66, 0.55]) * rng.uniform(0.4, 1.05)
            cv2.circle(out, at, max(1, int(step * 0.24)), tuple(float(v) for v in skin), -1)
    return out


def cells(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Patches around random points, as stones and scales have (held out)."""
    points = rng.uniform(0, 56, (int(rng.integers(8, 20 + round(60 * clutter))), 2)).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(56), np.arange(56)), -1).reshape(-1, 1, 2).astype(np.float32)
    nearest = ((grid - points) ** 2).sum(-1).argmin(1)
    base, other = draw_color(rng), draw_color(rng)
    tone = base + rng.random((len(points), 1)).astype(np.float32) * (other - base)
    return cv2.resize(tone[nearest].reshape(56, 56, 3), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def stairs(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """Bands of steps before a wall, with a rail (held out)."""
    out = _canvas(wall(rng, clutter))
    color, row, height = draw_color(rng), rng.uniform(40, 130), rng.uniform(6, 14)
    while row < SIZE:
        out[int(row): int(row + height * 0.4)] = color
        out[int(row + height * 0.4): int(row + height)] = color * np.float32(rng.uniform(0.55, 0.75))
        row, height = row + height, height * 1.12
    ends = [(int(rng.uniform(0, SIZE)), int(rng.uniform(0, 120))), (int(rng.uniform(0, SIZE)), SIZE)]
    cv2.line(out, *ends, tuple(float(v) for v in draw_color(rng)), int(rng.integers(2, 8)), cv2.LINE_AA)
    return out


FAMILIES = {f.__name__: f for f in (room, street, field, slope, woods, wall, clutter_heap, bokeh, fog, crowd, cells, stairs)}


def make_background(family: str, seed: int, clutter: float) -> np.ndarray:
    """The background [224,224,3] float32 of a family and seed."""
    rng = np.random.default_rng((14, seed))
    picture = np.clip(FAMILIES[family](rng, clutter), 0, 1)
    blur = rng.uniform(0, 2.5) if rng.random() < 0.5 else 0
    if clutter < 0.5:
        blur += (0.5 - clutter) * rng.uniform(2, 12)
    if blur > 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return _canvas(picture)


def list_pictures(folder: Path) -> list[Path]:
    """A user's background pictures, sorted. Raises FileNotFoundError when there are none."""
    found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _PICTURE_SUFFIXES)
    if not found:
        raise FileNotFoundError(f"No pictures for backgrounds under '{folder}'; expected jpg, png, webp or bmp files.")
    return found


def crop_picture(path: Path, rng: np.random.Generator) -> np.ndarray | None:
    """A random square [224,224,3] of a picture; None when the file cannot be read."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None or min(picture.shape[:2]) < 32:
        return None
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(0.4, 1))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = picture[y : y + side, x : x + side, ::-1]
    interpolation = cv2.INTER_AREA if side > SIZE else cv2.INTER_LINEAR
    crop = cv2.resize(_canvas(crop), (SIZE, SIZE), interpolation=interpolation)
    return np.float32(crop[:, :: -1 if rng.random() < 0.5 else 1]) / 255


def draw_background(rng: np.random.Generator, split: Split, clutter: float, pictures: list[Path]) -> np.ndarray:
    """A background of the split; with a user's pictures, those are taken six times in ten."""
    if pictures and rng.random() < 0.6:
        chosen = split.pictures(len(pictures))
        crop = crop_picture(pictures[chosen[rng.integers(len(chosen))]], rng)
        if crop is not None:
            return _canvas(crop)
    families = split.backgrounds(tuple(FAMILIES))
    return make_background(families[rng.integers(len(families))], split.background_seed(rng), clutter)
