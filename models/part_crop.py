"""Joint-centred part crops: where they are, how big, what they sample, and PartDrop; no parameters.

Paper section 3.2 and 3.4; docs/method.md 3.2 to 3.5. All 24 parts are handled at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.skeleton import PART_CHANNELS, PART_CHILD, PART_PARENT, PART_VISIBILITY
from utils.structures import IUVMaps, PartCrops

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

TEMPERATURE = 10.0
OWN_PARTS = [(parts * 2)[:4] for parts in PART_VISIBILITY]  # as many for each joint: some parts twice
HIDDEN_SCALE = 0.8  # of half the skeleton's box, for a joint that is not visible


def drop_denormals(gradient: Tensor) -> Tensor:
    """The gradient with denormal numbers set to zero: processors compute with them a hundred times more slowly.

    The sharp softmax has such gradients far from a joint; they took a twentieth of a training step.
    """
    return gradient.masked_fill(gradient.abs() < 1e-30, 0.0)


def soft_argmax(heatmaps: Float[Tensor, "B P H W"]) -> Float[Tensor, "B P 2"]:
    """Expected position of each heat-map, column / 28 - 1: from -1 to 0.964, as trained weights expect it."""
    height, width = heatmaps.shape[-2:]
    if heatmaps.requires_grad:
        heatmaps.register_hook(drop_denormals)
    weights = (TEMPERATURE * heatmaps).flatten(2).softmax(dim=-1).unflatten(-1, (height, width))
    columns = torch.arange(width, device=heatmaps.device, dtype=heatmaps.dtype)
    rows = torch.arange(height, device=heatmaps.device, dtype=heatmaps.dtype)
    x = (weights.sum(dim=2) * columns).sum(dim=-1)
    y = (weights.sum(dim=3) * rows).sum(dim=-1)
    return torch.stack([x / (width / 2) - 1, y / (height / 2) - 1], dim=-1)


def hidden_joints(
    centers: Float[Tensor, "B P 2"], index: Float[Tensor, "B K H W"], threshold: float
) -> Bool[Tensor, "B P"]:
    """Joints around whose centre none of their own parts scores at least `threshold`; none for threshold 0."""
    if threshold == 0:
        return torch.zeros(centers.shape[:2], dtype=torch.bool, device=centers.device)
    presence = index[:, OWN_PARTS].amax(dim=2)  # [B,P,H,W]
    score = F.grid_sample(
        presence.flatten(0, 1)[:, None], centers.reshape(-1, 1, 1, 2), mode="bilinear", align_corners=True
    )
    return score.view(centers.shape[:2]) < threshold


def part_crops(
    centers: Float[Tensor, "B P 2"],
    hidden: Bool[Tensor, "B P"],
    ratio: Float[Tensor, "P"],
    offset: Float[Tensor, "P"],
    jitter: float = 0.0,
) -> PartCrops:
    """Square crops from the distances to neighbouring joints (detached), the learned ratio and offset.

    A hidden joint takes 0.8 of half the skeleton's box. `jitter` multiplies the size by 1 +- jitter/2 twice, before
    and after that replacement, as the published statistics have it.
    """
    centers = centers.detach()
    extent = (centers.amax(dim=1) - centers.amin(dim=1)).amax(dim=-1) / 2  # [B]
    to_child = (centers[:, list(PART_CHILD)] - centers).norm(dim=-1)
    to_parent = (centers[:, list(PART_PARENT)] - centers).norm(dim=-1)
    scales = torch.maximum(to_child, to_parent)
    scales = torch.cat([extent[:, None], scales[:, 1:]], dim=1)
    scales = scales * ratio.relu() + offset.relu()
    scales = _jittered(scales, jitter)
    replace = hidden.clone()
    replace[:, 0] = False  # the root's crop is the whole skeleton already
    scales = torch.where(replace, HIDDEN_SCALE * extent[:, None], scales)
    return PartCrops(centers, _jittered(scales, jitter))


def _jittered(scales: Tensor, amount: float) -> Tensor:
    return scales * (1 + amount * (torch.rand_like(scales) - 0.5)) if amount else scales


def sample_crops(
    features: Float[Tensor, "B C H W"], crops: PartCrops, stride: int = 1
) -> Float[Tensor, "B P*C H/stride W/stride"]:
    """Features of the 24 crops, joint-major on the channels; one sampling call for all parts.

    Bilinear, zeros outside, align-corners. Gradient reaches the features only.
    """
    batch, channels, height, width = features.shape
    height, width = height // stride, width // stride
    parts = crops.scales.shape[1]
    theta = crops.theta.detach().flatten(0, 1)
    grid = F.affine_grid(theta, [batch * parts, 1, height, width], align_corners=True)
    tall = grid.view(batch, parts * height, width, 2)
    sampled = F.grid_sample(features, tall, mode="bilinear", align_corners=True)  # [B, C, P*H, W]
    sampled = sampled.view(batch, channels, parts, height, width).permute(0, 3, 4, 2, 1)
    # Channels last, as the convolution behind wants it: forward and backward then copy once instead of twice.
    return sampled.reshape(batch, height, width, parts * channels).permute(0, 3, 1, 2)


def part_targets(iuv: IUVMaps, crops: PartCrops, stride: int = 1) -> IUVMaps:
    """Global target maps seen through the crops: [B,P,7,H/stride,W/stride], soft at part borders (docs/method.md 5.4).

    Gradient reaches crops whose sizes are learned.
    """
    batch, _, height, width = iuv.index.shape
    channels = torch.tensor(PART_CHANNELS, device=iuv.index.device)  # [P, 6]
    u, v, index = (m[:, channels] for m in (iuv.u, iuv.v, iuv.index))  # [B, P, 6, H, W]
    none = torch.zeros_like(u[:, :, :1])
    background = (index.sum(dim=2, keepdim=True) < 0.5).to(index.dtype)
    stacked = torch.cat([none, u, none, v, background, index], dim=2)  # [B, P, 21, H, W]
    grid = F.affine_grid(
        crops.theta.flatten(0, 1),
        [batch * crops.scales.shape[1], 1, height // stride, width // stride],
        align_corners=True,
    )
    warped = F.grid_sample(stacked.flatten(0, 1), grid, mode="bilinear", align_corners=True)
    u, v, index = warped.unflatten(0, stacked.shape[:2]).split(7, dim=2)
    return IUVMaps(u, v, index)


def part_drop(iuv: IUVMaps, part_iuv: IUVMaps | None, rate: float) -> tuple[IUVMaps, IUVMaps | None]:
    """PartDrop (paper section 3.4): zero the raw maps of randomly drawn DensePose parts, global and partial alike.

    One draw a sample and part; dropped scores become 0, which may still be the highest.
    """
    keep = (torch.rand(iuv.index.shape[0], 24, device=iuv.index.device) >= rate).to(iuv.index.dtype)
    keep = torch.cat([torch.ones_like(keep[:, :1]), keep], dim=1)  # [B, 25], background stays
    whole = keep[:, :, None, None]
    masked = IUVMaps(iuv.u * whole, iuv.v * whole, iuv.index * whole, iuv.ann)
    if part_iuv is None:
        return masked, None
    local = torch.tensor(PART_CHANNELS, device=keep.device)
    local = torch.cat([torch.zeros_like(local[:, :1]), local], dim=1)  # [P, 7]
    parts = keep[:, local][..., None, None]  # [B, P, 7, 1, 1]
    return masked, IUVMaps(part_iuv.u * parts, part_iuv.v * parts, part_iuv.index * parts)
