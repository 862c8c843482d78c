"""Images as the networks take them: RGB bytes to normalised tensors and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB values in 0..1
STD = (0.229, 0.224, 0.225)


def to_tensor(image: UInt8[np.ndarray, "*B H W 3"]) -> Float[Tensor, "*B 3 H W"]:
    """RGB bytes as float32 in 0..1, channels first."""
    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3).to(torch.float32) / 255.0


def normalize(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """RGB in 0..1 with zero mean and unit variance of ImageNet, as the networks were trained."""
    mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (image - mean) / std


def normalize_bytes(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "3 H W"]:
    """`to_tensor` and `normalize` in two passes over float32, for data workers."""
    mean, std = np.float32(MEAN), np.float32(STD)
    out = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    out *= (1 / (255 * std))[:, None, None]
    out -= (mean / std)[:, None, None]
    return out


def denormalize(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """Inverse of `normalize`."""
    mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return image * std + mean


def to_bytes(image: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A normalised image back as RGB bytes."""
    return (denormalize(image).clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()


def network_input(
    crops: Sequence[UInt8[np.ndarray, "224 224 3"]], normalise: bool = True
) -> Float[Tensor, "B 3 224 224"]:
    """RGB crops as a batch for the network; without `normalise`, in 0..1."""
    batch = to_tensor(np.stack(crops))
    return normalize(batch) if normalise else batch
