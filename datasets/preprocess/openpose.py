"""OpenPose detections (BODY_25, one JSON file a picture) as the field `openpose` of label files."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np

from datasets.labels.values import MAX_PIXELS, first_implausible
from datasets.preprocess.common import INCOMPLETE, read_json
from utils.geometry import BOX_UNIT
from utils.io import DataFileError
from utils.skeleton import GT24_NAMES, NUM_OPENPOSE, OPENPOSE25_NAMES

log = logging.getLogger(__name__)

MIN_SHARED = 3  # joints that are both detected and labelled
MAX_DISTANCE = 0.2  # of the box side: mean distance of the shared joints

_SHARED = [(OPENPOSE25_NAMES.index(name), GT24_NAMES.index(name)) for name in GT24_NAMES[:12]]
_DETECTED, _LABELLED = (list(rows) for rows in zip(*_SHARED, strict=True))


def add_flag(parser: argparse.ArgumentParser) -> None:
    """The flag --openpose of a converter."""
    parser.add_argument(
        "--openpose",
        type=Path,
        metavar="DIR",
        help="OpenPose results of the pictures, <picture name>_keypoints.json with BODY_25 keypoints. The person "
        f"nearest to the labels counts, if {MIN_SHARED} joints are shared and lie within "
        f"{MAX_DISTANCE} box sides on average. Without it the field 'openpose' is zero: detections are no "
        "part of the public annotations",
    )


def openpose_of(folder: Path | None, imgname: str, part: np.ndarray, scale: float) -> np.ndarray:
    """Keypoints [25,3] (pixels, confidence) of the detected person that fits `part` [24,3]; zeros for none.

    folder: of the JSON files; None or a picture without file gives zeros. Raises DataFileError for damage.
    """
    if folder is None:
        return np.zeros((NUM_OPENPOSE, 3))
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}' of OpenPose results.")
    path = folder / f"{Path(imgname).stem}_keypoints.json"
    if not path.is_file():
        return np.zeros((NUM_OPENPOSE, 3))
    people = read_people(path)
    distances = [_distance(person, part) / (BOX_UNIT * scale) if scale > 0 else np.inf for person in people]
    if not distances or min(distances) > MAX_DISTANCE:
        return np.zeros((NUM_OPENPOSE, 3))
    return people[int(np.argmin(distances))]


def read_people(path: Path) -> list[np.ndarray]:
    """Keypoints [25,3] (pixels, confidence) of an OpenPose file's people. Raises DataFileError for damage.

    People with a number that cannot be are left out, with a warning.
    """
    content = read_json(path)
    try:
        people = [_points(person["pose_keypoints_2d"]) for person in content["people"]]
    except INCOMPLETE as error:
        raise DataFileError(
            f"{path} must hold 'people' with 75 numbers 'pose_keypoints_2d' each, as OpenPose writes them for "
            f"BODY_25 ({type(error).__name__}: {error})."
        ) from error
    plausible = [person for person in people if first_implausible(person, MAX_PIXELS) is None]
    if len(plausible) < len(people):
        log.warning(
            "%s: %d of %d people left out, with numbers that are not finite or beyond %d.",
            path, len(people) - len(plausible), len(people), MAX_PIXELS,
        )  # fmt: skip
    return plausible


def _points(flat: list[float]) -> np.ndarray:
    points = np.array(flat)
    if points.dtype.kind not in "fiu":
        raise TypeError(f"keypoints of {points.dtype}")
    return points.astype(np.float64).reshape(NUM_OPENPOSE, 3)


def _distance(person: np.ndarray, part: np.ndarray) -> float:
    shared = (person[_DETECTED, 2] > 0) & (part[_LABELLED, 2] > 0)
    if shared.sum() < MIN_SHARED:
        return np.inf
    offsets = person[_DETECTED, :2] - part[_LABELLED, :2]
    return float(np.linalg.norm(offsets[shared], axis=1).mean())
