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
            DataFileError: no mask can be used, for its size is not that of its photograph; a single one is named when
                it is read.
        """
        super().__init__(name, labels, root, crop_mode=crop_mode)
        check_images(masks, labels.maskname, f"masks of '{name}'", "")
        self.masks = masks
        if self.sizes and all(image_size(self.mask_path(index)) != size for index, size in self.sizes.items()):
            raise DataFileError(
                f"None of the {len(self.sizes)} masks looked at has the size of its photograph, first "
                f"{self.mask_path(next(iter(self.sizes)))}."
            )

    def mask_path(self, index: int) -> Path:
        return self.masks / str(self.labels.maskname[index])

    def true_mask(self, index: int) -> Bool[np.ndarray, "56 56"]:
        """The person's mask on the grid of the network's maps.

        Raises:
            ImageError: with the file's name: the mask cannot be read, has another size than its photograph, or shows
                no person.
        """
        path, box = self.mask_path(index), (self.labels.center[index], float(self.labels.scale[index]))
        size, expected = image_size(path), image_size(self.image_path(index))
        if size and expected and size != expected:
            raise ImageError(f"{path}: the mask has {size[0]} x {size[1]} pixels, its photograph "
                             f"{expected[0]} x {expected[1]}.")  # fmt: skip
        mask = mask_on_grid(self._crop(path, box, UNCHANGED)).numpy() > 0
        if not mask.any():
            raise ImageError(f"{path}: the mask shows no person; it is 255 on the person and 0 elsewhere.")
        return mask


def masked_people(folder: str | Path, crop_mode: str = "warp") -> Photographs:
    """The people of a folder of photographs and PNG masks of the same names, boxed by their masks.

    Raises:
        FileNotFoundError, DataFileError: no folder, or no pair of files.
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
    boxes = [_box_of_mask(folder / photo, folder / mask) for photo, mask in pairs]
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


def _box_of_mask(photo: Path, mask: Path) -> tuple[tuple[float, float], float]:
    """Centre and scale of the crop around a mask's person; of the whole photograph where the mask cannot be used."""
    size = image_size(photo) or (1, 1)
    try:
        person = read_image(mask)[..., 0] > HALF
    except ImageError:  # `true_mask` names it
        person = np.zeros(size[::-1], bool)
    if person.shape != size[::-1] or not person.any():
        return box_to_center_scale((0, 0, *size))
    rows, columns = np.nonzero(person)
    x, y = int(columns.min()), int(rows.min())
    return box_to_center_scale((x, y, columns.max() + 1 - x, rows.max() + 1 - y))
