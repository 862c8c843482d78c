"""Images in, people out: what calling a `Predictor` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from datasets.people.crops import person_crop, shared_detector
from datasets.people.detector import Detector
from models.inference.person import ImageResult, Person, make_person
from utils.body import BodyAssets
from utils.geometry import check_focal_length
from utils.images import ImageError, as_rgb, stored_focal_length
from utils.people import Box, Detection, FullImage, PersonCrop

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from PIL.Image import Image

    AnyImage = str | Path | Image | UInt8[np.ndarray, "H W 3"]


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
    boxes: Sequence[Sequence[Box]] | None,
    detector: str | Detector,
    batch_size: int,
    focal_length: float | None,
) -> list[ImageResult]:
    """The people of each image; see `Predictor.__call__`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if boxes is not None and len(boxes) != len(images):
        raise ValueError(f"boxes holds the people of {len(boxes)} images, but {len(images)} images are given.")
    finder = shared_detector(detector) if isinstance(detector, str) else detector
    arrays, crops = [], []
    for number, image in enumerate(images):
        pixels = _read(image, number)
        check_focal_length(focal_length, pixels.shape[1::-1])
        given = None if boxes is None else [Detection(tuple(map(float, box))) for box in boxes[number]]
        found = finder.detect(pixels) if given is None else given
        arrays.append(pixels)
        crops.append(_crops(image, number, pixels, found))
    flat = [crop for of_image in crops for crop in of_image]
    people: list[Person] = []
    for start in range(0, len(flat), batch_size):
        batch = flat[start : start + batch_size]
        predicted = predictor.predict([crop.crop for crop in batch], with_scores=True)
        people += [
            make_person(crop, each, predictor.assets, predictor.facts, focal_length)
            for crop, each in zip(batch, predicted, strict=True)
        ]
    rest = iter(people)
    return [
        ImageResult(pixels, [next(rest) for _ in of_image], predictor.assets)
        for pixels, of_image in zip(arrays, crops, strict=True)
    ]


def _name(image: AnyImage, number: int) -> Path:
    return Path(image) if isinstance(image, str | Path) else Path(getattr(image, "filename", "") or f"image_{number}")


def _read(image: AnyImage, number: int) -> UInt8[np.ndarray, "H W 3"]:
    try:
        return as_rgb(image)
    except ImageError as error:
        raise ImageError(f"{_name(image, number)}: {error}", error.size) from error


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
