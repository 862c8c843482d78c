"""Pictures for people: the demo's result panel (method.md section 11), part colours, points, grids."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from utils.geometry import FOCAL_LENGTH, cam_to_translation
from utils.iuvmap import iuv_map2img, part_maps2img
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.structures import IUVMaps

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

SIZE = 224
PART_SIZE = 56
PART_COLUMNS = 6
DRAW_SHIFT = 4


def result_panel(
    image: Float[Tensor, "3 224 224"] | np.ndarray,
    iuv: IUVMaps,
    part_iuv: IUVMaps | None,
    vertices: Float[Tensor, "V 3"],
    cam: Float[Tensor, "3"],
    iuv_renderer: IUV_Renderer,
    mesh_renderer: MeshRenderer,
) -> UInt8[np.ndarray, "224 1456 4"]:
    """One person's result as one row of pictures, RGBA.

    From the left: the picture; the global IUV map where the annotation head sees a person; the 24 part maps;
    the picture with the predicted body's IUV rendering; the shaded body over the picture; its side view, the
    only one that is transparent. The last two are always there.

    image: RGB in 0..1 (channel first or last) or uint8; iuv: cleaned maps of one person, [25, 56, 56] and ann
    [15, 56, 56] or None; part_iuv: cleaned maps [24, 7, 56, 56] or None; vertices in metres and cam = (s, tx, ty) as
    regressed. Raises ValueError when the picture is not 224 x 224.
    """
    picture = to_rgb_float(image)
    if picture.shape != (SIZE, SIZE, 3):
        raise ValueError(f"The panel shows crops of {SIZE} x {SIZE} RGB pixels; got {picture.shape}.")
    rendered = resize_linear(iuv_renderer.verts2uvimg(vertices[None], cam[None]), SIZE)
    cam_t = cam_to_translation(cam)
    opaque = [
        picture,
        global_iuv_picture(iuv),
        part_iuv_picture(part_iuv),
        paste_positive(picture, _channel_last(rendered[0])),
        mesh_renderer.overlay(picture, vertices, cam_t, FOCAL_LENGTH),
    ]
    row = np.concatenate(opaque, axis=1)
    row = np.concatenate([row, np.ones_like(row[..., :1])], axis=2)
    side = mesh_renderer.side_view(vertices, cam_t, FOCAL_LENGTH, SIZE)
    return to_uint8(np.concatenate([row, side], axis=1))


def global_iuv_picture(iuv: IUVMaps, size: int = SIZE) -> Float[np.ndarray, "S S 3"]:
    """(part/24, U, V) of one person's global maps, masked by the annotation head when it is given."""
    ann = None if iuv.ann is None else iuv.ann[None]
    return _channel_last(resize_linear(iuv_map2img(iuv.u[None], iuv.v[None], iuv.index[None], ann), size)[0])


def part_iuv_picture(part_iuv: IUVMaps | None) -> Float[np.ndarray, "224 336 3"]:
    """(part/24, U, V) of the 24 part maps of one person, 6 a row, with the global part numbers; black for None."""
    if part_iuv is None:
        return np.zeros((SIZE, PART_COLUMNS * PART_SIZE, 3), np.float32)
    resized = resize_linear(part_maps2img(part_iuv), PART_SIZE)
    return _rows(np.clip(resized.detach().cpu().float().permute(0, 2, 3, 1).numpy(), 0, 1), PART_COLUMNS)


def paste_positive(picture: Float[np.ndarray, "H W 3"], layer: Float[np.ndarray, "H W 3"]) -> np.ndarray:
    """`layer` over `picture` where it is positive, each channel for itself."""
    return np.where(layer > 0, layer, picture)


def resize_linear(images: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C S S"]:
    """Bilinear with half-pixel centres and mirrored borders, as `skimage.transform.resize` of order 1 does it.

    Square pictures; those of that size already are returned as they are.
    """
    if images.shape[-1] == size:
        return images
    scale = size / images.shape[-1]
    mirrored = F.pad(images, (1, 1, 1, 1), mode="reflect")
    grown = F.interpolate(mirrored, scale_factor=scale, mode="bilinear", align_corners=False)
    border = round(scale)
    return grown[..., border : border + size, border : border + size]


# ------------------------------------------------------------------------------------- parts, points, grids


def part_palette() -> UInt8[np.ndarray, "25 3"]:
    """A colour for each DensePose part; black background, neighbours in number far apart in hue."""
    hsv = [(part * 11 % 24 / 24, (0.9, 0.5)[part % 2], (1.0, 0.8)[part // 2 % 2]) for part in range(24)]
    colors = [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(*color) for color in hsv)]
    return to_uint8(np.array(colors))


def colorize_parts(part: Int[np.ndarray, "*B H W"] | Tensor) -> UInt8[np.ndarray, "*B H W 3"]:
    """Colours of part numbers 0..24; raises ValueError for others."""
    numbers = part.detach().cpu().numpy() if isinstance(part, Tensor) else np.asarray(part)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() <= 24):
        raise ValueError(f"Part numbers go from 0 to 24; got {numbers.min()}..{numbers.max()}.")
    return part_palette()[numbers.astype(np.int64)]


def draw_points(
    image: UInt8[np.ndarray, "H W 3"],
    points: Float[np.ndarray, "N 2"] | Float[np.ndarray, "N 3"],
    radius: int = 2,
    links: Sequence[tuple[int, int]] = (),
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture with points (x, y in pixels, pixel i centred at i + 0.5) and lines between links.

    A third column is a confidence: points with 0 are left out.
    """
    drawn = np.ascontiguousarray(image).copy()
    xy = np.asarray(points, dtype=np.float64)
    known = np.isfinite(xy).all(axis=1) & ((xy[:, 2] > 0) if xy.shape[1] > 2 else True)
    # OpenCV counts from pixel centres, in whole numbers with `shift` binary places.
    fixed = (np.clip(np.nan_to_num(xy[:, :2]) - 0.5, -1e4, 1e4) * 2**DRAW_SHIFT).round().astype(int).tolist()
    for start, end in links:
        if known[start] and known[end]:
            cv2.line(drawn, fixed[start], fixed[end], (255, 255, 255), 1, cv2.LINE_AA, DRAW_SHIFT)
    for number in np.flatnonzero(known):
        color = to_uint8(np.array(colorsys.hsv_to_rgb(number / len(xy), 0.9, 1.0))).tolist()
        cv2.circle(drawn, fixed[number], radius << DRAW_SHIFT, color, -1, cv2.LINE_AA, DRAW_SHIFT)
    return drawn


def image_grid(
    images: Sequence[np.ndarray], columns: int, pad: int = 2, pad_value: int = 255
) -> UInt8[np.ndarray, "H W C"]:
    """Pictures of one size, uint8 or float in 0..1, in rows of `columns` with a border of `pad` pixels.

    Raises ValueError for no pictures or for different sizes.
    """
    if len(images) == 0 or len({np.shape(image) for image in images}) != 1:
        raise ValueError(f"A grid needs pictures of one size; got {sorted({np.shape(i) for i in images})}.")
    border = ((pad, 0), (pad, 0), (0, 0))
    cells = np.stack([np.pad(to_uint8(image), border, constant_values=pad_value) for image in images])
    grid = _rows(cells, columns, pad_value)
    return np.pad(grid, ((0, pad), (0, pad), (0, 0)), constant_values=pad_value)


def _rows(cells: np.ndarray, columns: int, fill: float = 0) -> np.ndarray:
    """[N, H, W, C] to one picture, row by row; missing cells of the last row are filled."""
    num_rows = -(-len(cells) // columns)
    missing = num_rows * columns - len(cells)
    cells = np.concatenate([cells, np.full((missing, *cells.shape[1:]), fill, cells.dtype)])
    height, width, channels = cells.shape[1:]
    cells = cells.reshape(num_rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(num_rows * height, columns * width, channels)


# ------------------------------------------------------------------------------------------------- conversion


def to_rgb_float(image: Tensor | np.ndarray) -> Float[np.ndarray, "H W 3"]:
    """Channel-last float32 in 0..1 from a tensor or array, channel first or last, uint8 or float."""
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.shape[0] == 3 and array.shape[-1] != 3:
        array = array.transpose(1, 2, 0)
    return (
        array.astype(np.float32) / 255 if array.dtype == np.uint8 else np.clip(array, 0, 1).astype(np.float32)
    )


def to_uint8(image: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    """Bytes of a picture in 0..1, rounded; bytes stay as they are."""
    image = np.asarray(image)
    return image if image.dtype == np.uint8 else (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _channel_last(image: Float[Tensor, "3 H W"]) -> Float[np.ndarray, "H W 3"]:
    return image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy()
