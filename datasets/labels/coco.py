"""Annotation files in COCO's form: checked whole, keypoints in COCO's order by their names, gaps filled and counted.

    file = read_coco_file(path)          # raises DataFileError with the entry that is wrong
    file.people                          # every person, crowds included
    truth_for_pycocotools(file)          # what results are scored against

Missing values are filled where there is one sensible answer: `area` from the segmentation, or from the box; `iscrowd`
0; `num_keypoints` from the keypoints; a single or absent category is the person's. `file.notes` says what was done.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.labels import values
from datasets.labels.densepose import POINT_KEYS, with_masks
from datasets.labels.rle import segmentation_area
from datasets.labels.values import Box
from utils.body import SMPL_ID
from utils.io import DataFileError, load_json
from utils.skeleton import GT24_NAMES, GT24_TO_COCO17

if TYPE_CHECKING:
    from jaxtyping import Float

PERSON = 1  # COCO's category
PERSON_NAMES = ("person", "people", "human")
COCO17_NAMES = tuple(GT24_NAMES[joint] for joint in GT24_TO_COCO17)
COCO_ORDER = tuple(range(17))


@dataclass(frozen=True)
class CocoPerson:
    """One annotation of a person."""

    image_id: int
    box: Box
    keypoints: Float[np.ndarray, "17 3"]  # COCO's order; x, y, visibility; zeros where none are given
    num_keypoints: int
    is_crowd: bool
    area: float  # pixels
    id: int | None = None  # as the file has it
    dense: dict[str, Any] | None = None  # DensePose labels, unchecked (`DenseAnnotations` checks them)

    @property
    def is_counted(self) -> bool:
        """Whether COCO's evaluation expects this person to be found."""
        return self.num_keypoints > 0 and not self.is_crowd


@dataclass(frozen=True)
class CocoHead:
    """Images, person category and keypoint order of an annotation file."""

    path: Path
    names: dict[int, str]  # file name by image id
    sizes: dict[int, tuple[int, int]]  # width and height by image id, where the file gives them
    persons: frozenset[int]  # categories that are persons
    one_category: bool  # annotations need not name their category
    places: tuple[int, ...]  # of COCO's 17 keypoints among the file's
    num_points: int  # keypoints that the file has
    notes: tuple[str, ...]  # what was assumed
    body: str  # whose surface DensePose labels lie on: official SMPL, unless the file names another


@dataclass(frozen=True)
class CocoFile:
    """A file's head and people."""

    head: CocoHead
    people: list[CocoPerson]
    left_out: Counter[str]  # annotations that are no people, by reason
    notes: tuple[str, ...]  # what was assumed and filled in
    suspicions: tuple[str, ...]  # what may be wrong with it


def entries_of(content: Any, key: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects of a file's content. Raises DataFileError for anything else."""
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataFileError(f"{path} is not in COCO's form: expected a list of objects under '{key}'.")
    return entries


def coco_head(content: Any, path: Path) -> CocoHead:
    """Images, person category and order of keypoints. Raises DataFileError naming what is wrong."""
    names: dict[int, str] = {}
    sizes = {}
    for number, image in enumerate(entries_of(content, "images", path)):
        what = f"{path}, image {number}"
        image_id = values.field(image, "id", values.integer, what)
        if image_id in names:
            raise DataFileError(f"{what}: the id {image_id} stands for two images.")
        names[image_id] = values.field(image, "file_name", values.text, what)
        width, height = (
            values.optional(image, side, values.size, what, None) for side in ("width", "height")
        )
        if width and height:
            sizes[image_id] = width, height
    if not names:
        raise DataFileError(f"{path} names no images.")
    categories, notes = person_categories(content, path)
    persons = frozenset(category["id"] for category in categories)
    lists = [c["keypoints"] for c in categories if c.get("keypoints") is not None]
    if any(listed != lists[0] for listed in lists):
        raise DataFileError(f"{path}: the person categories {sorted(persons)} have different keypoints.")
    places = keypoint_places(lists[0], f"{path}, category {min(persons)}") if lists else COCO_ORDER
    num_points = len(lists[0] if lists else COCO_ORDER)
    if not lists:
        notes.append("it does not name its keypoints, COCO's order is assumed")
    elif places != COCO_ORDER:
        notes.append(
            f"its {num_points} keypoints stand in another order than COCO's and were reordered by name"
        )
    one = len(content.get("categories") or [0]) == 1
    info = content.get("info")
    body = str(info.get("body", SMPL_ID)) if isinstance(info, dict) else SMPL_ID
    return CocoHead(path, names, sizes, persons, one, places, num_points, tuple(notes), body)


def person_categories(content: Any, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The categories that are persons, and what was assumed."""
    if not content.get("categories"):
        used = {
            values.optional(entry, "category_id", values.integer, f"{path}, annotation {number}", None)
            for number, entry in enumerate(entries_of(content, "annotations", path))
        } - {None}
        if not used:
            return [{"id": PERSON}], ["it has no categories, all annotations count as persons"]
        if PERSON not in used and len(used) > 1:
            raise DataFileError(f"{path} has no 'categories', and its annotations several, none of them {PERSON}.")
        chosen = PERSON if PERSON in used else next(iter(used))
        return [{"id": chosen}], [f"it has no 'categories', {chosen} counts as the person's"]
    categories = entries_of(content, "categories", path)
    for number, category in enumerate(categories):
        values.field(category, "id", values.integer, f"{path}, category {number}")
    names = [str(category.get("name")) for category in categories]
    named = [c for c in categories if str(c.get("name")).strip().lower() in PERSON_NAMES]
    if named:
        return named, []
    if len(categories) == 1:
        return categories, [f"its only category, {values.shown(names[0])}, counts as the person's"]
    raise DataFileError(f"{path}: none of its categories ({', '.join(names[:10])}) is named 'person'.")


def keypoint_places(names: Any, what: str) -> tuple[int, ...]:
    """Places of COCO's 17 keypoints in a list of names; other names may stand between them.

    Raises DataFileError when one is missing or stands twice.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataFileError(f"{what}: 'keypoints' is {values.shown(names)}, expected a list of names.")
    keys = [_words(name) for name in names]
    wanted = {name: _words(name) for name in COCO17_NAMES}
    missing = [name for name, key in wanted.items() if keys.count(key) != 1]
    if missing:
        raise DataFileError(
            f"{what}: expected COCO's {len(wanted)} keypoints in any order, each once; of them "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''} cannot be found among its names "
            f"{', '.join(names[:20])}."
        )
    return tuple(map(keys.index, wanted.values()))


def _words(name: str) -> list[str]:
    """Words of a keypoint's name in a fixed order: the same for left_eye, "Left Eye", leftEye, eye-left and L_Eye."""
    spaced = re.sub(r"([a-z])(?=[A-Z])", r"\1 ", name)
    spaced = re.sub(r"^(left|right)(?=[a-z])", r"\1 ", spaced.strip().lower())
    words = re.findall(r"[a-z]+|[0-9]+", spaced)
    return sorted({"l": "left", "r": "right"}.get(word, word) for word in words)


def is_person(entry: Mapping[str, Any], head: CocoHead, what: str) -> bool:
    """Whether an annotation or detection is of the person category."""
    if entry.get("category_id") is None:
        if head.one_category:
            return True
        raise DataFileError(f"{what} lacks 'category_id', and the file has several categories.")
    return values.field(entry, "category_id", values.integer, what) in head.persons


def keypoints_of(entry: dict[str, Any], head: CocoHead, what: str) -> Float[np.ndarray, "17 3"]:
    """A person's keypoints in COCO's order: x, y, visibility. Raises DataFileError naming the entry."""
    count = 3 * head.num_points
    expected = f"{count} numbers, x, y and visibility of {head.num_points} keypoints in pixels"
    flat = values.field(entry, "keypoints", lambda value: values.numbers(value, count), what, expected)
    return flat.reshape(-1, 3)[list(head.places)]


def read_coco_file(path: str | Path) -> CocoFile:
    """A whole annotation file. Raises FileNotFoundError, or DataFileError naming the entry that is wrong."""
    path = Path(path)
    content = load_json(path)
    head = coco_head(content, path)
    people, ids = [], []
    left_out, filled, unlikely = Counter(), Counter(), Counter()
    for number, entry in enumerate(entries_of(content, "annotations", path)):
        what = f"{path}, annotation {number}"
        ids.append(values.optional(entry, "id", values.integer, what, None))
        if is_person(entry, head, what):
            people.append(_person(entry, head, what, filled, unlikely))
        else:
            left_out["of a category other than person"] += 1
    given = [number for number in ids if number is not None]
    filled["id (numbered)"] = len(ids) - len(given)
    filled["repeated id (numbered)"] = len(given) - len(set(given))
    notes = [*head.notes]
    if any(filled.values()):
        notes.append(
            f"filled in: {', '.join(f'{name} of {count:,}' for name, count in filled.items() if count)}"
        )
    suspicions = [f"{path}: {count:,} annotations have {what}." for what, count in unlikely.items()]
    repeated = [name for name, count in Counter(head.names.values()).items() if count > 1]
    if repeated:
        first = repeated[0]
        suspicions.append(f"{path}: {len(repeated):,} file names stand for several images, first '{first}'.")
    return CocoFile(head, people, left_out, tuple(notes), tuple(suspicions))


def _person(
    entry: dict[str, Any], head: CocoHead, what: str, filled: Counter[str], unlikely: Counter[str]
) -> CocoPerson:
    """The person of an annotation; counts what was filled in and what may be wrong."""
    image_id = values.field(entry, "image_id", values.integer, what)
    if image_id not in head.names:
        raise DataFileError(f"{what} belongs to image {image_id}, which the file does not name.")
    box = values.field(entry, "bbox", values.box, what)
    filled.update(key for key in ("iscrowd", "category_id", "num_keypoints") if entry.get(key) is None)
    is_crowd = values.optional(entry, "iscrowd", values.boolean, what, False)
    if entry.get("keypoints") is None:
        filled["keypoints (as none labelled)"] += 1
        points = np.zeros((len(COCO_ORDER), 3))
    else:
        points = keypoints_of(entry, head, what)
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        unlikely["a visibility other than 0, 1 and 2; above 0 counts as labelled"] += 1
    visible = int((points[:, 2] > 0).sum())
    count = values.optional(entry, "num_keypoints", values.integer, what, visible)
    if count != visible and head.num_points == len(COCO_ORDER):
        unlikely[
            "a num_keypoints that differs from the labelled keypoints; a person counts if neither is 0"
        ] += 1
    area = values.optional(entry, "area", values.area, what, 0.0)
    if not area:
        area, source = segmentation_area(entry.get("segmentation"), box)
        filled[f"area (from the {source})"] += 1
    number = values.optional(entry, "id", values.integer, what, None)
    has_points = POINT_KEYS[0] in entry and any(entry.get(key) != [] for key in POINT_KEYS)
    dense = with_masks(entry) if has_points else None
    return CocoPerson(image_id, box, points, min(count, visible), is_crowd, area, number, dense)


def truth_for_pycocotools(file: CocoFile, dense: bool = False) -> dict[str, Any]:
    """The file as pycocotools reads it: people only, keypoints in COCO's order, ids from 1 (0 is no match there).

    With `dense`, the people who count are those with DensePose labels, so that `num_keypoints` is 1 or 0.
    """
    annotations = [
        {
            "id": number,
            "image_id": person.image_id,
            "category_id": PERSON,
            "iscrowd": int(person.is_crowd),
            "bbox": list(person.box),
            "area": person.area,
            "keypoints": person.keypoints.reshape(-1).tolist(),
            "num_keypoints": int(person.dense is not None) if dense else person.num_keypoints,
        }
        for number, person in enumerate(file.people, start=1)
    ]
    images = [{"id": image_id, "file_name": name} for image_id, name in file.head.names.items()]
    return {"info": {}, "images": images, "categories": [{"id": PERSON}], "annotations": annotations}


def in_file_order(rows: list[dict[str, Any]], head: CocoHead) -> list[dict[str, Any]]:
    """Result rows as they belong to the file: its category, and its keypoints in its order (0 where not predicted)."""
    category = min(head.persons)
    found = []
    for row in rows:
        points = np.zeros((head.num_points, 3))
        points[list(head.places)] = np.reshape(row["keypoints"], (-1, 3))
        found.append(row | {"category_id": category, "keypoints": points.reshape(-1).tolist()})
    return found
