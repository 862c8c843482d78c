"""People of COCO keypoint annotations as samples, boxed by the annotations or by a detector (docs/method.md 11.3)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.base_dataset import BaseDataset
from datasets.labelled_people import LabelledPeople
from datasets.labels import values
from datasets.labels.arrays import Labels
from datasets.labels.check import check_corners
from datasets.labels.coco import CocoFile, CocoHead, is_person, read_coco_file
from datasets.registry import PathsConfig
from datasets.transforms import box_to_center_scale
from utils.body import DATA_DIR
from utils.io import DataFileError, load_json
from utils.skeleton import GT24_TO_COCO17, NUM_KEYPOINTS, NUM_OPENPOSE

if TYPE_CHECKING:
    from jaxtyping import Float

Person = tuple[int, values.Box, float]  # image id, box, score

COCO_ROWS = [NUM_OPENPOSE + joint for joint in GT24_TO_COCO17]  # of COCO's keypoints among a body's
RULE = "boxes of the annotations with iscrowd 0 and num_keypoints > 0, widened by 1.2"
DENSE_RULE = "boxes of the annotations with DensePose labels, widened by 1.2"
DETECTED = "boxes of the detections with a score of at least {score:g}, widened by 1.2"
EXTRAS_RULE = "boxes of coco_2014_val.npz as stored"


class COCODataset(LabelledPeople):
    """People of an annotation file in COCO's form, in the order of the file.

    labels.image_id, labels.score and `boxes` [N, 4] (x, y, width, height) belong to each person; `image_ids` are those
    of all images of the file, with people or without; `rule` says in words where the boxes come from; `truth` is the
    file as read; `left_out` counts its entries, or those of the detections, that are not used, by reason.
    """

    def __init__(
        self,
        ann_file: str | Path,
        img_root: str | Path,
        detections: str | Path | None = None,
        *,
        crop_mode: str = "warp",
        min_score: float = 0.0,
        dense: bool = False,
    ) -> None:
        """
        Args:
            detections: a list of {image_id, category_id, bbox, score}; its boxes replace the annotated ones.
            min_score: detections below are left out.
            dense: people with DensePose labels count, not those with keypoints.

        Raises:
            FileNotFoundError: files or images are missing.
            DataFileError: a file is not in COCO's form.
        """
        self.file = Path(ann_file)
        self.truth = read_coco_file(self.file)
        names, keypoints = self.truth.head.names, None
        if detections:
            self.rule = DETECTED.format(score=min_score)
            people, left_out = _detected_people(Path(detections), self.truth.head, min_score)
        else:
            self.rule = DENSE_RULE if dense else RULE
            people, keypoints, left_out = _annotated_people(self.truth, dense)
        ids, boxes, scores = zip(*people, strict=True)
        self.boxes = np.array(boxes, dtype=np.float64)
        centers, scales = zip(*map(box_to_center_scale, boxes), strict=True)
        labels = Labels(
            imgname=np.array([names[image_id] for image_id in ids], dtype=str),
            center=np.array(centers, dtype=np.float64),
            scale=np.array(scales, dtype=np.float64),
            keypoints=keypoints,
            image_id=np.array(ids, dtype=np.int64),
            score=np.array(scores, dtype=np.float64),
        )
        self.image_ids, boxes_from = list(names), str(detections or ann_file)
        origin = {"source": "cocodataset.org", "labels_from": boxes_from}
        super().__init__("coco", labels, Path(img_root), crop_mode=crop_mode, **origin)
        self.left_out = +left_out  # without zeros
        self.suspicions += self.truth.suspicions
        self.suspicions += self._check_sizes(boxes, boxes_from)

    def _check_sizes(self, boxes: Sequence[values.Box], source: str) -> list[str]:
        """Warnings about the form of the boxes, and about images of another size than the file says."""
        listed, ids = self.truth.head.sizes, self.labels.image_id.tolist()
        read = {ids[index]: size for index, size in self.sizes.items()}
        found = check_corners(boxes, ids, read | listed, source)
        other = [image_id for image_id, size in read.items() if listed.get(image_id, size) != size]
        if other:
            (width, height), (w, h) = listed[other[0]], read[other[0]]
            found.append(
                f"{self.file}: {len(other)} of {len(read)} images looked at have another size than it says, first "
                f"'{self.truth.head.names[other[0]]}': {w} x {h} px, not {width} x {height}."
            )
        return found

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
        raise DataFileError(f"{file}: the image name '{name}' does not end in an image id.")
    return int(digits.group(1)[-12:])


def _annotated_people(
    truth: CocoFile, dense: bool
) -> tuple[list[Person], Float[np.ndarray, "N 49 3"], Counter[str]]:
    """Image id, box and score 1 of the people that count, their keypoints, and counts of the others by reason."""
    people = [p for p in truth.people if (p.dense is not None if dense else p.is_counted)]
    crowds = 0 if dense else sum(person.is_crowd for person in truth.people)
    left_out = Counter(truth.left_out)
    left_out["that are crowds"] = crowds
    missing = "without DensePose labels" if dense else "without a labelled keypoint"
    left_out[missing] = len(truth.people) - crowds - len(people)
    if not people:
        reasons = values.counted((+left_out).items()) or "it has no annotations"
        wanted = "people with DensePose labels" if dense else "people with iscrowd 0 and num_keypoints > 0"
        raise DataFileError(f"{truth.head.path} holds no {wanted} ({reasons}).")
    keypoints = np.zeros((len(people), NUM_KEYPOINTS, 3))
    for row, person in zip(keypoints, people, strict=True):
        visible = person.keypoints[:, 2:] > 0
        row[COCO_ROWS] = np.where(visible, np.hstack([person.keypoints[:, :2], visible]), 0.0)
    return [(person.image_id, person.box, 1.0) for person in people], keypoints, left_out


def _detected_people(path: Path, head: CocoHead, min_score: float) -> tuple[list[Person], Counter[str]]:
    """Image id, box and score of the detections in use; counts of the others by reason."""
    content = load_json(path)
    people: list[Person] = []
    left_out: Counter[str] = Counter()
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DataFileError(
            f"{path} is no list of detections: expected a list of objects {{image_id, category_id, bbox, score}}."
        )
    for number, entry in enumerate(content):
        what = f"{path}, detection {number}"
        image_id = values.field(entry, "image_id", values.integer, what)
        score = values.field(entry, "score", values.number, what)
        box = values.field(entry, "bbox", values.box, what)
        if entry.get("category_id") is not None and not is_person(entry, head, what):
            left_out["of a category other than person"] += 1
        elif score < min_score:
            left_out[f"with a score below {min_score:g}"] += 1
        elif image_id not in head.names:
            left_out["of images that the annotations do not name"] += 1
        else:
            people.append((image_id, box, score))
    if not people:
        given = f"of its {len(content):,}: {values.counted(left_out.items())}" if content else "it is empty"
        raise DataFileError(
            f"{path} holds no person with a score of at least {min_score:g} in the annotated images ({given})."
        )
    return people, left_out
