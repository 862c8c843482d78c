"""People of COCO keypoint annotations as samples, boxed by the annotations or by a detector (method.md 11, 15.9)."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.base_dataset import BaseDataset, LabelledPeople
from datasets.boxes import PERSON
from datasets.labels import NUM_OPENPOSE, Labels
from datasets.registry import PathsConfig
from datasets.transforms import box_to_center_scale
from utils.densepose_uv import DATA_DIR
from utils.safe_io import DataFileError
from utils.skeleton import GT24_TO_COCO17

log = logging.getLogger(__name__)

RULE = "boxes of the annotations with iscrowd 0 and num_keypoints > 0, widened by 1.2"
DETECTED = "boxes of the detections with a score of at least {score:g}, widened by 1.2"
EXTRAS_RULE = "boxes of coco_2014_val.npz as stored"


class COCODataset(LabelledPeople):
    """People of an annotation file in COCO's form, in the order of the file.

    labels.image_id and labels.score belong to each person; `image_ids` are those of all images of the file,
    with people or without; `rule` says in words where the boxes come from.
    """

    def __init__(
        self,
        ann_file: str | Path,
        img_root: str | Path,
        detections: str | Path | None = None,
        *,
        crop_mode: str = "warp",
        min_score: float = 0.0,
    ) -> None:
        """detections: a list of {image_id, category_id, bbox, score}; its boxes replace the annotated ones.

        Raises FileNotFoundError for files and pictures that are missing, DataFileError in one sentence for a
        file that is not in COCO's form.
        """
        self.file = Path(ann_file)
        content = _read_json(self.file, "annotations")
        names = _images(content, self.file)
        if detections:
            self.rule = DETECTED.format(score=min_score)
            labels = _detected_people(Path(detections), names, min_score)
        else:
            self.rule = RULE
            labels = _annotated_people(content, names, self.file)
        self.image_ids = list(names)
        super().__init__("coco", labels, Path(img_root), crop_mode=crop_mode, source="cocodataset.org")

    @classmethod
    def from_extras(
        cls,
        data_dir: str | Path = DATA_DIR,
        paths: PathsConfig = PathsConfig(),  # noqa: B008 (frozen)
        *,
        crop_mode: str = "warp",
    ) -> COCODataset:
        """The people of 2020's coco_2014_val.npz; an image's id is the last 12 digits of its name."""
        base = BaseDataset("coco", data_dir, paths, is_train=False, crop_mode=crop_mode)
        dataset = cls.__new__(cls)
        dataset.__dict__.update(base.__dict__)
        ids = np.array([_id_of(name, base.file) for name in base.labels.imgname], dtype=np.int64)
        dataset.labels = replace(base.labels, image_id=ids, score=np.ones(len(ids)))
        dataset.image_ids = list(dict.fromkeys(ids.tolist()))
        dataset.rule = EXTRAS_RULE
        return dataset


def _id_of(name: Any, file: Path) -> int:
    digits = re.search(r"([0-9]+)$", Path(str(name)).stem)
    if not digits:
        raise DataFileError(f"{file}: the picture name '{name}' does not end in an image id.")
    return int(digits.group(1)[-12:])


def _read_json(path: Path, what: str) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of {what} at {path}.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path} is not valid JSON: {error}.") from error


def _entries(content: Any, key: str, path: Path) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataFileError(f"{path} is not in COCO's form: expected a list of objects under '{key}'.")
    return entries


def _field(entry: dict[str, Any], key: str, convert: Callable[[Any], Any], what: str) -> Any:
    """A converted value of an entry; DataFileError naming the entry when it is missing or of another kind."""
    if key not in entry:
        raise DataFileError(f"{what} lacks '{key}'.")
    try:
        return convert(entry[key])
    except (TypeError, ValueError, OverflowError):
        raise DataFileError(f"{what}: '{key}' is {str(entry[key])[:60]}, {_EXPECTED[convert]}.") from None


def _whole(value: Any) -> int:
    number = int(value)
    if number != value or isinstance(value, bool):
        raise ValueError
    return number


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _box(value: Any) -> tuple[float, float, float, float]:
    x, y, width, height = map(_finite, value)
    if min(width, height) < 0 or max(width, height) <= 0:
        raise ValueError
    return x, y, width, height


def _keypoints(value: Any) -> np.ndarray:
    points = np.array(value, dtype=np.float64)
    if points.shape != (51,) or not np.isfinite(points).all():
        raise ValueError
    return points.reshape(17, 3)


_EXPECTED = {
    str: "expected text",
    _whole: "expected a whole number",
    _finite: "expected a number",
    _box: "expected x, y, width, height with a positive size",
    _keypoints: "expected 51 numbers",
}


def _images(content: Any, path: Path) -> dict[int, str]:
    """File name of every image by its id."""
    names: dict[int, str] = {}
    for number, image in enumerate(_entries(content, "images", path)):
        what = f"{path}, image {number}"
        image_id = _field(image, "id", _whole, what)
        name = _field(image, "file_name", str, what)
        if image_id in names:
            raise DataFileError(f"{what}: the id {image_id} stands for two images.")
        names[image_id] = name
    if not names:
        raise DataFileError(f"{path} names no images.")
    return names


def _annotated_people(content: Any, names: dict[int, str], path: Path) -> Labels:
    people, points = [], []
    for number, entry in enumerate(_entries(content, "annotations", path)):
        what = f"{path}, annotation {number}"
        if entry.get("category_id", PERSON) != PERSON or entry.get("iscrowd", 0):
            continue
        keypoints = _field(entry, "keypoints", _keypoints, what)
        visible = keypoints[:, 2] > 0
        count = _field(entry, "num_keypoints", _whole, what) if "num_keypoints" in entry else visible.sum()
        if count <= 0:
            continue
        image_id = _field(entry, "image_id", _whole, what)
        if image_id not in names:
            raise DataFileError(f"{what} belongs to image {image_id}, which the file does not name.")
        people.append((image_id, _field(entry, "bbox", _box, what), 1.0))
        points.append(np.where(visible[:, None], np.column_stack([keypoints[:, :2], visible]), 0.0))
    if not people:
        raise DataFileError(f"{path} holds no people with iscrowd 0 and num_keypoints > 0.")
    labels = np.zeros((len(people), NUM_OPENPOSE + 24, 3))
    labels[:, [NUM_OPENPOSE + joint for joint in GT24_TO_COCO17]] = np.stack(points)
    return _labels(people, names, labels)


def _detected_people(path: Path, names: dict[int, str], min_score: float) -> Labels:
    content, people, elsewhere = _read_json(path, "detections"), [], 0
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DataFileError(
            f"{path} is no list of detections: expected a list of objects {{image_id, category_id, bbox, score}}."
        )
    for number, entry in enumerate(content):
        what = f"{path}, detection {number}"
        image_id = _field(entry, "image_id", _whole, what)
        score = _field(entry, "score", _finite, what)
        if entry.get("category_id", PERSON) != PERSON or score < min_score:
            continue
        box = _field(entry, "bbox", _box, what)
        if image_id in names:
            people.append((image_id, box, score))
        else:
            elsewhere += 1
    if elsewhere:
        log.warning("%s: %d detections are of images that the annotations do not name.", path, elsewhere)
    if not people:
        raise DataFileError(
            f"{path} holds no person with a score of at least {min_score:g} in the annotated images."
        )
    return _labels(people, names, None)


def _labels(
    people: list[tuple[int, tuple[float, ...], float]], names: dict[int, str], keypoints: np.ndarray | None
) -> Labels:
    ids, boxes, scores = zip(*people, strict=True)
    centers, scales = zip(*(box_to_center_scale(box) for box in boxes), strict=True)
    return Labels(
        imgname=np.array([names[image_id] for image_id in ids], dtype=str),
        center=np.array(centers, dtype=np.float64),
        scale=np.array(scales, dtype=np.float64),
        keypoints=keypoints,
        image_id=np.array(ids, dtype=np.int64),
        score=np.array(scores, dtype=np.float64),
    )
