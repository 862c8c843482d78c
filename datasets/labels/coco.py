"""Annotation files in COCO's form: checked whole, keypoints in COCO's order by their names, gaps filled and counted.

    file = read_coco_file(path)          # raises DataFileError with the entry that is wrong
    file.people                          # every person, crowds included
    truth_for_pycocotools(file)          # what results are scored against

Missing values are filled where there is one sensible answer: `area` from the segmentation, or from the box; `iscrowd`
0; `num_keypoints` from the keypoints; a single or absent category is the person's. `file.notes` says what was done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.labels import values as values
from datasets.labels.keypoint_names import NUM_KEYPOINTS, keypoint_places
from datasets.labels.person_area import filled_area
from datasets.labels.values import Box
from utils.io import DataFileError, load_json

if TYPE_CHECKING:
    from jaxtyping import Float

PERSON = 1  # COCO's category
PERSON_NAMES = ("person", "people", "human")


@dataclass(frozen=True)
class CocoPerson:
    """One annotation of a person."""

    number: int  # place among the file's annotations
    image_id: int
    box: Box
    keypoints: Float[np.ndarray, "17 3"]  # COCO's order; x, y, visibility; zeros where none are given
    num_keypoints: int
    is_crowd: bool
    area: float

    @property
    def counts(self) -> bool:
        """Whether COCO's evaluation expects this person to be found."""
        return self.num_keypoints > 0 and not self.is_crowd


@dataclass(frozen=True)
class CocoHead:
    """What holds for all annotations of a file."""

    path: Path
    names: dict[int, str]  # file name by image id
    sizes: dict[int, tuple[int, int]]  # width and height by image id, where the file gives them
    persons: frozenset[int]  # categories that are persons
    one_category: bool  # annotations need not name their category
    places: tuple[int, ...]  # of COCO's 17 keypoints among the file's
    num_points: int  # keypoints that the file has
    notes: tuple[str, ...] = ()  # what was assumed


@dataclass(frozen=True)
class CocoFile:
    """A file's head and people."""

    head: CocoHead
    people: list[CocoPerson]
    left_out: Counter[str] = field(default_factory=Counter)  # annotations that are no people, by reason
    notes: tuple[str, ...] = ()  # what was assumed and filled in
    suspicions: tuple[str, ...] = ()  # what may be wrong with it


def read_json(path: Path, what: str) -> Any:
    """Content of a JSON file. Raises FileNotFoundError, or DataFileError for damage."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of {what} at {path}.")
    return load_json(path)


def entries_of(content: Any, key: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects of a file's content. Raises DataFileError for anything else."""
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataFileError(f"{path} is not in COCO's form: expected a list of objects under '{key}'.")
    return entries


# ---------------------------------------------------------------------------------------------------------- head


def coco_head(content: Any, path: Path) -> CocoHead:
    """Images, person category and order of keypoints. Raises DataFileError naming what is wrong."""
    names: dict[int, str] = {}
    sizes = {}
    for number, image in enumerate(entries_of(content, "images", path)):
        what = f"{path}, image {number}"
        image_id = values.field(image, "id", values.whole, what)
        if image_id in names:
            raise DataFileError(f"{what}: the id {image_id} stands for two images.")
        names[image_id] = values.field(image, "file_name", values.text, what)
        sides = [values.optional(image, side, values.size, what, None) for side in ("width", "height")]
        if None not in sides:
            sizes[image_id] = tuple(sides)
    if not names:
        raise DataFileError(f"{path} names no images.")
    categories, notes = person_categories(content, path)
    persons = frozenset(category["id"] for category in categories)
    told = [c["keypoints"] for c in categories if c.get("keypoints") is not None]
    if any(listed != told[0] for listed in told):
        raise DataFileError(f"{path}: the person categories {sorted(persons)} have different keypoints.")
    if told:
        listed = told[0]
        places = keypoint_places(listed, f"{path}, category {min(persons)}")
        num_points = len(listed)
        if places != tuple(range(NUM_KEYPOINTS)):
            notes.append(
                f"its {num_points} keypoints stand in another order than COCO's and were reordered by name"
            )
    else:
        places, num_points = tuple(range(NUM_KEYPOINTS)), NUM_KEYPOINTS
        notes.append("it does not name its keypoints, COCO's order is assumed")
    one = len(content.get("categories") or [0]) == 1
    return CocoHead(path, names, sizes, persons, one, places, num_points, tuple(notes))


def person_categories(content: Any, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The categories that are persons, and what was assumed."""
    if not content.get("categories"):
        used = {
            values.optional(entry, "category_id", values.whole, f"{path}, annotation {number}", None)
            for number, entry in enumerate(entries_of(content, "annotations", path))
        } - {None}
        if not used:
            return [{"id": PERSON}], ["it has no categories, all annotations count as persons"]
        if PERSON not in used and len(used) > 1:
            raise DataFileError(
                f"{path} has no 'categories', and its annotations have several; none is {PERSON}."
            )
        chosen = PERSON if PERSON in used else next(iter(used))
        return [{"id": chosen}], [f"it has no 'categories', {chosen} counts as the person's"]
    categories = entries_of(content, "categories", path)
    for number, category in enumerate(categories):
        values.field(category, "id", values.whole, f"{path}, category {number}")
    named = [c for c in categories if str(c.get("name", "")).strip().lower() in PERSON_NAMES]
    if named:
        return named, []
    if len(categories) == 1:
        name = categories[0].get("name")
        return categories, [f"its only category, {values.shown(name)}, counts as the person's"]
    told = ", ".join(str(c.get("name")) for c in categories[:10])
    raise DataFileError(f"{path}: none of its categories ({told}) is named 'person'.")


# ------------------------------------------------------------------------------------------------------- people


def is_person(entry: Mapping[str, Any], head: CocoHead, what: str) -> bool:
    """Whether an annotation or detection is of the person category."""
    if entry.get("category_id") is None:
        if head.one_category:
            return True
        raise DataFileError(f"{what} lacks 'category_id', and the file has several categories.")
    return values.field(entry, "category_id", values.whole, what) in head.persons


def keypoints_of(entry: dict[str, Any], head: CocoHead, what: str) -> Float[np.ndarray, "17 3"]:
    """A person's keypoints in COCO's order: x, y, visibility. Raises DataFileError naming the entry."""
    count = 3 * head.num_points
    expected = f"expected {count} numbers, x, y and visibility of {head.num_points} keypoints in pixels"
    flat = values.field(entry, "keypoints", lambda value: values.numbers(value, count), what, expected)
    return flat.reshape(-1, 3)[list(head.places)]


def read_coco_file(path: str | Path) -> CocoFile:
    """A whole annotation file. Raises FileNotFoundError, or DataFileError naming the entry that is wrong."""
    path = Path(path)
    content = read_json(path, "annotations")
    head = coco_head(content, path)
    people, left_out, filled, odd = [], Counter(), Counter(), Counter()
    for number, entry in enumerate(entries_of(content, "annotations", path)):
        what = f"{path}, annotation {number}"
        if is_person(entry, head, what):
            people.append(_person(entry, head, number, what, filled, odd))
        else:
            left_out["of a category other than person"] += 1
    filled.update(dict(_ids(content["annotations"], path)))
    notes = [*head.notes]
    if filled:
        notes.append(f"filled in: {', '.join(f'{name} of {count:,}' for name, count in filled.items())}")
    suspicions = [f"{path}: {count:,} annotations have {what}." for what, count in odd.items()]
    repeated = [name for name, count in Counter(head.names.values()).items() if count > 1]
    if repeated:
        suspicions.append(
            f"{path}: {len(repeated):,} file names stand for several images, first '{repeated[0]}'."
        )
    return CocoFile(head, people, left_out, tuple(notes), tuple(suspicions))


def _ids(entries: list[dict[str, Any]], path: Path) -> Iterator[tuple[str, int]]:
    given = (
        values.optional(entry, "id", values.whole, f"{path}, annotation {number}", None)
        for number, entry in enumerate(entries)
    )
    ids = [number for number in given if number is not None]
    if len(ids) < len(entries):
        yield "id (numbered)", len(entries) - len(ids)
    if len(set(ids)) < len(ids):
        yield "repeated id (numbered)", len(ids) - len(set(ids))


def _person(
    entry: dict[str, Any], head: CocoHead, number: int, what: str, filled: Counter[str], odd: Counter[str]
) -> CocoPerson:
    image_id = values.field(entry, "image_id", values.whole, what)
    if image_id not in head.names:
        raise DataFileError(f"{what} belongs to image {image_id}, which the file does not name.")
    box = values.field(entry, "bbox", values.box, what)
    filled.update(f"{name}" for name in ("iscrowd", "category_id") if entry.get(name) is None)
    is_crowd = values.optional(entry, "iscrowd", values.truth, what, False)
    if entry.get("keypoints") is None:
        filled["keypoints (as none labelled)"] += 1
        points = np.zeros((NUM_KEYPOINTS, 3))
    else:
        points = keypoints_of(entry, head, what)
    visible = int((points[:, 2] > 0).sum())
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        odd["a visibility other than 0, 1 and 2; above 0 counts as labelled"] += 1
    count = values.optional(entry, "num_keypoints", values.whole, what, visible)
    if entry.get("num_keypoints") is None:
        filled["num_keypoints"] += 1
    elif count != visible and head.num_points == NUM_KEYPOINTS:
        odd[
            "a num_keypoints that is not the number of their labelled keypoints; a person counts if neither is 0"
        ] += 1
    area = values.optional(entry, "area", values.area, what, 0.0)
    if not area:
        area, source = filled_area(entry.get("segmentation"), box)
        filled[f"area (from the {source})"] += 1
    return CocoPerson(number, image_id, box, points, min(count, visible), is_crowd, area)


# ------------------------------------------------------------------------------------------------ for pycocotools


def truth_for_pycocotools(file: CocoFile) -> dict[str, Any]:
    """The file as pycocotools reads it: people only, keypoints in COCO's order, ids from 1 (0 is no match there)."""
    annotations = [
        {
            "id": number,
            "image_id": person.image_id,
            "category_id": PERSON,
            "iscrowd": int(person.is_crowd),
            "bbox": list(person.box),
            "area": person.area,
            "keypoints": person.keypoints.reshape(-1).tolist(),
            "num_keypoints": person.num_keypoints,
        }
        for number, person in enumerate(file.people, start=1)
    ]
    images = [{"id": image_id, "file_name": name} for image_id, name in file.head.names.items()]
    return {"info": {}, "images": images, "categories": [{"id": PERSON}], "annotations": annotations}


def in_file_order(rows: list[dict[str, Any]], head: CocoHead) -> list[dict[str, Any]]:
    """Result rows as they belong to the file: its category, and its keypoints in its order (0 where not predicted)."""
    category = min(head.persons)
    kept = []
    for row in rows:
        points = np.zeros((head.num_points, 3))
        points[list(head.places)] = np.reshape(row["keypoints"], (NUM_KEYPOINTS, 3))
        kept.append(row | {"category_id": category, "keypoints": points.reshape(-1).tolist()})
    return kept
