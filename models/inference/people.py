"""Images in, people out: what calling a `Predictor` does."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from datasets.people.crops import DETECTORS, person_crop, shared_detector
from datasets.people.detector import Detector
from models.inference.person import ImageResult, Person, make_person
from utils.body import BodyAssets, check_height
from utils.geometry import check_focal_length
from utils.images import ImageError, as_rgb, stored_focal_length
from utils.people import Detection, FullImage, PersonCrop

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from utils.images import AnyImage

log = logging.getLogger(__name__)

MOST_SHOWN = 80  # characters of what cannot be used


class CropPredictor(Protocol):
    """What finds the bodies in crops."""

    assets: BodyAssets  # the body that is posed
    facts: dict[str, str]  # of body and weights, for result files

    def predict(
        self, crops: Sequence[UInt8[np.ndarray, "224 224 3"]], *, with_scores: bool
    ) -> list[dict[str, np.ndarray]]:
        """The arrays of each crop's person."""


def predict_images(
    predictor: CropPredictor,
    images: Sequence[AnyImage],
    boxes: Iterable[Any] | None,
    detector: str | Detector,
    batch_size: int,
    focal_length: float | None,
    height: float | None,
) -> list[ImageResult]:
    """The people of each image; see `Predictor.__call__`."""
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number, at least 1, got {batch_size!r}.")
    check_height(height)
    given = None if boxes is None else _given(boxes, images)
    finder = _finder(detector) if given is None else None
    arrays, crops = [], []
    for number, image in enumerate(images):
        pixels = _read(image, number)
        if suspicion := check_focal_length(focal_length, pixels.shape[1::-1]):
            log.warning("Suspicion: %s: %s", _name(image, number), suspicion)
        found = finder.detect(pixels) if given is None else given[number]
        if height is not None and len(found) > 1:
            name = _name(image, number)
            log.warning("%s: each of its %d people is given the height of %g m.", name, len(found), height)
        arrays.append(pixels)
        crops.append(_crops(image, number, pixels, found))
    flat = [crop for of_image in crops for crop in of_image]
    people: list[Person] = []
    for start in range(0, len(flat), batch_size):
        batch = flat[start : start + batch_size]
        predicted = predictor.predict([crop.crop for crop in batch], with_scores=True)
        people += [
            make_person(crop, each, predictor.assets, predictor.facts, focal_length, height)
            for crop, each in zip(batch, predicted, strict=True)
        ]
    rest = iter(people)
    return [
        ImageResult(pixels, [next(rest) for _ in of_image], predictor.assets)
        for pixels, of_image in zip(arrays, crops, strict=True)
    ]


def _given(boxes: Iterable[Any], images: Sequence[AnyImage]) -> list[list[Detection]]:
    """The people of each image by the boxes that are given."""
    try:
        of_images = list(boxes)
    except TypeError:
        raise TypeError(f"boxes are rows of numbers, not {type(boxes).__name__}.") from None
    if len(of_images) != len(images):
        raise ValueError(f"boxes holds the people of {len(of_images)} images, but {len(images)} images are given.")
    return [_boxes_of_image(rows, _name(images[number], number)) for number, rows in enumerate(of_images)]


def _boxes_of_image(rows: Any, name: Path) -> list[Detection]:
    try:
        array = np.asarray(rows)
    except (TypeError, ValueError):  # rows of several lengths, arrays of another device
        array = np.empty(1, object)
    if array.shape == (0,):
        return []
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(
            f"{name}: the boxes of an image are rows of four numbers [[x, y, width, height], ...], and for a list of "
            f"images there is a list of these; got {_shown(rows)}."
        )
    return [Detection(tuple(row)) for row in array.astype(np.float64).tolist()]


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _finder(detector: str | Detector) -> Detector:
    if isinstance(detector, str):
        return shared_detector(detector)
    if not hasattr(detector, "detect"):
        raise TypeError(
            f"detector is one of {', '.join(DETECTORS)}, or an object with `detect`, not {type(detector).__name__}."
        )
    return detector


def _name(image: AnyImage, number: int) -> Path:
    given = image if isinstance(image, str | Path) else getattr(image, "filename", "")
    return Path(os.fsdecode(given) if isinstance(given, str | bytes | Path) and given else f"image_{number}")


def _read(image: AnyImage, number: int) -> UInt8[np.ndarray, "H W 3"]:
    try:
        return as_rgb(image)
    except ImageError as error:
        raise ImageError(f"{_name(image, number)}: {error}", error.size) from error
    except TypeError as error:
        raise TypeError(f"image_{number}: {error}") from error


def _crops(
    image: AnyImage, number: int, pixels: UInt8[np.ndarray, "H W 3"], found: Sequence[Detection]
) -> list[PersonCrop]:
    path = _name(image, number)
    focal_length = None if isinstance(image, np.ndarray) else stored_focal_length(image)
    full = FullImage(path.stem, path, pixels.shape[1::-1], focal_length)
    crops = []
    for person, detection in enumerate(found):
        stem = path.stem if len(found) == 1 else f"{path.stem}_{person}"
        try:
            crops.append(person_crop(full, pixels, person, detection, stem))
        except ValueError as error:
            raise ValueError(f"{path}: box {person}: {error}") from error
    return crops
