"""IUV maps: cleaning, images from maps and maps from images (docs/method.md 3.1 and 5.3; paper section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.skeleton import ANN_CLASSES, NUM_PARTS, PART_CHANNELS
from utils.structures import IUVMaps

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MASK_REACH = 6  # pixels of the map


def one_hot_max(scores: Float[Tensor, "*B K H W"]) -> Float[Tensor, "*B K H W"]:
    """One-hot of the first maximum over the channels; no gradient."""
    best = scores.detach().max(dim=-3, keepdim=True).indices  # several times faster than argmax here
    return torch.zeros_like(scores).scatter_(-3, best, 1.0)


def iuvmap_clean(
    u: Float[Tensor, "*B K H W"],
    v: Float[Tensor, "*B K H W"],
    index: Float[Tensor, "*B K H W"],
    ann: Float[Tensor, "*B 15 H W"] | None = None,
) -> IUVMaps:
    """Maps with U and V of the highest-scoring part only; index and ann become one-hot.

    The background channel keeps its U and V where it has the highest score. Gradient reaches U and V there, never the
    scores. Works on global maps and on part maps alike; unpacks as (u, v, index, ann).
    """
    mask = one_hot_max(index)
    return IUVMaps(mask * u, mask * v, mask, None if ann is None else one_hot_max(ann))


def iuv_map2img(
    u: Float[Tensor, "B K H W"],
    v: Float[Tensor, "B K H W"],
    index: Float[Tensor, "B K H W"],
    ann: Float[Tensor, "B 15 H W"] | None = None,
    ind_mapping: tuple[int, ...] | None = None,
) -> Float[Tensor, "B 3 H W"]:
    """Image (part/24, U, V) of the highest-scoring part; zero on background.

    Args:
        u, v, index: maps with scores in `index`.
        ann: coarse scores; everything is zero where its background class is highest.
        ind_mapping: DensePose part of each channel after the background (`skeleton.PART_CHANNELS`), for part maps.
    """
    part = channel = index.max(dim=1, keepdim=True).indices  # many times faster than argmax here
    u, v = u.gather(1, channel), v.gather(1, channel)
    if ind_mapping is not None:
        part = torch.tensor((0, *ind_mapping), device=index.device)[channel]
    visible = channel > 0
    if ann is not None:
        visible = visible & (ann.max(dim=1, keepdim=True).indices > 0)
    image = torch.cat([part.to(u.dtype) / NUM_PARTS, u, v], dim=1)
    return image * visible.to(image.dtype)


def dense_scores(maps: IUVMaps) -> Float[Tensor, "B H W 76"]:
    """Scores, U and V of the 25 channels side by side at each cell, and last whether it shows a person.

    The last number is positive where the annotation head's background is not its highest class (`iuv_map2img` shows a
    part only there), and grows with the lead; without annotation scores it is 1.
    """
    lead = torch.ones_like(maps.index[:, :1])
    if maps.ann is not None:
        lead = maps.ann[:, 1:].amax(dim=1, keepdim=True) - maps.ann[:, :1]
    return torch.cat([maps.index, maps.u, maps.v, lead], dim=1).permute(0, 2, 3, 1)


def part_maps2img(part_iuv: IUVMaps) -> Float[Tensor, "*B P 3 H W"]:
    """Images (part/24, U, V) of part maps [*B, P, 7, H, W], parts in DensePose's numbers."""
    # In the order in which the network's last convolution leaves them, several times faster than in that of the names.
    u, v, index = (maps.movedim((-4, -3), (-2, -1)) for maps in (part_iuv.u, part_iuv.v, part_iuv.index))
    channel = index.max(dim=-1, keepdim=True).indices  # [*B, H, W, P, 1]
    numbers = torch.tensor([(0, *channels) for channels in PART_CHANNELS], device=channel.device)
    part = numbers.gather(1, channel.reshape(-1, len(numbers)).T).T.reshape(channel.shape)
    image = [part.to(u.dtype) / NUM_PARTS, u.gather(-1, channel), v.gather(-1, channel)]
    image = torch.stack([values.squeeze(-1) for values in image], dim=-4) * (channel > 0).squeeze(-1).unsqueeze(-4)
    return image.movedim(-1, -4)


def iuv_img2map(image: Float[Tensor, "B 3 H W"]) -> IUVMaps:
    """One-hot maps of an image (part/24, U, V): the inverse of `iuv_map2img` on clean images."""
    part = (image[:, 0] * NUM_PARTS).round().long()  # half to even, as the 2020 code
    index = F.one_hot(part.clamp(0, NUM_PARTS), NUM_PARTS + 1).movedim(-1, 1).to(image.dtype)
    ann = torch.stack([index[:, list(parts)].sum(dim=1) for parts in ANN_CLASSES], dim=1)
    return IUVMaps(index * image[:, 1:2], index * image[:, 2:3], index, ann)


def agree_with_mask(image: Float[Tensor, "B 3 H W"], mask: Int[Tensor, "B H W"]) -> Float[Tensor, "B 3 H W"]:
    """IUV images of bodies, cut to the masks of the clothed people and grown to them (docs/method.md 7.5).

    A pixel of the mask within `MASK_REACH` of the body takes part, U and V of a nearest pixel that has them; clothes
    further away stay background.

    Args:
        image: part/24, U, V.
        mask: 1 person, 0 background; images with any other value stay as they are.
    """
    image = image.masked_fill((mask == 0)[:, None], 0.0)
    missing = (mask == 1) & (image[:, 0] == 0)
    for _ in range(MASK_REACH if bool(missing.any()) else 0):
        seen = (image[:, :1] > 0).to(image.dtype)
        found, place = F.max_pool2d(seen, 3, stride=1, padding=1, return_indices=True)
        grown = image.flatten(2).gather(2, place.flatten(2).expand(-1, 3, -1)).view_as(image)
        take = missing & (image[:, 0] == 0) & (found[:, 0] > 0)
        image = torch.where(take[:, None], grown, image)
    return image


def sample_iuv(maps: IUVMaps, points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3"]:
    """Part (0..24), U and V at points of a map, 0 on background and outside.

    All channels are interpolated before the highest part is chosen, so that borders of parts stay smooth however fine
    the points lie.

    Args:
        maps: of one person: [25,H,W], coarse scores [15,H,W] or None.
        points: x, y in [-1, 1] from the map's left (upper) to its right (lower) border.
    """
    channels = [values for values in maps if values is not None]
    grid = points.to(maps.index)[None, None]
    sampled = F.grid_sample(torch.cat(channels)[None], grid, padding_mode="border", align_corners=False)[0, :, 0]
    u, v, index, *ann = sampled.split([len(values) for values in channels])
    part = index.argmax(dim=0, keepdim=True)
    visible = (part > 0) & (points.abs() <= 1).all(dim=1).to(part.device)
    if ann:
        visible &= ann[0].argmax(dim=0, keepdim=True) > 0
    return (torch.cat([part.to(u.dtype), u.gather(0, part), v.gather(0, part)]) * visible).T
