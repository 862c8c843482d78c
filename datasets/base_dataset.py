"""A data set of the registry as training or evaluation people, with everything it needs checked at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datasets.augment import AugmentConfig
from datasets.labelled_people import LabelledPeople
from datasets.labels.arrays import read_label_file
from datasets.registry import PathsConfig, check_label_images, find_label_file, find_spec, image_root
from utils.body import DATA_DIR


class BaseDataset(LabelledPeople):
    """A data set of `datasets.registry.SPECS`, with everything it needs checked at once."""

    def __init__(
        self,
        name: str,
        data_dir: str | Path = DATA_DIR,
        paths: PathsConfig = PathsConfig(),  # noqa: B008 (frozen)
        *,
        is_train: bool = True,
        crop_mode: str = "warp",
        ignore_3d: bool = False,
        augmentation: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
        seed: int = 0,
    ) -> None:
        """
        Args:
            ignore_3d: pass over pose, shape and 3D joints.

        Raises:
            FileNotFoundError, DataFileError, ValueError: what is missing or wrong, where it was expected, and where
                it comes from.
        """
        spec = find_spec(name)
        self.dense_only = spec.dense_only
        self.file = find_label_file(spec, data_dir, is_train)
        labels = read_label_file(self.file, spec.fields(is_train))
        self.trains_masks = is_train and "maskname" in spec.train_fields
        self.label_root = image_root(spec.label_root or spec.root, data_dir, paths)
        for field in {"maskname", "partname"} & set(spec.fields(is_train)):
            check_label_images(spec, field, getattr(labels, field), self.label_root)
        super().__init__(
            name, labels, image_root(spec.root, data_dir, paths), crop_mode=crop_mode, is_train=is_train,
            augmentation=augmentation, seed=seed, data_dir=data_dir, labels_from=str(self.file),
            source=f"{spec.images}; --{spec.root} names another folder",
        )  # fmt: skip
        if ignore_3d:
            self.pass_over_bodies("--ignore_3d")
            if labels.joints_3d is not None:
                self.unused["3D joints (--ignore_3d)"] = len(labels)
                self.labels = replace(self.labels, joints_3d=None)

    def mask_path(self, index: int) -> Path:
        """Image of a person's mask. Raises ValueError for a set without masks."""
        return self._label_path("maskname", index)

    def part_path(self, index: int) -> Path:
        """Image of a person's parts. Raises ValueError for a set without parts."""
        return self._label_path("partname", index)

    def _label_path(self, field: str, index: int) -> Path:
        names = getattr(self.labels, field)
        if names is None:
            raise ValueError(f"The data set '{self.name}' has no {field}.")
        return self.label_root / str(names[index])
