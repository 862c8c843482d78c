"""Person boxes from a JSON file: {file: [[x,y,w,h], ...]}, COCO annotations or a COCO detections list."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets.labels.check import SAMPLED, check_corners
from datasets.labels.coco import PERSON, person_categories
from datasets.labels.values import counted, field, optional, truth, whole
from datasets.labels.values import number as number_of
from datasets.people.images import picture_size
from utils.io import load_json
from utils.people import Box, Detection
from utils.unused import Unused

MIN_SCORE = 0.5  # detections below are passed over
MIN_SIDE = 4.0  # px, of a box and of what of it lies in the picture
MAX_PROPORTION = 50.0  # of the sides; beyond, the shorter one has less than 4 of the crop's 224 px
MAX_SIZE = 8.0  # of the longer side, to that of the picture


class Boxes:
    """Boxes by file name, or by COCO image id where a file gives no names.

    Raises ValueError when two names differ in their folders only: pictures are looked up in one folder.
    """

    what, named_by = "boxes file", "its keys must be file names, or image ids that the names end in"

    def __init__(
        self,
        by_name: Iterable[tuple[str, list[Detection]]],
        by_id: dict[int, list[Detection]] | None = None,
        left_out: Iterable[tuple[str | int, str]] = (),
    ):
        """left_out: file name or image id of entries that are not used, and why."""
        self.file: Path | None = None
        self._left_out = [(Path(key).name if isinstance(key, str) else key, why) for key, why in left_out]
        self._by_name: dict[str, list[Detection]] = {}
        given: dict[str, str] = {}
        for key, people in by_name:
            name = Path(key).name
            if name in given:
                raise ValueError(f"'{given[name]}' and '{key}' are the same file name")
            given[name] = key
            self._by_name[name] = people
        self._by_id = by_id or {}

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

    def of(self, path: Path) -> list[Box]:
        """Boxes of a picture; empty when the file names none."""
        return [person.box for person in self.detections(path)]

    def detections(self, path: Path) -> list[Detection]:
        """The people of a picture, with the scores that the file gives."""
        key = self._key(path)
        return self._by_name[key] if isinstance(key, str) else self._by_id.get(key, [])

    def names(self, path: Path) -> bool:
        """Whether the file has a box of this picture."""
        return bool(self.detections(path))

    def without_picture(self, paths: Iterable[Path]) -> list[str]:
        """File names and image ids that have boxes and stand for none of these pictures."""
        used = {self._key(path) for path in paths}
        names = [name for name, people in self._by_name.items() if people and name not in used]
        return names + [f"image id {number}" for number in self._by_id if number not in used]

    def left_out(self, paths: Iterable[Path] | None = None) -> str:
        """Counts of the entries that are not used, of these pictures or of all, by reason; "" for none."""
        keys = None if paths is None else {self._key(path) for path in paths}
        reasons = Counter(reason for key, reason in self._left_out if keys is None or key in keys)
        return counted(reasons.items())

    def why_nobody(self, paths: list[Path]) -> str:
        """Why no picture has a box."""
        if left_out := self.left_out(paths):
            return f"all that it has of them was left out: {left_out}"
        if any(self._key(path) in self._by_name for path in paths):
            return "it names them, without boxes"
        return self.named_by

    def suspicions(self, paths: Iterable[Path]) -> list[str]:
        """Whether the boxes are rather corners, seen from some pictures. Raises DataFileError where most are."""
        named = [path for path in paths if self.names(path)][:SAMPLED]
        pairs = [(box, path.name) for path in named for box in self.of(path)]
        sizes = {path.name: size for path in named if (size := picture_size(path))}
        boxes, names = zip(*pairs, strict=True) if pairs else ((), ())
        return check_corners(boxes, names, sizes, f"The {self.what}")

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
        raise ValueError(f"The boxes file '{path}' cannot be read: {error.strerror or 'it is not there'}.") from error
    except ValueError as error:
        raise ValueError(f"The boxes file '{path}' is of no use: {error}") from error
    try:
        boxes = _read_boxes(content, path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"The boxes file '{path}' is neither {{file: [[x, y, width, height], ...]}} nor COCO annotations "
            f"nor a list of COCO detections ({told})."
        ) from error
    boxes.file = path
    return boxes


def _read_boxes(content: Any, path: Path) -> Boxes:
    if isinstance(content, list):
        found, left_out = _by_image(content, frozenset({PERSON}))
        return Boxes((), found, left_out)
    if "annotations" in content:
        return _coco(content, path)
    return Boxes((name, [Detection(_box(box, name)) for box in boxes]) for name, boxes in content.items())


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"'{repeated}' stands twice in it, and JSON would forget the first.")
    return content


def _coco(content: dict[str, Any], path: Path) -> Boxes:
    categories, _ = person_categories(content, path)
    found, left_out = _by_image(content["annotations"], frozenset(c["id"] for c in categories))
    images = [image for image in content.get("images", []) if "file_name" in image]
    ids = [field(image, "id", whole, f"image '{image['file_name']}'") for image in images]
    repeated = [number for number, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"several images have the id {repeated[0]}")
    names = [str(image["file_name"]) for image in images]
    by_name = [(name, found.pop(number, [])) for name, number in zip(names, ids, strict=True)]
    name_of = dict(zip(ids, names, strict=True))
    # what is left has no file name
    return Boxes(by_name, found, [(name_of.get(number, number), why) for number, why in left_out])


def _by_image(
    entries: list[dict[str, Any]], persons: frozenset[int]
) -> tuple[dict[int, list[Detection]], list[tuple[int, str]]]:
    """People by image id, and image id and reason of the entries that are not used."""
    found: dict[int, list[Detection]] = {}
    left_out = []
    for number, entry in enumerate(entries):
        what = f"entry {number}"
        image_id = field(entry, "image_id", whole, what)
        score = optional(entry, "score", number_of, what, math.nan)
        if optional(entry, "category_id", whole, what, min(persons)) not in persons:
            left_out.append((image_id, "of a category other than person"))
        elif optional(entry, "iscrowd", truth, what, False):
            left_out.append((image_id, "that are crowds"))
        elif score < MIN_SCORE:
            left_out.append((image_id, f"with a score below {MIN_SCORE:g}"))
        else:
            found.setdefault(image_id, []).append(Detection(_box(entry["bbox"], what), score))
    return found, left_out


def _box(values: Any, what: str) -> Box:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) != 4:
        told = json.dumps(values)[:60]
        raise ValueError(f"{what}: a box is four numbers [x, y, width, height], got {told}")
    x, y, width, height = map(float, values)
    return (x, y, width, height)


def check_box(box: Box, image_size: tuple[int, int]) -> None:
    """Raise ValueError when a box is no area of the picture (width, height) that can show a person."""
    x, y, width, height = box
    if not all(math.isfinite(value) for value in box):
        raise ValueError(f"{list(box)} holds numbers that are not finite")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width:g} x {height:g} px is too small for a person")
    if x >= image_size[0] or y >= image_size[1] or x + width <= 0 or y + height <= 0:
        raise ValueError(f"{list(box)} lies outside the picture of {image_size[0]} x {image_size[1]} px")
    if max(width, height) > MAX_SIZE * max(image_size):
        raise ValueError(f"{width:g} x {height:g} px is far larger than the picture; are these pixels?")
    if max(width, height) > MAX_PROPORTION * min(width, height):
        raise ValueError(f"{width:g} x {height:g} px is too narrow for a person")
    seen = (min(x + width, image_size[0]) - max(x, 0), min(y + height, image_size[1]) - max(y, 0))
    if min(seen) < MIN_SIDE:
        raise ValueError(
            f"{list(box)} has only {seen[0]:g} x {seen[1]:g} px in the picture of {image_size[0]} x {image_size[1]} px"
        )
