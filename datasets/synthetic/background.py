"""Backgrounds of synthetic people: by family and number, or from a folder of the user's own images."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from datasets.synthetic import places
from datasets.synthetic.split import Split
from utils.geometry import CROP_SIZE
from utils.images import ImageError, read_image

log = logging.getLogger(__name__)

FAMILIES = {
    family.__name__: family
    for family in (
        places.room, places.street, places.field, places.slope, places.surf, places.woods, places.wall,
        places.heap, places.bokeh, places.fog, places.crowd, places.cells, places.stairs,
    )
}  # fmt: skip
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_LARGEST = 800  # px a side


def make_background(family: str, seed: int, clutter: float) -> np.ndarray:
    """The background [224,224,3] float32 of a family and seed; `clutter` in 0..1 says how busy."""
    rng = np.random.default_rng((14, seed))
    image = np.clip(FAMILIES[family](rng, clutter), 0, 1)
    blur = rng.uniform(0, 2.0) if rng.random() < 0.35 else 0.0
    if clutter < 0.25:
        blur += (0.25 - clutter) * rng.uniform(0, 24)
    if blur > 0.4:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    return np.ascontiguousarray(image)


def list_images(folder: Path) -> list[Path]:
    """A user's background images, sorted. Raises FileNotFoundError when there are none."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not found:
        raise FileNotFoundError(
            f"No images for backgrounds under '{folder}'; expected jpg, png, webp or bmp files."
        )
    return found


@functools.lru_cache(maxsize=64)
def _read_image(path: Path) -> np.ndarray | None:
    """RGB image of at most 800 pixels a side, kept for the next time; None when it cannot be used."""
    try:
        image = read_image(path)
    except ImageError as error:
        log.warning("'%s' is not used as a background: %s", path, error)
        return None
    share = min(1.0, _LARGEST / max(image.shape[:2]))
    if share < 1:
        image = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return image if min(image.shape[:2]) >= 32 else None


def random_crop(rng: Generator, path: Path) -> np.ndarray | None:
    """A random square of an image file as [224,224,3] float32; None when the file cannot be used."""
    image = _read_image(path)
    if image is None:
        return None
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.4, 1))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = np.ascontiguousarray(image[y : y + side, x : x + side])
    interpolation = cv2.INTER_AREA if side > CROP_SIZE else cv2.INTER_LINEAR
    crop = cv2.resize(crop, (CROP_SIZE, CROP_SIZE), interpolation=interpolation)
    return np.ascontiguousarray(np.float32(crop[:, :: -1 if rng.random() < 0.5 else 1]) / 255)


def draw_background(rng: Generator, split: Split, clutter: float, images: list[Path]) -> np.ndarray:
    """A background [224,224,3] float32 of the split; with a user's images, those are taken six times in ten."""
    if images and rng.random() < 0.6:
        crop = random_crop(rng, images[rng.integers(len(images))])
        if crop is not None:
            return crop
    families = split.backgrounds(tuple(FAMILIES))
    return make_background(families[rng.integers(len(families))], split.background_seed(rng), clutter)
