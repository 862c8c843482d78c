"""Records of people in images and videos, from the detector to the network.

Boxes are (x, y, width, height), and all places are pixels, of the image as it is displayed, that is after EXIF
rotation. A crop is the square of side 200 * scale around `center`, resampled to 224 x 224 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.geometry import BOX_MARGIN

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8

Box = tuple[float, float, float, float]  # x, y, width, height; pixels


@dataclass(frozen=True)
class Detection:
    """A person in an image."""

    box: Box
    score: float = math.nan  # 0..1 of a detector; NaN without one
    keypoints: Float[np.ndarray, "17 3"] | None = None  # COCO's order: x, y, confidence
    is_whole: bool = False  # the image is this person's crop already
    bystanders: int = 0  # others who were seen in an image that is taken whole, and are left out

    @property
    def margin(self) -> float:
        """Ratio of the crop's side to the longer side of the box."""
        return 1.0 if self.is_whole else BOX_MARGIN


@dataclass(frozen=True)
class FullImage:
    """An image that people were cut out of; its pixels are not kept."""

    stem: str
    path: Path
    size: tuple[int, int]  # width, height
    focal_length: float | None = None  # pixels, as the file says; None where it does not


@dataclass(frozen=True)
class PersonCrop:
    """One person of one image."""

    stem: str  # names the output files; unique within a run
    person: int  # 0, 1, ... within the image
    path: Path
    crop: UInt8[np.ndarray, "224 224 3"]  # RGB
    box: Box
    center: tuple[float, float]
    scale: float
    image_size: tuple[int, int]  # width, height
    score: float  # of the detector; NaN without one
    keypoints: Float[np.ndarray, "17 3"] | None  # COCO's order: x, y in the image, confidence
    full_image: FullImage | None  # None where the image is one person's crop
    bystanders: int = 0  # others who were seen in that crop, and are left out


@dataclass(frozen=True)
class BadImage:
    """An image, or a box in it, that could not be used, and why."""

    path: Path
    reason: str
    size: tuple[int, int] | None = None  # width, height; None where the image could not be read, or was not to be


@dataclass(frozen=True)
class Frame:
    """An image of a video."""

    number: int  # 0, 1, ...
    seconds: float  # since the first frame; of a camera as the clock says, of a file number / fps
    pixels: UInt8[np.ndarray, "H W 3"]  # RGB, upright


@dataclass(frozen=True)
class TrackedPerson:
    """One person of one frame."""

    track: int  # 0, 1, ... in the order of appearance
    seconds: float  # of the frame
    detection: Detection
    crop: UInt8[np.ndarray, "224 224 3"]  # RGB
    center: tuple[float, float]
    scale: float


@dataclass(frozen=True)
class TrackedFrame:
    """A frame and the people in it."""

    frame: Frame
    people: tuple[TrackedPerson, ...]
