"""Six body parts in an image, as the LSP evaluation compares them (docs/method.md 11.2).

Classes: 0 background, 1 head, 2 torso, 3 right arm, 4 left arm, 5 right leg, 6 left leg. Every face of the body has
one; a body is drawn in classes on the 224-pixel crop, and the drawing is brought back to the image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.body import SMPL_ID
from utils.geometry import BOX_UNIT, CROP_SIZE, FOCAL_LENGTH
from utils.io import DataFileError, load_npy
from utils.renderer.iuv import IUV_Renderer
from utils.renderer.rasterizer import Backend
from utils.structures import Atlas, BodyModel

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped, UInt8

CLASS_NAMES = ("background", "head", "torso", "right arm", "left arm", "right leg", "left leg")
NUM_CLASSES = len(CLASS_NAMES)
# Joints whose skinning weights make up a class; the torso has the neck and both collar bones.
CLASS_JOINTS = (
    (15,),
    (0, 3, 6, 9, 12, 13, 14),
    (17, 19, 21, 23),
    (16, 18, 20, 22),
    (2, 5, 8, 11),
    (1, 4, 7, 10),
)
TEXTURE_FILE, TABLE_FILE = "vertex_texture.npy", "cube_parts.npy"
COLOR_STEPS = 100  # the table has a cell for each hundredth of red, green and blue
# An image pixel whose centre falls on the border of two crop pixels takes the right (lower) one despite rounding.
BORDER_SLACK = 1e-9


@dataclass(frozen=True)
class TrueParts:
    """Label maps of a person, uint8 [H, W], and the box (pixels, side / 200 px) that its crop was cut by."""

    mask: UInt8[np.ndarray, "H W"]
    parts: UInt8[np.ndarray, "H W"]
    center: Float[np.ndarray, "2"]
    scale: float


# ----------------------------------------------------------------------------------------------- classes of faces


def face_classes(body: BodyModel, data_dir: str | os.PathLike) -> tuple[Int[np.ndarray, "F"], str]:
    """Class (0..6) of each of the body's faces, and where it comes from, for the log.

    The official body takes vertex_texture.npy and cube_parts.npy of `data_dir`, which colour the faces and name the
    colours; without them, and for other bodies, a face belongs where most of its skinning weight lies.
    Raises FileNotFoundError when one of the two files is missing, DataFileError when they do not fit the body.
    """
    texture, table = files = [Path(data_dir) / name for name in (TEXTURE_FILE, TABLE_FILE)]
    missing = [file for file in files if not file.is_file()]
    source = f"skinning weights of the body '{body.model_id}'"
    if body.model_id != SMPL_ID:
        return skinning_classes(body), source
    if len(missing) == 2:
        return skinning_classes(body), f"{source}, as {TEXTURE_FILE} and {TABLE_FILE} are not in {data_dir}"
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} is missing, but its other half is there. Add it (both come with the data of SPIN), or take "
            "both away to tell the parts apart by skinning weights."
        )
    return _textured_classes(texture, table, len(body.faces)), f"{TEXTURE_FILE} and {TABLE_FILE} in {data_dir}"


def skinning_classes(body: BodyModel) -> Int[np.ndarray, "F"]:
    """Class (1..6) that holds the most of the skinning weight of a face's corners."""
    weights = body.weights.astype(np.float64)[body.faces].sum(axis=1)  # [F, 24]
    by_class = [weights[:, list(joints)].sum(axis=1) for joints in CLASS_JOINTS]
    return np.argmax(by_class, axis=0) + 1


def _textured_classes(texture_file: Path, table_file: Path, num_faces: int) -> Int[np.ndarray, "F"]:
    texture, table = load_npy(texture_file), load_npy(table_file)
    if texture.shape != (1, num_faces, 2, 2, 2, 3) or texture.dtype.kind != "f":
        raise DataFileError(
            f"{texture_file} is {texture.dtype} {texture.shape}; expected a colour texture of the body's faces, "
            f"floats of the shape (1, {num_faces}, 2, 2, 2, 3)."
        )
    if table.ndim != 3 or table.dtype.kind not in "fiu" or not np.isin(table, np.arange(NUM_CLASSES)).all():
        raise DataFileError(
            f"{table_file} is {table.dtype} {table.shape}; expected a table [red, green, blue] of the classes "
            f"0..{NUM_CLASSES - 1}."
        )
    # In float32, as colours are rendered: 100 * 0.29 must fall on the same side of 29.
    color = texture[0, :, 0, 0, 0].astype(np.float32)
    if not np.isfinite(color).all():
        raise DataFileError(f"{texture_file} holds colours that are not finite.")
    cell = np.floor(np.float32(COLOR_STEPS) * color).astype(np.int64)
    if (cell < 0).any() or (cell >= table.shape).any():
        raise DataFileError(
            f"The colours of {texture_file} reach {color.max(axis=0).round(3).tolist()}, beyond the table "
            f"{table_file} of {table.shape} hundredths. Take both files from the same source."
        )
    return table[tuple(cell.T)].astype(np.int64)


# -------------------------------------------------------------------------------------------------------- drawing


class PartRenderer:
    """Renders bodies under weak cameras as label maps on the 224-pixel crop; no anti-aliasing.

    The camera is that of `IUV_Renderer`. Faces are seen from both sides, so that an opening in the mesh shows its
    inside.

    Args:
        faces: of the body.
        classes: of each face, 0..6.
        far: bodies at this distance (metres) or further are not drawn; the 2020 system had 100.
        backend: of `rasterize`.

    Raises:
        ValueError: when there is not one class for each face.
    """

    def __init__(
        self,
        faces: Int[np.ndarray, "F 3"],
        classes: Int[np.ndarray, "F"],
        far: float = float("inf"),
        backend: Backend = "auto",
    ) -> None:
        faces, classes = np.asarray(faces, np.int32), np.asarray(classes)
        if classes.shape != (len(faces),):
            raise ValueError(f"Expected a class for each of {len(faces)} faces, got the shape {classes.shape}.")
        both = np.concatenate([faces, faces[:, ::-1]])
        part = np.concatenate([classes, classes]).astype(np.uint8)
        vertex_map = np.arange(int(faces.max(initial=-1)) + 1, dtype=np.int32)
        atlas = Atlas("", vertex_map, both, part, np.zeros((len(both), 3, 2), np.float32))
        self._renderer = IUV_Renderer(CROP_SIZE, CROP_SIZE, FOCAL_LENGTH, atlas, far, backend)
        self._classes = torch.from_numpy(np.concatenate([np.zeros(1, np.uint8), part]))

    def __call__(
        self, vertices: Float[Tensor, "B V 3"], cam: Float[Tensor, "B 3"]
    ) -> UInt8[Tensor, "B 224 224"]:
        """Class of each pixel of bodies (metres, camera axes) under weak cameras (s, tx, ty)."""
        face = self._renderer.fragments(vertices, cam).face
        return self._classes.to(face.device)[face.long() + 1]


def uncrop(
    parts: Shaped[np.ndarray, "224 224"], center: Sequence[float], scale: float, size: tuple[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """Labels (or a bool mask) on the crop back at their place in the image; 0 outside the crop.

    Each image pixel takes the crop pixel that its centre falls into.

    Args:
        parts: labels on the crop.
        center, scale: the crop's square in the image, pixels and side / 200 px, as `datasets.transforms` cuts it.
        size: height and width of the image, pixels.

    Raises:
        ValueError: for another shape and for a square without area.
    """
    parts = np.asarray(parts)
    if parts.shape != (CROP_SIZE, CROP_SIZE):
        raise ValueError(f"Expected labels on the crop, [{CROP_SIZE}, {CROP_SIZE}], got {list(parts.shape)}.")
    if not (np.isfinite([*center, scale]).all() and scale > 0):
        raise ValueError(f"A crop needs a finite center and a positive scale, got {tuple(center)} and {scale}.")

    def cells(count: int, middle: float) -> np.ndarray:
        place = (np.arange(count) + 0.5 - float(middle)) * (CROP_SIZE / (BOX_UNIT * float(scale)))
        cell = np.floor(place + CROP_SIZE / 2 + BORDER_SLACK)
        return np.where((cell >= 0) & (cell < CROP_SIZE), cell, CROP_SIZE).astype(np.int64)

    padded = np.pad(parts.astype(np.uint8), ((0, 1), (0, 1)))  # row and column 224 stand for the outside
    height, width = size
    return padded[np.ix_(cells(height, center[1]), cells(width, center[0]))]
