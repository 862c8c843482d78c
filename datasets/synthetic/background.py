"""Backgrounds of synthetic people: by family and number, or from a folder of the user's own pictures."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import cv2
import numpy as np

from datasets.people.images import PictureError, read_picture
from datasets.synthetic.places import SIZE, bokeh, field, fog, heap, room, slope, street, surf, wall, woods
from datasets.synthetic.places_eval import cells, crowd, stairs
from datasets.synthetic.split import Split

log = logging.getLogger(__name__)

_FUNCTIONS = (room, street, field, slope, surf, woods, wall, heap, bokeh, fog, crowd, cells, stairs)
FAMILIES = {f.__name__: f for f in _FUNCTIONS}
_PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def make_background(family: str, seed: int, clutter: float) -> np.ndarray:
    """The background [224,224,3] float32 of a family and seed."""
    rng = np.random.default_rng((14, seed))
    picture = np.clip(FAMILIES[family](rng, clutter), 0, 1)
    blur = rng.uniform(0, 2.0) if rng.random() < 0.35 else 0.0
    if clutter < 0.25:
        blur += (0.25 - clutter) * rng.uniform(0, 24)
    if blur > 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return np.ascontiguousarray(picture)


def list_pictures(folder: Path) -> list[Path]:
    """A user's background pictures, sorted. Raises FileNotFoundError when there are none."""
    found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _PICTURE_SUFFIXES)
    if not found:
        raise FileNotFoundError(
            f"No pictures for backgrounds under '{folder}'; expected jpg, png, webp or bmp files."
        )
    return found


@functools.lru_cache(maxsize=64)
def _read_picture(path: Path) -> np.ndarray | None:
    """A picture, RGB, of at most 800 pixels a side, kept for the next time; None when it cannot be read."""
    try:
        picture = read_picture(path)
    except PictureError as error:
        log.warning("'%s' is not used as a background: %s", path, error)
        return None
    if max(picture.shape[:2]) <= 800:
        return picture
    share = 800 / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def crop_picture(path: Path, rng: np.random.Generator) -> np.ndarray | None:
    """A random square [224,224,3] of a picture; None when the file cannot be read."""
    picture = _read_picture(path)
    if picture is None or min(picture.shape[:2]) < 32:
        return None
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(0.4, 1))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = picture[y : y + side, x : x + side]
    interpolation = cv2.INTER_AREA if side > SIZE else cv2.INTER_LINEAR
    crop = cv2.resize(np.ascontiguousarray(crop), (SIZE, SIZE), interpolation=interpolation)
    return np.float32(crop[:, :: -1 if rng.random() < 0.5 else 1]) / 255


def draw_background(
    rng: np.random.Generator, split: Split, clutter: float, pictures: list[Path]
) -> np.ndarray:
    """A background of the split; with a user's pictures, those are taken six times in ten."""
    if pictures and rng.random() < 0.6:
        chosen = split.pictures(len(pictures))
        crop = crop_picture(pictures[chosen[rng.integers(len(chosen))]], rng)
        if crop is not None:
            return np.ascontiguousarray(crop)
    families = split.backgrounds(tuple(FAMILIES))
    return make_background(families[rng.integers(len(families))], split.background_seed(rng), clutter)
