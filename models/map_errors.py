"""Rendered maps with errors like an estimator's, on which the regressor learns without images (docs/method.md 7.1).

Estimated maps have ragged and shifted borders, sides of limbs taken for each other, holes, limbs of other people, and
coordinates that drift over a part. A regressor that has seen perfect maps only fails on them (proxy representations
with errors: Sengupta et al., BMVC 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.iuvmap import iuv_img2map, iuv_map2img
from utils.skeleton import NUM_PARTS
from utils.structures import IUVMaps

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SHIFT = 1.5  # cells by which borders move, standard deviation at most
SIDES_RATE = 0.1  # chance that left and right legs, and left and right arms, change places
HOLE_RATE, HOLE_SIZE = 0.4, (2.0, 9.0)  # chance of a hole; its half axes in cells
OTHER_RATE, OTHER_SHIFT = 0.2, 28  # chance of another person behind; by how many cells that one is moved at most
DRIFT = 0.12  # of U and V, standard deviation at most
CENTER_NOISE = 0.03  # of a joint centre, standard deviation in units of half the crop's side
LOST_RATE, LOST_NOISE = 0.04, 0.25  # chance that a joint is found elsewhere; how far from its place

ARMS, LEGS = (3, *range(15, 22, 2)), (5, *range(7, 14, 2))  # parts of one side; the other side's numbers follow theirs


def with_errors(
    iuv: IUVMaps, centers: Float[Tensor, "B 24 2"], rate: float = 1.0
) -> tuple[IUVMaps, Float[Tensor, "B 24 2"]]:
    """One-hot maps and joint centres as an estimator that errs would give them; other errors for each sample.

    Args:
        iuv: rendered maps [B,25,H,W].
        centers: in [-1,1].
        rate: chance that a sample has any.
    """
    perfect = iuv_map2img(iuv.u, iuv.v, iuv.index)
    image = _with_holes(_warped(_with_swapped_sides(_with_other_people(perfect))))
    noise = _smooth_noise(image, 2, 7) + 0.3 * torch.randn_like(image[:, 1:])
    coordinates = (image[:, 1:] + DRIFT * _amount(image) * noise).clamp(0, 1) * (image[:, :1] > 0)
    err = _drawn(image, rate)
    image = torch.where(err, torch.cat([image[:, :1], coordinates], dim=1), perfect)
    return iuv_img2map(image), torch.where(err[..., 0], _moved(centers), centers)


def _amount(like: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 1 1"]:
    """A number from 0 to 1 for each sample: some samples err much, some hardly."""
    return torch.rand(len(like), 1, 1, 1, device=like.device, dtype=like.dtype)


def _drawn(like: Float[Tensor, "B C H W"], rate: float) -> Bool[Tensor, "B 1 1 1"]:
    return _amount(like) < rate


def _smooth_noise(like: Float[Tensor, "B C H W"], channels: int, cells: int) -> Float[Tensor, "B channels H W"]:
    """Normal noise that changes slowly over the map."""
    coarse = torch.randn(len(like), channels, cells, cells, device=like.device, dtype=like.dtype)
    return F.interpolate(coarse, size=like.shape[-2:], mode="bicubic", align_corners=True)


def _with_other_people(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Another person of the batch, moved aside, where this one is not."""
    shifts = torch.randint(-OTHER_SHIFT, OTHER_SHIFT + 1, (2,)).tolist()
    other = image.roll(1, dims=0)
    for dim, shift in zip((2, 3), shifts, strict=True):
        other = other.roll(shift, dims=dim)
    behind = (image[:, :1] == 0) & _drawn(image, OTHER_RATE)
    return torch.where(behind, other, image)


def _with_swapped_sides(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    part = (image[:, :1] * NUM_PARTS).round().long()
    for limbs in (ARMS, LEGS):
        mirror = torch.arange(NUM_PARTS + 1, device=image.device)
        for one in limbs:
            mirror[one], mirror[one + 1] = one + 1, one
        part = torch.where(_drawn(image, SIDES_RATE), mirror[part], part)
    return torch.cat([part.to(image.dtype) / NUM_PARTS, image[:, 1:]], dim=1)


def _warped(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Borders moved by smooth and by ragged noise."""
    height, width = image.shape[-2:]
    identity = torch.eye(2, 3, device=image.device, dtype=image.dtype).expand(len(image), 2, 3)
    grid = F.affine_grid(identity, list(image.shape), align_corners=False)
    noise = _smooth_noise(image, 2, 7) + _smooth_noise(image, 2, height // 2)
    cells = (SHIFT * _amount(image) * noise).movedim(1, -1)
    size = torch.tensor([width, height], device=image.device, dtype=image.dtype)
    return F.grid_sample(image, grid + 2 * cells / size, mode="nearest", align_corners=False)


def _with_holes(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Background in an ellipse about a place that may lie on the person."""
    height, width = image.shape[-2:]
    y = torch.arange(height, device=image.device, dtype=image.dtype)[:, None] - height * _amount(image)
    x = torch.arange(width, device=image.device, dtype=image.dtype) - width * _amount(image)
    low, high = HOLE_SIZE
    axes = [low + (high - low) * _amount(image) for _ in range(2)]
    hole = ((y / axes[0]) ** 2 + (x / axes[1]) ** 2 < 1) & _drawn(image, HOLE_RATE)
    return image.masked_fill(hole, 0.0)


def _moved(centers: Float[Tensor, "B 24 2"]) -> Float[Tensor, "B 24 2"]:
    lost = torch.rand_like(centers[..., :1]) < LOST_RATE
    return centers + torch.randn_like(centers) * torch.where(lost, LOST_NOISE, CENTER_NOISE)
