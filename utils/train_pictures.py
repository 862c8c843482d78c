"""Pictures of a training batch for TensorBoard (names and grids of method.md 14 and 15.14).

All are [3, H, W] in [0, 1]; `torchvision.utils.make_grid` lays them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import make_grid

from utils.iuvmap import iuv_map2img
from utils.skeleton import PART_CHANNELS
from utils.structures import DaNetOutput, Targets

if TYPE_CHECKING:
    from jaxtyping import Float

MAX_PICTURES = 8


def grid(pictures: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "3 H W"]:
    return make_grid(pictures[:MAX_PICTURES].clamp(0, 1), nrow=8, padding=1, pad_value=1)


def draw_centers(image: Float[Tensor, "3 H W"], centers: Float[Tensor, "P 2"]) -> Float[Tensor, "3 H W"]:
    """The picture with a dot at each centre given in [-1, 1]."""
    canvas = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    for x, y in ((centers + 1) / 2 * image.shape[-1]).tolist():
        cv2.circle(canvas, (round(x), round(y)), 3, (1.0, 0.2, 0.2), -1, cv2.LINE_AA)
    return torch.from_numpy(canvas).permute(2, 0, 1)


def blend(
    images: Float[Tensor, "B 3 224 224"], iuv: Float[Tensor, "B 3 56 56"]
) -> Float[Tensor, "B 3 224 224"]:
    """IUV pictures over the input, nearest-neighbour enlarged."""
    large = F.interpolate(iuv, size=images.shape[-2:], mode="nearest")
    return torch.where((large > 0).any(dim=1, keepdim=True), 0.3 * images + 0.7 * large, images)


@torch.no_grad()
def training_pictures(
    images: Float[Tensor, "B 3 224 224"], output: DaNetOutput, targets: Targets
) -> dict[str, Float[Tensor, "3 H W"]]:
    """Input pictures in [0,1], a network output and its targets -> named grids of up to 8 samples."""
    images = images[:MAX_PICTURES].float().cpu()
    output = output.map(lambda t: t[:MAX_PICTURES].detach().float().cpu())
    targets = targets.map(lambda t: t[:MAX_PICTURES].cpu())
    estimate = output.iuv
    first = estimate.part_iuv[0]  # part maps of sample 0
    parts = [
        iuv_map2img(first.u[p : p + 1], first.v[p : p + 1], first.index[p : p + 1], ind_mapping=channels)
        for p, channels in enumerate(PART_CHANNELS)
    ]
    soft = (10 * estimate.heatmaps).flatten(2).softmax(-1).view_as(estimate.heatmaps)
    soft = (soft / soft.amax(dim=(2, 3), keepdim=True)).amax(dim=1, keepdim=True)
    return {
        "pred_uv": grid(blend(images, iuv_map2img(*estimate.iuv))),
        "gt_uv": grid(blend(images, iuv_map2img(*targets.iuv))),
        "stn_centers_pred": grid(torch.stack(list(map(draw_centers, images, estimate.centers)))),
        "stn_centers_gt": grid(torch.stack(list(map(draw_centers, images, targets.centers[..., :2])))),
        "skps_hm_pred_soft": grid(soft.expand(-1, 3, -1, -1)),
        "part_uvi_pred": make_grid(torch.cat(parts).clamp(0, 1), nrow=6, padding=1, pad_value=1),
    }
