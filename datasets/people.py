"""People in a user's pictures: a file or folder, with or without boxes, to person crops for the network.

A picture that cannot be used is a `BadPicture` with its reason, never an exception that ends the run.
Boxes are (x, y, width, height) in pixels of the picture as it is displayed, that is after EXIF rotation.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.boxes import Box, Boxes, check_box
from datasets.pictures import PictureError, list_pictures, read_picture
from datasets.transforms import box_to_center_scale, crop_picture, normalize, to_tensor

log = logging.getLogger(__name__)

SHOWN_KEYS = 10


@dataclass(frozen=True)
class PersonCrop:
    """One person of one picture."""

    stem: str  # names the output files; unique within a run
    person: int  # 0, 1, ... within the picture
    path: Path
    crop: np.ndarray  # [224, 224, 3] RGB uint8
    box: Box  # x, y, width, height in the picture
    center: tuple[float, float]  # of the crop's square, picture pixels
    scale: float  # side of the square / 200 px
    image_size: tuple[int, int]  # width, height of the picture

    @property
    def pixels(self) -> torch.Tensor:
        """[3,224,224] float32 in [0, 1]."""
        return to_tensor(self.crop)

    @property
    def image(self) -> torch.Tensor:
        """[3,224,224] float32, normalised: the network's input."""
        return normalize(self.pixels)


@dataclass(frozen=True)
class BadPicture:
    """A picture, or a box in it, that could not be used, and why."""

    path: Path
    reason: str


class People:
    """Iterates over the people of a file or folder in a fixed order, one picture in memory at a time.

    `boxes` None takes every picture as one person's crop, padded to a square. Otherwise pictures without a
    box are passed over, and boxes without a picture named in a warning. Raises ValueError when there is
    nothing to read.
    """

    def __init__(self, source: str | Path, boxes: Boxes | None = None):
        self.paths = list_pictures(source)
        self.boxes = boxes
        if boxes is not None and not any(boxes.of(path) for path in self.paths):
            raise ValueError(f"The boxes file names no picture of '{source}'; its keys must be file names.")
        if boxes is not None:
            _warn_of(boxes.without_picture(self.paths), source)
        self.stems = _unique_stems(self.paths)
        self._taken = frozenset(stem.lower() for stem in self.stems.values())

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.paths)

    def __iter__(self) -> Iterator[PersonCrop | BadPicture]:
        for path in self.paths:
            yield from self.people_of(path)

    def people_of(self, path: Path) -> Iterator[PersonCrop | BadPicture]:
        """The people of one picture; a `BadPicture` for the picture or a single box that cannot be used."""
        boxes = None if self.boxes is None else self.boxes.of(path)
        if boxes is not None and not boxes:
            return
        try:
            picture = read_picture(path)
        except PictureError as error:
            yield BadPicture(path, str(error))
            return
        if boxes is None:
            yield self._whole(path, picture)
            return
        for person, box in enumerate(boxes):
            yield self._person(path, picture, person, box, alone=len(boxes) == 1)

    def _whole(self, path: Path, picture: np.ndarray) -> PersonCrop:
        height, width = picture.shape[:2]
        box = (0.0, 0.0, float(width), float(height))
        center, scale = box_to_center_scale(box, margin=1.0)
        crop = crop_picture(picture, center, scale)
        return PersonCrop(self.stems[path], 0, path, crop, box, center, scale, (width, height))

    def _person(
        self, path: Path, picture: np.ndarray, person: int, box: Box, alone: bool
    ) -> PersonCrop | BadPicture:
        height, width = picture.shape[:2]
        try:
            check_box(box, (width, height))
            center, scale = box_to_center_scale(box)
            crop = crop_picture(picture, center, scale)
        except ValueError as error:
            return BadPicture(path, f"box {person}: {error}")
        stem = self.stems[path] if alone else f"{self.stems[path]}_{person}"
        while not alone and stem.lower() in self._taken:
            stem += "_"  # another picture has that name
        return PersonCrop(stem, person, path, crop, box, center, scale, (width, height))


def _warn_of(keys: list[str], source: str | Path) -> None:
    if not keys:
        return
    shown = ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
    log.warning("Keys of the boxes file without a picture in '%s' (%d): %s", source, len(keys), shown)


def _unique_stems(paths: list[Path]) -> dict[Path, str]:
    """Output names: the stem, or name and extension where two pictures share a stem (a.jpg, a.png)."""
    counts = Counter(path.stem.lower() for path in paths)  # some file systems do not tell A from a
    stems = {path: path.stem for path in paths if counts[path.stem.lower()] == 1}
    taken = {stem.lower() for stem in stems.values()}
    for path in paths:
        if path in stems:
            continue
        stem = path.name.replace(".", "_")
        while stem.lower() in taken:
            stem += "_"
        stems[path] = stem
        taken.add(stem.lower())
    return stems
