"""Images for people to look at: the demo's result panel (docs/method.md 12.1), part colours."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.geometry import CROP_SIZE, FOCAL_LENGTH, MAP_SIZE, cam_to_translation
from utils.renderer.iuv import IUV_Renderer
from utils.renderer.mesh import MeshRenderer, to_array
from utils.skeleton import NUM_PARTS

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

PART_COLUMNS = 6
PART_STEP = np.float32(255 / NUM_PARTS)  # spreads part numbers over 0..255


def result_panel(
    crop: UInt8[np.ndarray, "224 224 3"],
    iuv: UInt8[np.ndarray, "3 56 56"],
    part_iuv: UInt8[np.ndarray, "24 3 56 56"] | None,
    vertices: Float[np.ndarray, "V 3"],
    cam: Float[np.ndarray, "3"],
    iuv_renderer: IUV_Renderer,
    mesh_renderer: MeshRenderer,
    extra: MeshRenderer | None = None,
) -> UInt8[np.ndarray, "224 W 4"]:
    """One person's result as one row of images, RGBA, 1456 pixels wide.

    From the left: the crop; the global IUV map; the 24 part maps; the crop with the predicted body's IUV rendering;
    the shaded body over the crop; its side view, the only one that is transparent.

    Args:
        crop: RGB.
        iuv, part_iuv: as `export.people_arrays` holds them, part_iuv None for a network without parts.
        vertices, cam: metres and (s, tx, ty) as regressed.
        iuv_renderer, mesh_renderer: draw them.
        extra: draws another overlay and side view before the last two images.

    Raises:
        ValueError: for a crop of another size.
    """
    if crop.shape != (CROP_SIZE, CROP_SIZE, 3) or crop.dtype != np.uint8:
        raise ValueError(
            f"The panel shows crops of {CROP_SIZE} x {CROP_SIZE} RGB pixels in bytes; "
            f"got {crop.shape} of {crop.dtype}."
        )
    weak = torch.from_numpy(np.asarray(cam, np.float32))
    rendered = iuv_renderer.verts2uvimg(torch.from_numpy(np.asarray(vertices, np.float32))[None], weak[None])
    rendered = resize_linear(rendered[0].clamp(0, 1).permute(1, 2, 0).contiguous().numpy(), CROP_SIZE)
    cam_t = cam_to_translation(weak).numpy()
    images = [
        crop,
        np.rint(resize_linear(np.moveaxis(iuv, 0, -1) * np.float32([PART_STEP, 1, 1]), CROP_SIZE)).astype(np.uint8),
        part_iuv_image(part_iuv),
        np.where(rendered > 0, to_uint8(rendered), crop),
    ]
    for renderer in (mesh_renderer,) if extra is None else (extra, mesh_renderer):
        images.append(renderer.overlay(crop, vertices, cam_t, FOCAL_LENGTH))
        images.append(to_uint8(renderer.side_view(vertices, cam_t, FOCAL_LENGTH, CROP_SIZE)))
    opaque = [image if image.shape[2] == 4 else cv2.cvtColor(image, cv2.COLOR_RGB2RGBA) for image in images]
    return cv2.hconcat(opaque)


def part_iuv_image(part_iuv: UInt8[np.ndarray, "24 3 56 56"] | None) -> UInt8[np.ndarray, "224 336 3"]:
    """(part/24, U, V) of the 24 part maps of one person, 6 a row, with the global part numbers; black for None."""
    if part_iuv is None:
        return np.zeros((CROP_SIZE, PART_COLUMNS * MAP_SIZE, 3), np.uint8)
    part, u, v = np.moveaxis(part_iuv, 1, 0)
    spread = np.rint(np.arange(NUM_PARTS + 1) * PART_STEP).astype(np.uint8)[part]
    return _rows(np.stack([spread, u, v], axis=-1), PART_COLUMNS)


def resize_linear(image: Float[np.ndarray, "H W C"], size: int) -> Float[np.ndarray, "S S C"]:
    """The image enlarged bilinearly: half-pixel centres and mirrored borders, as `skimage.transform.resize`, order 1.

    Square images, enlarged by a whole number; those of that size already are returned as they are.
    """
    if len(image) == size:
        return image
    scale = size // len(image)
    mirrored = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REFLECT_101)
    grown = cv2.resize(mirrored, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return grown[scale:-scale, scale:-scale]


def part_palette() -> UInt8[np.ndarray, "25 3"]:
    """A colour for each DensePose part; black background, neighbours in number far apart in hue."""
    hsv = [(part * 11 % 24 / 24, (0.9, 0.5)[part % 2], (1.0, 0.8)[part // 2 % 2]) for part in range(24)]
    colors = [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(*color) for color in hsv)]
    return to_uint8(np.array(colors))


def colorize_parts(part: Int[np.ndarray, "*B H W"] | Tensor) -> UInt8[np.ndarray, "*B H W 3"]:
    """Colours of part numbers 0..24; raises ValueError for others."""
    numbers = to_array(part)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() <= 24):
        raise ValueError(f"Part numbers go from 0 to 24; got {numbers.min()}..{numbers.max()}.")
    return part_palette()[numbers.astype(np.int64)]


def _rows(cells: np.ndarray, columns: int) -> np.ndarray:
    """[N, H, W, C] to one image, row by row; N is a multiple of `columns`."""
    count, height, width, channels = cells.shape
    cells = cells.reshape(-1, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(count // columns * height, columns * width, channels)


def to_uint8(image: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    """Bytes of an image in 0..1, rounded; bytes stay as they are."""
    image = np.asarray(image)
    return image if image.dtype == np.uint8 else (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
