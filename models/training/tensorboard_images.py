"""Images of a training batch for TensorBoard (names and grids of docs/method.md 13).

All are [3,H,W] in 0..1; `torchvision.utils.make_grid` lays them out.
"""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import make_grid

from utils.geometry import FOCAL_LENGTH, cam_to_translation
from utils.iuvmap import iuv_map2img, part_maps2img
from utils.renderer import MeshRenderer
from utils.renderer.panel import to_uint8
from utils.structures import DaNetOutput, IUVEstimate, Targets

if TYPE_CHECKING:
    from jaxtyping import Float

    from models.smpl import SMPL

MAX_IMAGES = 8
DRAW_SHIFT = 4


@torch.no_grad()
def training_images(
    images: Float[Tensor, "B 3 224 224"], output: DaNetOutput, targets: Targets, smpl: SMPL
) -> dict[str, Float[Tensor, "3 H W"]]:
    """Named grids of up to 8 samples: target bodies, and what the stage predicts (IUV, bodies).

    Args:
        images: the inputs in 0..1.
        smpl: poses the predicted bodies.
    """
    images = images[:MAX_IMAGES].float().cpu()
    params = output.smpl.params[:MAX_IMAGES] if output.smpl is not None else None
    iuv, targets = (
        record and record.map(lambda t: t[:MAX_IMAGES].float().cpu()) for record in (output.iuv, targets)
    )
    renderer = MeshRenderer(smpl.faces)
    grids = {"opt_shape": body_pairs(images, targets.vertices, targets.cam, renderer)}
    if iuv is not None:
        grids |= iuv_images(images, iuv, targets)
    if params is not None:
        vertices = smpl(params.rotmat, params.betas).vertices
        grids["pred_shape"] = body_pairs(images, vertices.cpu(), params.cam.cpu(), renderer)
    return grids


def iuv_images(
    images: Float[Tensor, "B 3 224 224"], estimate: IUVEstimate, targets: Targets
) -> dict[str, Float[Tensor, "3 H W"]]:
    """Named grids of predicted IUV images beside their targets, on the CPU; without parts, no part maps."""
    soft = (10 * estimate.heatmaps).flatten(2).softmax(-1).view_as(estimate.heatmaps)
    soft = (soft / soft.amax(dim=(2, 3), keepdim=True)).amax(dim=1, keepdim=True)
    hard = estimate.heatmaps.amax(dim=1, keepdim=True).sigmoid()
    grids = {
        "pred_uv": grid(blend(images, iuv_map2img(*estimate.iuv))),
        "gt_uv": grid(blend(images, iuv_map2img(*targets.iuv))),
        "stn_centers_pred": grid(torch.stack(list(map(draw_centers, images, estimate.centers)))),
        "stn_centers_gt": grid(torch.stack(list(map(draw_centers, images, targets.centers[..., :2])))),
        "skps_hm_pred": grid(hard.expand(-1, 3, -1, -1)),
        "skps_hm_pred_soft": grid(soft.expand(-1, 3, -1, -1)),
    }
    if estimate.part_iuv is not None:
        grids["part_uvi_pred"] = grid(part_maps2img(estimate.part_iuv[0]), columns=6)
    return grids


def body_pairs(
    images: Float[Tensor, "B 3 224 224"],
    vertices: Float[Tensor, "B V 3"],
    cam: Float[Tensor, "B 3"],
    renderer: MeshRenderer,
) -> Float[Tensor, "3 H W"]:
    """Each image beside itself with the body over it, two a row."""
    pairs = []
    for image, points, camera in zip(images, vertices, cam_to_translation(cam), strict=True):
        drawn = renderer.overlay(image.permute(1, 2, 0).numpy(), points, camera, FOCAL_LENGTH)
        pairs += [image, torch.from_numpy(drawn).permute(2, 0, 1)]
    return grid(torch.stack(pairs), columns=2, padding=2)


def grid(images: Float[Tensor, "N 3 H W"], columns: int = 8, padding: int = 1) -> Float[Tensor, "3 H W"]:
    """One image of N images in 0..1, `columns` a row, with white borders of `padding` pixels."""
    return make_grid(images.clamp(0, 1), nrow=columns, padding=padding, pad_value=1)


def draw_centers(image: Float[Tensor, "3 H W"], centers: Float[Tensor, "P 2"]) -> Float[Tensor, "3 H W"]:
    """The image with a dot of its own colour at each finite centre, given in [-1, 1]."""
    drawn = np.ascontiguousarray(to_uint8(image.permute(1, 2, 0).numpy())).copy()
    pixels = ((centers + 1) / 2 * image.shape[-1]).double().numpy()
    # OpenCV counts from pixel centres, in whole numbers with DRAW_SHIFT binary places.
    fixed = (np.clip(np.nan_to_num(pixels) - 0.5, -1e4, 1e4) * 2**DRAW_SHIFT).round().astype(int).tolist()
    for number in np.flatnonzero(np.isfinite(pixels).all(axis=1)):
        color = to_uint8(np.array(colorsys.hsv_to_rgb(number / len(pixels), 0.9, 1.0))).tolist()
        cv2.circle(drawn, fixed[number], 3 << DRAW_SHIFT, color, -1, cv2.LINE_AA, DRAW_SHIFT)
    return torch.from_numpy(drawn).permute(2, 0, 1) / 255


def blend(
    images: Float[Tensor, "B 3 224 224"], iuv: Float[Tensor, "B 3 56 56"]
) -> Float[Tensor, "B 3 224 224"]:
    """IUV images over the input, nearest-neighbour enlarged."""
    large = F.interpolate(iuv, size=images.shape[-2:], mode="nearest")
    return torch.where((large > 0).any(dim=1, keepdim=True), 0.3 * images + 0.7 * large, images)
