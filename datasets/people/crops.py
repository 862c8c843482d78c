"""Person crops for the network from a user's file or folder, with given or detected boxes.

Whether a detector, a boxes file or a folder of keypoints says where the people are, the rest of the way is the same:
`Detection`, square crop, `PersonCrop`. An image that cannot be used is a `BadImage` with its reason, never an
exception that ends the run.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.people.boxes import Boxes, check_box
from datasets.people.detector import CropOrPeople, Detector, MoveNet, WholeImage, unused_of
from datasets.people.images import list_images, passed_over
from datasets.people.openpose import KeypointFiles
from datasets.transforms import box_to_center_scale, crop_image
from utils.images import ImageError, read_image, stored_focal_length
from utils.people import BadImage, Detection, FullImage, PersonCrop
from utils.unused import Unused

if TYPE_CHECKING:
    from jaxtyping import UInt8

log = logging.getLogger(__name__)

SHOWN_NAMES = 10
DETECTORS = ("auto", "none", "movenet", "torchvision")


class People:
    """Iterates over the people of a file or folder in a fixed order, one image in memory at a time."""

    def __init__(
        self,
        source: str | Path,
        given: Boxes | KeypointFiles | None = None,
        detector: str | Detector = "none",
        detector_weights: str | None = None,
    ):
        """
        Args:
            source: an image file or a folder of images.
            given: where the people are; images that it does not name are passed over, and names without an image are
                in a warning. Without it the detector looks.
            detector: "none" takes every image as one person's crop, padded to a square, "movenet" and "torchvision"
                find people, and "auto" is "movenet", but takes a square image that is one person's crop whole; or any
                other `Detector`.
            detector_weights: a file for "torchvision".

        Raises:
            ValueError: there is nothing to read, or the detector cannot be loaded.
        """
        self.paths = list_images(source)
        self.given = given
        self.facts: dict[str, str] = {}  # for the record: what may be wrong
        self.unused = Unused()  # of the folder and of what is given, before an image is read
        self.left_out = Unused()  # of the images that were read so far
        for path, reason in passed_over(source):
            if given is None or not given.reads(path):
                self.unused.add(reason, example=path.name)
        self._detector = None
        if given is not None:
            self._match(given, source)
        else:  # one that cannot be loaded is reported before the first image
            named = isinstance(detector, str)
            self._detector = build_detector(detector, detector_weights) if named else detector
            self.left_out = unused_of(self._detector)
        self.stems = _unique_stems(self.paths)
        self._taken = frozenset(stem.lower() for stem in self.stems.values())

    def _match(self, given: Boxes | KeypointFiles, source: str | Path) -> None:
        """Warn of what may be wrong and count what has no counterpart. Raises ValueError when nothing has one."""
        missing = given.without_image(self.paths)
        unlisted = [path.name for path in self.paths if not given.lists(path)]
        if len(unlisted) == len(self.paths):
            reason = given.why_none_listed(self.paths)
            raise ValueError(f"None of the images in '{source}' has a person in the {given.what}: {reason}.")
        if suspicions := " ".join(given.suspicions(self.paths)):
            self.facts["suspicions"] = suspicions
            log.warning("The %s, suspicions: %s", given.what, suspicions)
        if missing:
            shown = ", ".join(missing[:SHOWN_NAMES]) + (", ..." if len(missing) > SHOWN_NAMES else "")
            log.warning(
                "Names in the %s without an image in '%s' (%d): %s", given.what, source, len(missing), shown
            )
        if isinstance(given, KeypointFiles):
            self.left_out = given.unused
        else:
            self.unused = self.unused.with_others([given.unused])
        self.unused.add_names(f"names in the {given.what} without an image", missing)
        self.unused.add_names(f"images without a person in the {given.what}", unlisted)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __iter__(self) -> Iterator[PersonCrop | BadImage]:
        for path in self.paths:
            yield from self.people_of(path)

    def people_of(self, path: Path) -> Iterator[PersonCrop | BadImage]:
        """The people of one image; a `BadImage` for the image or a single box that cannot be used."""
        if self.given is not None and not self.given.lists(path):
            return
        try:
            image = read_image(path)
        except ImageError as error:
            yield BadImage(path, str(error), error.size)
            return
        size = image.shape[1::-1]
        try:
            found = self.given.detections(path) if self.given is not None else self._detector.detect(image)
        except ValueError as error:  # damaged files of keypoints
            yield BadImage(path, str(error), size)
            return
        if not found:
            yield BadImage(path, "no person was found; --detector none takes the image as one person's crop", size)
        full = FullImage(self.stems[path], path, size, stored_focal_length(path))
        for person, detection in enumerate(found):
            yield self._person(full, image, person, detection, alone=len(found) == 1)

    def _person(
        self, full: FullImage, image: np.ndarray, person: int, found: Detection, alone: bool
    ) -> PersonCrop | BadImage:
        stem = full.stem if alone else f"{full.stem}_{person}"
        while not alone and stem.lower() in self._taken:
            stem += "_"  # another image has that name
        try:
            return person_crop(full, image, person, found, stem)
        except ValueError as error:
            return BadImage(full.path, f"box {person}: {error}", full.size)


def person_crop(
    full: FullImage, image: UInt8[np.ndarray, "H W 3"], person: int, found: Detection, stem: str
) -> PersonCrop:
    """What the network sees of a detected person, cut out of an RGB image.

    Args:
        full: name and size of the image.
        person: number within the image.
        stem: names the person's files.

    Raises:
        ValueError: the box is no area of the image that can show a person.
    """
    check_box(found.box, full.size)
    center, scale = box_to_center_scale(found.box, found.margin)
    crop = crop_image(image, center, scale)
    return PersonCrop(
        stem, person, full.path, crop, found.box, center, scale, full.size, found.score, found.keypoints,
        None if found.is_whole else full, found.bystanders,
    )  # fmt: skip


@functools.cache
def shared_detector(name: str) -> Detector:
    """The detector of that name without settings, loaded once; any threads may share it."""
    return build_detector(name)


def build_detector(name: str, weights: str | Path | None = None) -> Detector:
    """The detector of that name, one of DETECTORS; weights: a file for "torchvision".

    Raises ValueError when there is no such detector or it cannot be loaded.
    """
    if weights is not None and name != "torchvision":
        raise ValueError(f"--detector_weights belongs to --detector torchvision, not to '{name}'.")
    if name == "torchvision":
        from datasets.people.torchvision_detector import load_torchvision  # takes seconds to import

        return load_torchvision(weights)
    builders = {"none": WholeImage, "movenet": MoveNet, "auto": lambda: CropOrPeople(MoveNet())}
    if name not in builders:
        raise ValueError(f"Unknown detector '{name}'; choose one of {', '.join(DETECTORS)}.")
    return builders[name]()


def _unique_stems(paths: list[Path]) -> dict[Path, str]:
    """Output names: the stem, or name and extension where two images share a stem (a.jpg, a.png)."""
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
