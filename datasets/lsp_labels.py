"""Label images of the LSP protocol: person mask and six parts (docs/method.md 11.2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.base_dataset import BaseDataset
from utils.images import ImageError, read_label_image
from utils.renderer.lsp_parts import TrueParts


class LabelPictures:
    """Label images of a set's people by number. Raises ImageError with the file's name."""

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset

    def __call__(self, index: int) -> TrueParts:
        labels = self.dataset.labels
        return TrueParts(
            _read(self.dataset.mask_path(index)),
            _read(self.dataset.part_path(index)),
            labels.center[index].astype(np.float32).astype(np.float64),  # as a sample carries it
            float(labels.scale[index]),
        )

    def with_photographs(self) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[int, int]]]:
        """Name, mask, parts and photograph's (height, width) of each person whose files can be read."""
        for index in range(len(self.dataset)):
            try:
                true, size = self(index), self.dataset.image(index).shape[:2]
            except ImageError:
                continue  # scoring names and counts it
            yield self.dataset.name_of(index), true.mask, true.parts, size


def _read(path: Path) -> np.ndarray:
    try:
        return read_label_image(path)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
