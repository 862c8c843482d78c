"""Labelled photographs as what a fit is given: points in crops, masks on a grid, crops (used by `fit_photos.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets.labels.masks import HALF
from datasets.labels.photos import VISIBLE, PhotoLabels
from datasets.photographs import IMAGES, MASKS
from datasets.registry import check_images
from datasets.transforms import crop_image
from models.fitting.landmarks import LANDMARKS
from models.fitting.outlines import GRID, read_outline
from models.fitting.photo_fit import PhotoEvidence, Start
from models.inference.predictor import InferenceConfig, load_predictor
from utils.geometry import BOX_UNIT, CROP_SIZE, rotmat_to_rotvec
from utils.images import ImageError, image_size, network_input, read_image

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

NETWORK_BATCH = 8


@dataclass(frozen=True)
class SeenPerson:
    """The masks of a crop."""

    mask: Bool[np.ndarray, "112 112"]  # cells of the person
    photograph: Bool[np.ndarray, "112 112"]  # cells that lie in the photograph


@dataclass(frozen=True)
class LabelledPhotos:
    """Photographs in <root>/train and their masks in <root>/masks, with labels of the main person of each."""

    labels: PhotoLabels
    root: Path

    def image_name(self, row: int) -> str:
        return f"{IMAGES}/{self.labels.name[row]}"

    def mask_name(self, row: int) -> str:
        return f"{MASKS}/{Path(str(self.labels.name[row])).stem}.png"

    def require_files(self, rows: Sequence[int]) -> None:
        """Raise FileNotFoundError where photographs or masks are missing."""
        for what, name_of in (
            ("labelled photographs", self.image_name),
            ("masks of photographs", self.mask_name),
        ):
            check_images(
                self.root, map(name_of, rows), what, "the folder that was labelled; --photos_root names it"
            )

    def has_few_points(self, row: int, least: int) -> bool:
        """Whether fewer than `least` of the fitted points are visible."""
        return int((self.labels.visibility[row, list(LANDMARKS)] > VISIBLE).sum()) < least

    def crop(self, row: int, name: str) -> UInt8[np.ndarray, "224 224 3"]:
        """The person's square of the photograph or the mask.

        Raises ImageError for a file that cannot be read or has another size than the labels say.
        """
        size = tuple(int(side) for side in self.labels.size[row])
        found = image_size(self.root / name)
        if found is not None and found != size:
            raise ImageError(
                f"{name} has {found[0]} x {found[1]} px; the labels say {size[0]} x {size[1]}", found
            )
        try:
            return crop_image(read_image(self.root / name), *self.labels.box(row))
        except ValueError as error:
            raise ImageError(f"{name}: {error}") from error

    def seen(self, row: int) -> SeenPerson:
        """Raises ImageError as `crop` does, for the photograph, too."""
        self.crop(row, self.image_name(row))
        block = CROP_SIZE // GRID
        shares = (
            self.crop(row, self.mask_name(row))[..., 0].reshape(GRID, block, GRID, block).mean(axis=(1, 3))
        )
        center, scale = self.labels.box(row)
        cells = center[:, None] + ((np.arange(GRID) + 0.5) / GRID - 0.5) * (BOX_UNIT * scale)
        x, y = ((line > 0) & (line < side) for line, side in zip(cells, self.labels.size[row], strict=True))
        return SeenPerson(shares > HALF, y[:, None] & x)

    def points(self, row: int) -> Float[np.ndarray, "33 2"]:
        """BlazePose's points in the crop, -1..1."""
        center, scale = self.labels.box(row)
        return (self.labels.keypoints_2d[row] - center) / (BOX_UNIT * scale / 2)

    def evidence(self, rows: Sequence[int], people: Sequence[SeenPerson]) -> PhotoEvidence:
        """What is known of the people of these rows."""
        outlines = [read_outline(person.mask, person.photograph) for person in people]
        arrays = (
            np.stack([self.points(row) for row in rows]),
            self.labels.visibility[rows],
            self.labels.world_3d[rows],
            np.stack([outline.distance for outline in outlines]),
            np.stack([outline.points for outline in outlines]),
        )
        tensors = (torch.from_numpy(np.asarray(array, np.float32)) for array in arrays)
        return PhotoEvidence(*tensors, torch.tensor([outline.is_seen for outline in outlines]))


class NetworkStarts:
    """A network's answers as starts of fits.

    Args:
        weights: of a network that poses the open body.
    """

    def __init__(self, weights: Path):
        self._predictor = load_predictor(InferenceConfig(checkpoint=str(weights), body="open"))

    def __call__(self, crops: Sequence[UInt8[np.ndarray, "224 224 3"]]) -> Start:
        parts = [
            self._predictor.params(network_input(crops[first : first + NETWORK_BATCH]))
            for first in range(0, len(crops), NETWORK_BATCH)
        ]
        rotmat, betas = (
            torch.cat([getattr(part, name) for part in parts]).cpu() for name in ("rotmat", "betas")
        )
        return Start(rotmat_to_rotvec(rotmat).flatten(1).clone(), betas.clone())
