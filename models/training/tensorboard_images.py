"""Pictures of a training batch for TensorBoard (names and grids of docs/method.md 13).

All are [3, H, W] in [0, 1]; `torchvision.utils.make_grid` lays them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import make_grid

from utils.geometry import FOCAL_LENGTH, cam_to_translation
from utils.iuvmap import iuv_map2img, part_maps2img
from utils.renderer import MeshRenderer
from utils.renderer.panel import draw_points, to_uint8
from utils.structures import DaNetOutput, IUVEstimate, Targets

if TYPE_CHECKING:
    from jaxtyping import Float

MAX_PICTURES = 8


def grid(pictures: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "3 H W"]:
    return make_grid(pictures[:MAX_PICTURES].clamp(0, 1), nrow=8, padding=1, pad_value=1)


def draw_centers(image: Float[Tensor, "3 H W"], centers: Float[Tensor, "P 2"]) -> Float[Tensor, "3 H W"]:
    """The picture with a dot at each centre given in [-1, 1]."""
    pixels = (centers + 1) / 2 * image.shape[-1]
    drawn = draw_points(to_uint8(image.permute(1, 2, 0).numpy()), pixels.numpy(), radius=3)
    return torch.from_numpy(drawn).permute(2, 0, 1) / 255


def blend(
    images: Float[Tensor, "B 3 224 224"], iuv: Float[Tensor, "B 3 56 56"]
) -> Float[Tensor, "B 3 224 224"]:
    """IUV pictures over the input, nearest-neighbour enlarged."""
    large = F.interpolate(iuv, size=images.shape[-2:], mode="nearest")
    return torch.where((large > 0).any(dim=1, keepdim=True), 0.3 * images + 0.7 * large, images)


def body_pairs(
    images: Float[Tensor, "B 3 224 224"],
    vertices: Float[Tensor, "B V 3"],
    cam: Float[Tensor, "B 3"],
    renderer: MeshRenderer,
) -> Float[Tensor, "3 H W"]:
    """Each picture beside itself with the body over it, two a row."""
    pairs = []
    for image, points, camera in zip(images, vertices, cam_to_translation(cam), strict=True):
        drawn = renderer.overlay(image.permute(1, 2, 0).numpy(), points, camera, FOCAL_LENGTH)
        pairs += [image, torch.from_numpy(drawn).permute(2, 0, 1)]
    return make_grid(torch.stack(pairs).clamp(0, 1), nrow=2, padding=2, pad_value=1)


@torch.no_grad()
def iuv_pictures(
    images: Float[Tensor, "B 3 224 224"], estimate: IUVEstimate, targets: Targets
) -> dict[str, Float[Tensor, "3 H W"]]:
    """What the IUV estimator says, beside its targets; everything on the CPU. Without parts, no part maps."""
    soft = (10 * estimate.heatmaps).flatten(2).softmax(-1).view_as(estimate.heatmaps)
    soft = (soft / soft.amax(dim=(2, 3), keepdim=True)).amax(dim=1, keepdim=True)
    hard = estimate.heatmaps.amax(dim=1, keepdim=True).sigmoid()
    parts = {}
    if estimate.part_iuv is not None:
        of_first = part_maps2img(estimate.part_iuv[0]).clamp(0, 1)
        parts["part_uvi_pred"] = make_grid(of_first, nrow=6, padding=1, pad_value=1)
    return {
        "pred_uv": grid(blend(images, iuv_map2img(*estimate.iuv))),
        "gt_uv": grid(blend(images, iuv_map2img(*targets.iuv))),
        "stn_centers_pred": grid(torch.stack(list(map(draw_centers, images, estimate.centers)))),
        "stn_centers_gt": grid(torch.stack(list(map(draw_centers, images, targets.centers[..., :2])))),
        "skps_hm_pred": grid(hard.expand(-1, 3, -1, -1)),
        "skps_hm_pred_soft": grid(soft.expand(-1, 3, -1, -1)),
        **parts,
    }


@torch.no_grad()
def training_pictures(
    images: Float[Tensor, "B 3 224 224"],
    output: DaNetOutput,
    targets: Targets,
    pred_vertices: Float[Tensor, "B V 3"] | None,
    renderer: MeshRenderer,
) -> dict[str, Float[Tensor, "3 H W"]]:
    """Named grids of up to 8 samples: target bodies, and what the stage predicts (IUV, bodies).

    images: the inputs in [0,1]; pred_vertices: None where no body is predicted.
    """
    images = images[:MAX_PICTURES].float().cpu()
    output, targets = (r.map(lambda t: t[:MAX_PICTURES].detach().float().cpu()) for r in (output, targets))
    pictures = {"opt_shape": body_pairs(images, targets.vertices, targets.cam, renderer)}
    if output.iuv:
        pictures |= iuv_pictures(images, output.iuv, targets)
    if pred_vertices is not None:
        vertices = pred_vertices[:MAX_PICTURES].detach().float().cpu()
        pictures["pred_shape"] = body_pairs(images, vertices, output.smpl.params.cam, renderer)
    return pictures
