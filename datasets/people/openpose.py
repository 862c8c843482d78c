"""Person boxes from a folder of OpenPose results: one JSON file an image, BODY_25, `<stem>_keypoints.json`.

The box spans the points with a confidence above 0.2; the crop is the same 1.2 times its longer side as for any box,
which is how SPIN's demo cuts people out by keypoints.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.labels.values import MAX_PIXELS, first_implausible
from utils.io import DataFileError, load_json
from utils.people import Detection
from utils.skeleton import GT24_NAMES, GT24_TO_COCO17, NUM_OPENPOSE, OPENPOSE25_NAMES
from utils.unused import Unused

if TYPE_CHECKING:
    from jaxtyping import Float

log = logging.getLogger(__name__)

SUFFIX = "_keypoints.json"
MIN_CONFIDENCE = 0.2
MIN_POINTS = 2  # fewer span no box
OPENPOSE25_TO_COCO17 = [OPENPOSE25_NAMES.index(GT24_NAMES[joint]) for joint in GT24_TO_COCO17]


class KeypointFiles:
    """People by image, from a folder of OpenPose files. Raises ValueError when there is no such folder."""

    what = "folder of keypoints"

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.unused = Unused()  # of the files that were read so far
        if not self.folder.is_dir():
            raise ValueError(f"There is no folder '{folder}' of OpenPose results (<image's stem>{SUFFIX}).")

    def reads(self, path: Path) -> bool:
        """Whether this is one of the files."""
        return path.name.endswith(SUFFIX) and path.parent.resolve() == self.folder.resolve()

    def lists(self, path: Path) -> bool:
        """Whether the image has a file."""
        return self._file(path).is_file()

    def detections(self, path: Path) -> list[Detection]:
        """The people of an image; those with fewer than two confident points are left out, which is logged.

        Raises ValueError for a file that is damaged, cannot be read or has no person who can be cut out.
        """
        file = self._file(path)
        try:
            people = read_people(file)
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror or error}).") from error
        found = [detection for detection in map(to_detection, people) if detection is not None]
        unsure = len(people) - len(found)
        few = f"people with less than {MIN_POINTS} keypoints above {MIN_CONFIDENCE:g}"
        self.unused.add(few, unsure, file.name)
        if not found:
            raise ValueError(
                f"{file} holds no person that can be cut out" + (f" ({few}: {unsure})" if unsure else "")
            )
        if unsure:
            log.warning("%s: left out %d %s.", file, unsure, few)
        return found

    def without_image(self, paths: Iterable[Path]) -> list[str]:
        """Names of files that belong to none of these images."""
        used = {self._file(path).name for path in paths}
        return sorted(f.name for f in self.folder.glob(f"*{SUFFIX}") if f.name not in used)

    def why_none_listed(self, paths: list[Path]) -> str:
        """Why none of the images has a file."""
        return f"its files must be named <image's stem>{SUFFIX}"

    def suspicions(self, paths: Iterable[Path]) -> list[str]:
        """None: OpenPose's numbers have one form."""
        return []

    def _file(self, path: Path) -> Path:
        return self.folder / f"{path.stem}{SUFFIX}"


def to_detection(points: Float[np.ndarray, "25 3"]) -> Detection | None:
    """Box around the confident points (pixels, confidence), and the 17 COCO keypoints among them."""
    confident = points[points[:, 2] > MIN_CONFIDENCE]
    if len(confident) < MIN_POINTS:
        return None
    with np.errstate(over="ignore"):  # a box that is not finite is refused later, in words
        low, high = confident[:, :2].min(axis=0), confident[:, :2].max(axis=0)
        box = tuple(map(float, (*low, *(high - low))))
        keypoints = points[OPENPOSE25_TO_COCO17].astype(np.float32)
    return Detection(box, float(confident[:, 2].mean()), keypoints)


def read_people(path: Path) -> list[Float[np.ndarray, "25 3"]]:
    """Keypoints (pixels, confidence) of the people of an OpenPose file.

    People with numbers that are not finite or beyond what pixels can be are left out, with a warning.
    Raises DataFileError for a damaged file.
    """
    content = load_json(path)
    try:
        people = [_points(person["pose_keypoints_2d"]) for person in content["people"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataFileError(
            f"{path} must hold 'people' with 75 numbers 'pose_keypoints_2d' each, as OpenPose writes them for "
            f"BODY_25 ({type(error).__name__}: {error})."
        ) from error
    plausible = [person for person in people if first_implausible(person, MAX_PIXELS) is None]
    if wrong := len(people) - len(plausible):
        log.warning(
            "%s: %d of %d people left out, with numbers that are not finite or beyond %d.",
            path, wrong, len(people), MAX_PIXELS,
        )  # fmt: skip
    return plausible


def _points(flat: list[float]) -> np.ndarray:
    points = np.array(flat)
    if points.dtype.kind not in "fiu":
        raise TypeError(f"keypoints of {points.dtype}")
    return points.astype(np.float64).reshape(NUM_OPENPOSE, 3)
