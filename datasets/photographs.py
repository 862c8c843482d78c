"""People in photographs as people to score: masks by people, or held-out photographs with pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.coco_dataset import COCO_ROWS
from datasets.labelled_people import UNCHANGED, LabelledPeople
from datasets.labels.arrays import Labels
from datasets.labels.masks import HALF, mask_on_grid
from datasets.labels.photos import PHOTO_LABELS, read_photo_labels
from datasets.registry import check_images
from datasets.transforms import box_to_center_scale
from utils.images import ImageError, image_size, read_image
from utils.io import DataFileError
from utils.skeleton import NUM_KEYPOINTS

if TYPE_CHECKING:
    from jaxtyping import Bool

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".webp", ".bmp")  # beside PNG masks
IMAGES, MASKS = "train", "masks"  # folders of photographs with pseudo-labels


class Photographs(LabelledPeople):
    """One person in each photograph, with a mask: 255 on the person, 0 elsewhere."""

    def __init__(self, name: str, labels: Labels, root: Path, masks: Path, crop_mode: str = "warp"):
        """
        Args:
            labels: with `maskname` below `masks`; keypoints where they are labelled.
            root, masks: folders of the photographs and of the masks.

        Raises:
            FileNotFoundError: photographs or masks are missing.
            DataFileError: a mask has another size than its photograph.
        """
        super().__init__(name, labels, root, crop_mode=crop_mode)
        check_images(masks, labels.maskname, f"masks of '{name}'", "")
        self.masks = masks
        other = [index for index, size in self.sizes.items() if image_size(self.mask_path(index)) != size]
        if other:
            raise DataFileError(
                f"{len(other)} of {len(self.sizes)} masks looked at have another size than their photographs, first "
                f"{self.mask_path(other[0])}."
            )

    def mask_path(self, index: int) -> Path:
        return self.masks / str(self.labels.maskname[index])

    def true_mask(self, index: int) -> Bool[np.ndarray, "56 56"]:
        """The person's mask on the grid of the network's maps. Raises ImageError with the file's name."""
        box = self.labels.center[index], float(self.labels.scale[index])
        return mask_on_grid(self._crop(self.mask_path(index), box, UNCHANGED)).numpy() > 0


def masked_people(folder: str | Path, crop_mode: str = "warp") -> Photographs:
    """The people of a folder of photographs and PNG masks of the same names, boxed by their masks.

    Raises:
        FileNotFoundError, DataFileError: no folder, no pair of files, or a mask without a person.
        ImageError: a mask cannot be read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}' of photographs and masks.")
    photos = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    pairs = [(name, mask) for name in photos if (folder / (mask := f"{Path(name).stem}.png")).is_file()]
    if not pairs:
        raise DataFileError(
            f"{folder} holds no photograph ({', '.join(PHOTO_SUFFIXES)}) with a mask of the same name (.png) beside it."
        )
    boxes = [_box_of_mask(folder / mask) for _, mask in pairs]
    people = Photographs("masks", _labels(*zip(*pairs, strict=True), boxes), folder, folder, crop_mode)
    if without := len(photos) - len(pairs):
        people.left_out = people.left_out | {"photographs without a mask": without}
    return people


def held_out_people(root: str | Path, names: Sequence[str], crop_mode: str = "warp") -> Photographs:
    """The photographs of these names below `root`, with the labels of its `blazepose_labels.npz`.

    Raises:
        FileNotFoundError, DataFileError: files are missing or damaged, or none of the names is labelled.
    """
    root = Path(root).expanduser()
    file = root / PHOTO_LABELS
    if not file.is_file():
        raise FileNotFoundError(
            f"The labels of the photographs are not at {file}: `python -m datasets.preprocess.photos` writes them."
        )
    labels = read_photo_labels(file)
    index_of = labels.index_of()
    chosen = [index_of[name] for name in names if name in index_of]
    if not chosen:
        raise DataFileError(f"{file} labels none of the {len(names)} held-out photographs, such as {names[0]}.")
    keypoints = np.zeros((len(chosen), NUM_KEYPOINTS, 3))
    keypoints[:, COCO_ROWS] = [labels.coco_keypoints(index) for index in chosen]
    photos = [str(labels.name[index]) for index in chosen]
    masks = [f"{Path(name).stem}.png" for name in photos]
    table = _labels(photos, masks, [labels.box(index) for index in chosen], keypoints)
    return Photographs("photos", table, root / IMAGES, root / MASKS, crop_mode)


def _labels(
    photos: Sequence[str],
    masks: Sequence[str],
    boxes: Sequence[tuple[Sequence[float], float]],
    keypoints: np.ndarray | None = None,
) -> Labels:
    centers, scales = zip(*boxes, strict=True)
    return Labels(
        imgname=np.array(photos, dtype=str),
        center=np.array(centers, dtype=np.float64),
        scale=np.array(scales, dtype=np.float64),
        keypoints=keypoints,
        maskname=np.array(masks, dtype=str),
    )


def _box_of_mask(path: Path) -> tuple[tuple[float, float], float]:
    """Centre and scale of the crop around a mask's person."""
    try:
        rows, columns = np.nonzero(read_image(path)[..., 0] > HALF)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    if not len(rows):
        raise DataFileError(f"{path} shows no person: a mask is 255 on the person and 0 elsewhere.")
    x, y = int(columns.min()), int(rows.min())
    return box_to_center_scale((x, y, columns.max() + 1 - x, rows.max() + 1 - y))
