"""OpenPose detections (BODY_25, one JSON file an image) as the field `openpose` of label files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datasets.labels.files import Rows
from datasets.people.openpose import SUFFIX, read_people
from datasets.preprocess.common import run
from utils.geometry import BOX_UNIT
from utils.skeleton import GT24_NAMES, NUM_OPENPOSE, OPENPOSE25_NAMES

MIN_SHARED = 3  # joints that are both detected and labelled
MAX_DISTANCE = 0.2  # of the box side: mean distance of the shared joints
LABELLED = list(range(12))  # ankles to wrists, of the 24 joints
DETECTED = [OPENPOSE25_NAMES.index(GT24_NAMES[joint]) for joint in LABELLED]


def add_flag(parser: argparse.ArgumentParser) -> None:
    """The flag --openpose of a converter."""
    parser.add_argument(
        "--openpose",
        type=Path,
        metavar="DIR",
        help=f"OpenPose results of the images, <image name>{SUFFIX} with BODY_25 keypoints. The person nearest to the "
        f"labels counts, if {MIN_SHARED} joints are shared and lie within {MAX_DISTANCE} box sides on average. Without "
        "it the field 'openpose' is zero: detections are no part of the public annotations",
    )


def run_with_openpose(
    argv: list[str] | None, name: str, doc: str, source: str, file: str, convert: Callable[[Path, Path | None], Rows]
) -> int:
    """`common.run` for a converter that makes one file by `convert(source folder, folder of --openpose)`."""
    return run(argv, name, doc, source, lambda args: ([file], lambda: [convert(args.source, args.openpose)]), add_flag)


def keypoints_of(folder: Path | None, imgname: str, part: np.ndarray, scale: float) -> np.ndarray:
    """Keypoints [25,3] (pixels, confidence) of the detected person that fits the labels best; zeros for none.

    Args:
        folder: of the JSON files; None, or an image without a file, gives zeros.
        part: labelled joints [24,3].
        scale: side of the person's box / 200 px.

    Raises:
        FileNotFoundError: there is no such folder.
        DataFileError: a file is damaged.
    """
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}' of OpenPose results.")
    path = folder and folder / f"{Path(imgname).stem}{SUFFIX}"
    people = read_people(path) if path and path.is_file() and scale > 0 else []
    nearest = min(people, key=lambda person: _distance(person, part), default=None)
    if nearest is None or _distance(nearest, part) > MAX_DISTANCE * BOX_UNIT * scale:
        return np.zeros((NUM_OPENPOSE, 3))
    return nearest


def _distance(person: np.ndarray, part: np.ndarray) -> float:
    """Mean distance of the shared joints in pixels; infinite for too few."""
    shared = (person[DETECTED, 2] > 0) & (part[LABELLED, 2] > 0)
    if shared.sum() < MIN_SHARED:
        return np.inf
    return float(np.linalg.norm((person[DETECTED, :2] - part[LABELLED, :2])[shared], axis=1).mean())
