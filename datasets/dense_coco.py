"""People with DensePose labels of a file in COCO's form, as dense maps are scored on them (docs/method.md 11.6)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from datasets.coco_dataset import COCODataset
from datasets.labels.densepose import DenseAnnotations, DensePerson, annotation_names
from datasets.registry import PathsConfig, image_root
from utils.io import DataFileError

DenseLabels = tuple[tuple[int, DensePerson], ...]


class DenseCOCODataset(COCODataset):
    """People with DensePose labels, or the detections in their images.

    Beside what a `COCODataset` has, `labels_in(index)` gives the labelled people of a person's image, `body` names the
    body whose surface the labels lie on, and `most_people` is the largest number of annotations of one image.
    """

    def __init__(
        self,
        ann_file: str | Path,
        img_root: str | Path,
        detections: str | Path | None = None,
        **settings: Any,
    ) -> None:
        """Arguments and errors as of `COCODataset`; DataFileError also names damaged DensePose labels."""
        super().__init__(ann_file, img_root, detections, dense=True, **settings)
        people = self.truth.people
        self.body, self.is_detected = self.truth.head.body, bool(detections)
        self._annotations = DenseAnnotations([person.dense for person in people], f"{self.file}, people")
        if not self._annotations.annotated.any():
            raise DataFileError(f"{self.file} holds no DensePose labels (dp_x, dp_y, dp_I, dp_U, dp_V).")
        self._in_image: dict[int, list[int]] = defaultdict(list)
        for number, person in enumerate(people):
            self._in_image[person.image_id].append(number)
        self.most_people = max(map(len, self._in_image.values()))

    def labels_in(self, index: int) -> DenseLabels:
        """The labelled people in the image of person `index`, each with its place among the image's annotations."""
        numbers = self._in_image[int(self.labels.image_id[index])]
        return tuple(
            (place, self._annotations.person(number))
            for place, number in enumerate(numbers)
            if self._annotations.annotated[number]
        )

    def annotation_ids(self) -> list[int | None]:
        """The file's id of each person; all None with detections."""
        if self.is_detected:
            return [None] * len(self)
        return [person.id for person in self.truth.people if person.dense is not None]


def find_minival(data_dir: str | Path, paths: PathsConfig) -> tuple[Path, Path]:
    """Annotations and image folder of DensePose-COCO's validation part, under either name of the file.

    Raises FileNotFoundError with both names where neither is there.
    """
    root = image_root("coco_root", data_dir, paths)
    names = annotation_names("minival")
    for folder in (root / "annotations", root):
        for name in names:
            if (folder / name).is_file():
                return folder / name, root / "val2014"
    raise FileNotFoundError(
        f"DensePose-COCO's validation labels are not in {root / 'annotations'}: neither {' nor '.join(names)} is "
        "there. They come from DensePose (github.com/facebookresearch/detectron2, its page on data sets), images from "
        "cocodataset.org (val2014.zip); or give others by --ann_file and --img_root."
    )
