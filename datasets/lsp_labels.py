"""Label images of the LSP protocol: person mask and six parts (docs/method.md 11.2)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from datasets.base_dataset import BaseDataset
from utils.images import ImageError, read_label_image
from utils.renderer.lsp_parts import TrueParts


class LabelImages:
    """`TrueParts` of a set's people by number. Raises ImageError with the file's name."""

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset

    def __call__(self, index: int) -> TrueParts:
        labels, images = self.dataset.labels, []
        for path in (self.dataset.mask_path(index), self.dataset.part_path(index)):
            try:
                images.append(read_label_image(path))
            except ImageError as error:
                raise ImageError(f"{path}: {error}") from error
        center = labels.center[index].astype(np.float32).astype(np.float64)  # as a sample carries it
        return TrueParts(*images, center, float(labels.scale[index]))

    def with_photographs(self) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[int, int]]]:
        """Name, mask, parts and photograph's (height, width) of each person whose files can be read."""
        for index in range(len(self.dataset)):
            try:
                true, size = self(index), self.dataset.image(index).shape[:2]
            except ImageError:
                continue  # scoring names and counts it
            yield self.dataset.name_of(index), true.mask, true.parts, size
