"""People of a labelled image set as samples: crops with their labels, for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from datasets.augment import (
    AugmentConfig,
    AugmentValues,
    change_colors,
    change_joints_3d,
    change_pose,
    draw_augmentation,
    draw_bystander,
    flip_keypoints,
    keypoints_to_crop,
)
from datasets.labels.arrays import Labels
from datasets.labels.check import check_labels, sizes_of_some
from datasets.labels.densepose import dense_labels, load_symmetry, mirror_box, mirror_person, no_dense_labels
from datasets.labels.masks import mask_on_grid, no_mask
from datasets.legacy_crop import crop_box, crop_legacy
from datasets.registry import check_images
from datasets.transforms import crop_image
from utils.body import DATA_DIR
from utils.geometry import BOX_UNIT, CROP_MODES
from utils.images import ImageError, normalize, read_image, to_tensor
from utils.skeleton import JOINT49_FLIP, SMPL_FLIP
from utils.structures import DensePosePoints, Sample

UNCHANGED = AugmentValues()


class LabelledPeople(Dataset):
    """People with labels in images below one folder; what `BaseDataset` and `COCODataset` share."""

    dense_only = False  # see `DatasetSpec`
    trains_masks = False  # whether samples carry the person's mask

    def __init__(
        self,
        name: str,
        labels: Labels,
        root: Path,
        *,
        crop_mode: str = "warp",
        is_train: bool = False,
        augmentation: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
        seed: int = 0,
        data_dir: str | Path = DATA_DIR,
        source: str = "",
        labels_from: str = "",
    ) -> None:
        """
        Args:
            crop_mode: "warp" for anti-aliased crops and exact keypoints, "legacy" for the images, truncated keypoints
                and dense boxes of 2020, bit for bit.
            source: half a sentence on where the images come from.
            labels_from: the labels' file, for sentences. `suspicions` then says what may be wrong in the labels.

        Raises:
            ValueError: settings are out of range.
            FileNotFoundError: images are missing.
            DataFileError: the labels cannot belong to the images.
        """
        if crop_mode not in CROP_MODES:
            raise ValueError(f"crop_mode is '{crop_mode}'; choose one of {', '.join(CROP_MODES)}.")
        if seed < 0:
            raise ValueError(f"The seed is {seed} but must not be negative.")
        self.name, self.labels, self.root, self.crop_mode = name, labels, Path(root), crop_mode
        self.is_train, self.augmentation, self.seed = is_train, augmentation, seed
        self.data_dir = Path(data_dir)
        self.unused: dict[str, int] = {}  # labels of the file that are passed over, and why: how many
        self._symmetry = load_symmetry(data_dir) if is_train and labels.dense is not None else None
        check_images(self.root, labels.imgname, f"images of '{name}'", source)
        self.left_out = labels.left_out  # what of the file is not used, by reason
        self.sizes = sizes_of_some(self.image_path, len(labels))  # of some images, by person
        self.suspicions = check_labels(labels, self.sizes, labels_from or f"labels of '{name}'")

    def __len__(self) -> int:
        return len(self.labels)

    def pass_over_bodies(self, reason: str) -> None:
        """Do not use the labels of pose and shape; `unused` counts them under the reason."""
        known = 0 if self.labels.has_smpl is None else int(self.labels.has_smpl.sum())
        if known:
            self.unused[f"pose and shape ({reason})"] = known
        self.labels = replace(self.labels, has_smpl=None)

    def name_of(self, index: int) -> str:
        """Name of a person's image as the label file has it."""
        return str(self.labels.imgname[index])

    def image_path(self, index: int) -> Path:
        return self.root / self.name_of(index)

    def image(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3]. Raises ImageError with the file's name."""
        path = self.image_path(index)
        try:
            return read_image(path)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error

    def has_dense(self, index: int) -> bool:
        """Whether a person has DensePose annotations."""
        return self.labels.dense is not None and bool(self.labels.dense.annotated[index])

    def draw(self, rng: np.random.Generator, index: int) -> AugmentValues:
        """Random changes: none outside training, no rotation of dense labels, nothing before people without a mask."""
        if not self.is_train:
            return UNCHANGED
        values = draw_augmentation(rng, self.augmentation)
        if not self._has_mask(index):
            values = replace(values, occluder=None)
        elif self.augmentation.crowd_rate and rng.uniform() < self.augmentation.crowd_rate:
            bystander = draw_bystander(rng, len(self))
            if self._has_mask(bystander.index):
                values = replace(values, bystander=bystander)
        return replace(values, rotation_deg=0.0) if self.has_dense(index) else values

    def __getitem__(self, index: int) -> Sample:
        """A person under random changes, those of the first epoch; a mix draws others in each epoch."""
        index = self._checked(index)
        return self.sample(index, self.draw(np.random.default_rng((self.seed, 0, index)), index))

    def sample(self, index: int, values: AugmentValues = UNCHANGED) -> Sample:
        """A person under given changes. Densely labelled people are never rotated: `rotation_deg` is then 0.

        Raises:
            ImageError: the image cannot be read, or the person's box does not touch it.
            IndexError: outside the set.
        """
        index = self._checked(index)
        if get_worker_info() is not None:
            cv2.setNumThreads(1)
        if self.has_dense(index):
            values = replace(values, rotation_deg=0.0)
        labels = self.labels
        box = values.square(labels.center[index], float(labels.scale[index]))
        has_smpl = labels.has_smpl is not None and bool(labels.has_smpl[index])
        smpl_keypoints = self._keypoints(labels.smpl_keypoints, SMPL_FLIP, index, box, values)
        smpl_keypoints[smpl_keypoints[:, 2] == 0] = 0
        image, mask = self._image_and_mask(index, box, values)
        return Sample(
            image=image,
            rotvec=_tensor(self._rotvec(index, has_smpl, values)),
            betas=_tensor(labels.betas[index] if has_smpl else np.zeros(10)),
            keypoints=_tensor(self._keypoints(labels.keypoints, JOINT49_FLIP, index, box, values)),
            joints_3d=_tensor(self._joints_3d(index, values)),
            smpl_keypoints=_tensor(smpl_keypoints),
            dense=self._dense(index, box, values),
            has_smpl=torch.tensor(has_smpl),
            has_dense=torch.tensor(self.has_dense(index)),
            has_joints_3d=torch.tensor(labels.joints_3d is not None),
            is_flipped=torch.tensor(values.flip),
            rotation_deg=torch.tensor(values.rotation_deg, dtype=torch.float32),
            center=_tensor(box[0]),
            scale=torch.tensor(box[1], dtype=torch.float32),
            gender=torch.tensor(-1 if labels.gender is None else int(labels.gender[index])),
            index=torch.tensor(index),
            dense_only=torch.tensor(self.dense_only),
            mask=mask,
            dataset=self.name,
            name=self.name_of(index),
        )

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Person {index} was asked for, '{self.name}' holds 0..{len(self) - 1}.")
        return int(index) % len(self)

    def _image_and_mask(
        self, index: int, box: tuple[np.ndarray, float], values: AugmentValues
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The normalised crop and the person's mask on the map's grid, behind what is drawn before the person."""
        crop = change_colors(self._crop(self.image_path(index), box, values), values.noise)
        if not self._has_mask(index):
            return normalize(to_tensor(crop)), no_mask()
        mask = self._crop(self.mask_path(index), box, values)
        if other := values.bystander:
            square = other.square(self.labels.center[other.index], float(self.labels.scale[other.index]))
            paths = self.image_path(other.index), self.mask_path(other.index)
            crop, mask = other.cover(crop, mask, *(self._crop(path, square, UNCHANGED) for path in paths))
        if values.occluder:
            crop, mask = values.occluder.cover(crop), values.occluder.hide(mask)
        return normalize(to_tensor(crop)), mask_on_grid(mask)

    def _has_mask(self, index: int) -> bool:
        return self.trains_masks and bool(self.labels.maskname[index])

    def _crop(self, path: Path, box: tuple[np.ndarray, float], values: AugmentValues) -> np.ndarray:
        crop_with = crop_legacy if self.crop_mode == "legacy" else crop_image
        try:
            crop = crop_with(read_image(path), *box, values.rotation_deg)
        except ValueError as error:  # an `ImageError`, too
            raise ImageError(f"{path}: {error}") from error
        return crop[:, ::-1] if values.flip else crop

    def _rotvec(self, index: int, has_smpl: bool, values: AugmentValues) -> np.ndarray:
        if not has_smpl and self.crop_mode != "legacy":
            return np.zeros(72)
        rotvec = self.labels.rotvec[index] if has_smpl else np.zeros(72)  # 2020 turned these zeros, too
        return change_pose(rotvec, values.rotation_deg, values.flip)

    def _keypoints(
        self,
        keypoints: np.ndarray | None,
        partners: Sequence[int],
        index: int,
        box: tuple[np.ndarray, float],
        values: AugmentValues,
    ) -> np.ndarray:
        """x, y in -1..1 of the crop and confidence of a person's keypoints of one kind, mirrored with `partners`."""
        given = np.zeros((len(partners), 3)) if keypoints is None else keypoints[index]
        points = keypoints_to_crop(given, *box, values.rotation_deg, self.crop_mode)
        return flip_keypoints(points, partners) if values.flip else points

    def _joints_3d(self, index: int, values: AugmentValues) -> np.ndarray:
        if self.labels.joints_3d is None:
            return np.zeros((24, 4))
        return change_joints_3d(self.labels.joints_3d[index], values.rotation_deg, values.flip)

    def _dense(self, index: int, box: tuple[np.ndarray, float], values: AugmentValues) -> DensePosePoints:
        if not self.has_dense(index):
            return no_dense_labels()
        center, half = box[0], BOX_UNIT * box[1] / 2
        legacy = self.crop_mode == "legacy"
        square = crop_box(*box) if legacy else np.concatenate([center - half, center + half])
        person = self.labels.dense.person(index)
        if values.flip:
            if self._symmetry is None:
                self._symmetry = load_symmetry(self.data_dir)
            person = mirror_person(person, self._symmetry)
            if not legacy:  # 2020 left the box where it was: wrong unless it is in the middle of the crop
                person = replace(person, box=mirror_box(person.box, square))
        return dense_labels(person, square)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values).astype(np.float32))
