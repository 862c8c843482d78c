"""Person boxes from a JSON file: {file: [[x,y,w,h], ...]}, COCO annotations or a COCO detections list."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets.labels.check import SAMPLED, check_corners
from datasets.labels.coco import PERSON, person_categories
from datasets.labels.values import boolean, counted, field, integer, optional, shown
from datasets.labels.values import number as number_of
from utils.images import image_size
from utils.io import load_json
from utils.people import Box, Detection
from utils.unused import Unused

MIN_SCORE = 0.5  # detections below are passed over
MIN_SIDE = 4.0  # px, of a box and of what of it lies in the image
MAX_PROPORTION = 50.0  # of the sides; beyond, the shorter one has less than 4 of the crop's 224 px
MAX_SIZE = 8.0  # of the longer side, to that of the image


class Boxes:
    """Boxes by file name, or by COCO image id where a file gives no names."""

    what = "boxes file"

    def __init__(
        self,
        by_name: Iterable[tuple[str, list[Detection]]],
        by_id: dict[int, list[Detection]] | None = None,
        left_out: Iterable[tuple[str | int, str]] = (),
        file: Path | None = None,
    ):
        """
        Args:
            left_out: file name or image id of entries that are not used, and why.
            file: where the boxes come from.

        Raises:
            ValueError: two names differ in their folders only; images are looked up in one folder.
        """
        self.file = file
        self._left_out = [
            (Path(key).name if isinstance(key, str) else key, reason) for key, reason in left_out
        ]
        self._by_id = by_id or {}
        self._by_name: dict[str, list[Detection]] = {}
        given: dict[str, str] = {}
        for key, people in by_name:
            name = Path(key).name
            if name in given:
                raise ValueError(f"'{given[name]}' and '{key}' are the same file name")
            given[name], self._by_name[name] = key, people

    @property
    def unused(self) -> Unused:
        """The entries that are not used."""
        unused = Unused()
        for key, reason in self._left_out:
            unused.add(f"boxes {reason}", example=key if isinstance(key, str) else f"image id {key}")
        return unused

    def reads(self, path: Path) -> bool:
        """Whether the boxes come from this file."""
        return self.file is not None and path.resolve() == self.file.resolve()

    def detections(self, path: Path) -> list[Detection]:
        """The people of an image, with the scores that the file gives; empty when it names none."""
        key = self._key(path)
        return self._by_name[key] if isinstance(key, str) else self._by_id.get(key, [])

    def lists(self, path: Path) -> bool:
        """Whether the file has a box of this image."""
        return bool(self.detections(path))

    def without_image(self, paths: Iterable[Path]) -> list[str]:
        """File names and image ids that have boxes and stand for none of these images."""
        used = {self._key(path) for path in paths}
        names = [name for name, people in self._by_name.items() if people and name not in used]
        return names + [f"image id {number}" for number in self._by_id if number not in used]

    def why_none_listed(self, paths: list[Path]) -> str:
        """Why none of the images has a box."""
        keys = {self._key(path) for path in paths}
        if reasons := Counter(reason for key, reason in self._left_out if key in keys):
            return f"all that it has of them was left out: {counted(reasons.items())}"
        if not keys.isdisjoint(self._by_name):
            return "it names them, without boxes"
        return "its keys must be file names, or image ids that the names end in"

    def suspicions(self, paths: Iterable[Path]) -> list[str]:
        """Whether the boxes are rather corners, seen from some images. Raises DataFileError where most are."""
        listed = [path for path in paths if self.lists(path)][:SAMPLED]
        pairs = [(person.box, path.name) for path in listed for person in self.detections(path)]
        sizes = {path.name: size for path in listed if (size := image_size(path))}
        return check_corners(
            [box for box, _ in pairs], [name for _, name in pairs], sizes, f"The {self.what}"
        )

    def _key(self, path: Path) -> str | int:
        if path.name in self._by_name:
            return path.name
        number = re.search(r"([0-9]+)$", path.stem)  # COCO names end in the image id
        return int(number.group(1)[-12:]) if number else -1


def load_boxes(path: str | Path) -> Boxes:
    """Read a boxes file. Raises ValueError in a sentence for a file that is none of the three kinds."""
    path = Path(path)
    try:
        content = load_json(path, _without_repeats)
    except OSError as error:
        raise ValueError(
            f"The boxes file '{path}' cannot be read: {error.strerror or 'it is not there'}."
        ) from error
    except ValueError as error:
        raise ValueError(f"The boxes file '{path}' is of no use: {error}") from error
    try:
        if isinstance(content, list):
            found, left_out = _by_image(content, frozenset({PERSON}))
            return Boxes((), found, left_out, path)
        if "annotations" in content:
            return _coco(content, path)
        by_name = [(name, [Detection(_box(box, name)) for box in boxes]) for name, boxes in content.items()]
        return Boxes(by_name, file=path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"The boxes file '{path}' is neither {{file: [[x, y, width, height], ...]}} nor COCO annotations "
            f"nor a list of COCO detections ({reason})."
        ) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"'{repeated}' stands twice in it, and JSON would forget the first.")
    return content


def _coco(content: dict[str, Any], path: Path) -> Boxes:
    categories, _ = person_categories(content, path)
    found, left_out = _by_image(content["annotations"], frozenset(c["id"] for c in categories))
    names: dict[int, str] = {}
    for image in content.get("images", []):
        if "file_name" in image:
            number = field(image, "id", integer, f"image '{image['file_name']}'")
            if number in names:
                raise ValueError(f"several images have the id {number}")
            names[number] = str(image["file_name"])
    by_name = [(name, found.pop(number, [])) for number, name in names.items()]
    # What is left in `found` has no file name.
    return Boxes(by_name, found, [(names.get(number, number), reason) for number, reason in left_out], path)


def _by_image(
    entries: list[dict[str, Any]], persons: frozenset[int]
) -> tuple[dict[int, list[Detection]], list[tuple[int, str]]]:
    """People by image id, and image id and reason of the entries that are not used."""
    found: dict[int, list[Detection]] = {}
    left_out = []
    for number, entry in enumerate(entries):
        what = f"entry {number}"
        image_id = field(entry, "image_id", integer, what)
        score = optional(entry, "score", number_of, what, math.nan)
        if optional(entry, "category_id", integer, what, min(persons)) not in persons:
            left_out.append((image_id, "of a category other than person"))
        elif optional(entry, "iscrowd", boolean, what, False):
            left_out.append((image_id, "that are crowds"))
        elif score < MIN_SCORE:
            left_out.append((image_id, f"with a score below {MIN_SCORE:g}"))
        else:
            found.setdefault(image_id, []).append(Detection(_box(entry["bbox"], what), score))
    return found, left_out


def _box(values: Any, what: str) -> Box:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) != 4:
        raise ValueError(f"{what}: a box is four numbers [x, y, width, height], got {shown(values)}")
    return tuple(map(float, values))


def check_box(box: Box, image_size: tuple[int, int]) -> None:
    """Raise ValueError when a box is no area of the image (width, height) that can show a person."""
    x, y, width, height = box
    if not all(map(math.isfinite, box)):
        raise ValueError(f"{list(box)} holds numbers that are not finite")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width:g} x {height:g} px is too small for a person")
    if x >= image_size[0] or y >= image_size[1] or x + width <= 0 or y + height <= 0:
        raise ValueError(f"{list(box)} lies outside the image of {image_size[0]} x {image_size[1]} px")
    if max(width, height) > MAX_SIZE * max(image_size):
        raise ValueError(f"{width:g} x {height:g} px is far larger than the image; are these pixels?")
    if max(width, height) > MAX_PROPORTION * min(width, height):
        raise ValueError(f"{width:g} x {height:g} px is too narrow for a person")
    seen = (min(x + width, image_size[0]) - max(x, 0), min(y + height, image_size[1]) - max(y, 0))
    if min(seen) < MIN_SIDE:
        raise ValueError(
            f"{list(box)} has only {seen[0]:g} x {seen[1]:g} px in the image of {image_size[0]} x {image_size[1]} px"
        )
