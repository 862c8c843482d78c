"""Masks of people on the grid of the network's maps, as samples carry them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.geometry import CROP_SIZE, MAP_SIZE

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8
    from torch import Tensor

NO_MASK = -1  # in all pixels of `Sample.mask`
HALF = 127  # of 255


def no_mask() -> Int[Tensor, "56 56"]:
    """The mask of a sample that has none."""
    return torch.full((MAP_SIZE, MAP_SIZE), NO_MASK)


def mask_on_grid(crop: UInt8[np.ndarray, "224 224 3"]) -> Int[Tensor, "56 56"]:
    """1 where the person covers more than half of a pixel of the map, else 0.

    crop: of a mask image, 255 on the person and 0 elsewhere, as the network sees the photograph.
    """
    block = CROP_SIZE // MAP_SIZE
    shares = crop[..., 0].reshape(MAP_SIZE, block, MAP_SIZE, block).mean(axis=(1, 3))
    return torch.from_numpy((shares > HALF).astype(np.int64))
