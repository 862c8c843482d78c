"""People in a user's pictures: a file or folder, with given or detected boxes, to person crops for the network.

Whoever says where the people are (a detector, a boxes file, a folder of keypoints), the rest of the way is the same:
`Detection`, square crop, `PersonCrop`. A picture that cannot be used is a `BadImage` with its reason, never an
exception that ends the run.
Boxes are (x, y, width, height) in pixels of the picture as it is displayed, that is after EXIF rotation.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.people.boxes import Boxes, check_box
from datasets.people.detector import CropOrPeople, Detector, MoveNet, WholePicture, unused_of
from datasets.people.images import list_pictures, passed_over, read_picture
from datasets.people.openpose import KeypointFiles
from datasets.people.torchvision_detector import load_torchvision
from datasets.transforms import box_to_center_scale, crop_picture
from utils.people import BadImage, Detection, FullImage, PersonCrop
from utils.unused import Unused

log = logging.getLogger(__name__)

SHOWN_KEYS = 10
DETECTORS = ("auto", "none", "movenet", "torchvision")


class People:
    """Iterates over the people of a file or folder in a fixed order, one picture in memory at a time.

    given: where the people are (a boxes file, a folder of keypoints); pictures that it does not name are passed over,
    and names without a picture are in a warning. Without it `detector` looks: "none" takes every picture as one
    person's crop, padded to a square, "movenet" and "torchvision" find people, and "auto" is "movenet", but takes a
    square picture that is one person's crop whole; any other `Detector` works too. detector_weights: a file for
    "torchvision".
    Raises ValueError when there is nothing to read or the detector cannot be loaded.
    """

    def __init__(
        self,
        source: str | Path,
        given: Boxes | KeypointFiles | None = None,
        detector: str | Detector = "none",
        detector_weights: str | None = None,
    ):
        self.paths = list_pictures(source)
        self.given = given
        self.facts: dict[str, str] = {}  # for the record: what is odd
        self.unused = Unused()  # of the folder and of what is given, before a picture is read
        self.left_out = Unused()  # of the pictures that were read so far
        for path, reason in passed_over(source):
            if given is None or not given.reads(path):
                self.unused.add(reason, example=path.name)
        if given is not None:
            self._match(given, source)
        self._detector = None
        if given is None:  # one that cannot be loaded is said before the first picture
            named = isinstance(detector, str)
            self._detector = build_detector(detector, detector_weights) if named else detector
            self.left_out = unused_of(self._detector)
        self.stems = _unique_stems(self.paths)
        self._taken = frozenset(stem.lower() for stem in self.stems.values())

    def _match(self, given: Boxes | KeypointFiles, source: str | Path) -> None:
        """Say what is odd and count what has no counterpart. Raises ValueError when nothing has one."""
        missing = given.without_picture(self.paths)
        if not any(given.names(path) for path in self.paths):
            why = given.why_nobody(self.paths)
            raise ValueError(f"The {given.what} has nobody of a picture of '{source}': {why}.")
        if suspicions := " ".join(given.suspicions(self.paths)):
            self.facts["suspicions"] = suspicions
            log.warning("The %s, suspicions: %s", given.what, suspicions)
        _warn_of(missing, given.what, source)
        if isinstance(given, KeypointFiles):
            self.left_out = given.unused
        else:
            self.unused = self.unused.with_others([given.unused])
        self.unused.add_names(f"names in the {given.what} without a picture", missing)
        of_nobody = [path.name for path in self.paths if not given.names(path)]
        self.unused.add_names(f"pictures of which the {given.what} has nobody", of_nobody)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.paths)

    def __iter__(self) -> Iterator[PersonCrop | BadImage]:
        for path in self.paths:
            yield from self.people_of(path)

    def people_of(self, path: Path) -> Iterator[PersonCrop | BadImage]:
        """The people of one picture; a `BadImage` for the picture or a single box that cannot be used."""
        if self.given is not None and not self.given.names(path):
            return
        try:
            picture = read_picture(path)
            found = self._find(path, picture)
        except ValueError as error:  # PictureError and damaged files of keypoints are such
            yield BadImage(path, str(error))
            return
        if not found:
            yield BadImage(path, self._nobody())
        full = FullImage(self.stems[path], path, picture.shape[1::-1])
        for person, detection in enumerate(found):
            yield self._person(full, picture, person, detection, alone=len(found) == 1)

    def _find(self, path: Path, picture: np.ndarray) -> list[Detection]:
        if self.given is not None:
            return self.given.detections(path)
        return self._detector.detect(picture)

    def _nobody(self) -> str:
        if self.given is not None:
            return f"the {self.given.what} holds nobody that could be cut out"
        return "nobody was found; --detector none takes the picture as one person's crop"

    def _person(
        self, full: FullImage, picture: np.ndarray, person: int, found: Detection, alone: bool
    ) -> PersonCrop | BadImage:
        height, width = picture.shape[:2]
        try:
            check_box(found.box, (width, height))
            center, scale = box_to_center_scale(found.box, found.margin)
            crop = crop_picture(picture, center, scale)
        except ValueError as error:
            return BadImage(full.path, f"box {person}: {error}")
        stem = full.stem if alone else f"{full.stem}_{person}"
        while not alone and stem.lower() in self._taken:
            stem += "_"  # another picture has that name
        return PersonCrop(
            stem, person, full.path, crop, found.box, center, scale, (width, height), found.score, found.keypoints,
            None if found.is_whole else full, found.bystanders,
        )  # fmt: skip


def build_detector(name: str, weights: str | Path | None = None) -> Detector:
    """The detector of that name, one of DETECTORS; weights: a file for "torchvision".

    Raises ValueError when there is no such detector or it cannot be loaded.
    """
    if weights is not None and name != "torchvision":
        raise ValueError(f"--detector_weights belongs to --detector torchvision, not to '{name}'.")
    if name == "none":
        return WholePicture()
    if name == "movenet":
        return MoveNet()
    if name == "auto":
        return CropOrPeople(MoveNet())
    if name == "torchvision":
        return load_torchvision(weights)
    raise ValueError(f"Unknown detector '{name}'; choose one of {', '.join(DETECTORS)}.")


def _warn_of(keys: list[str], what: str, source: str | Path) -> None:
    if not keys:
        return
    shown = ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
    log.warning("Names in the %s without a picture in '%s' (%d): %s", what, source, len(keys), shown)


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
