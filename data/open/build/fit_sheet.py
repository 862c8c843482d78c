"""The sheet of `fit_photos.py`: crop, body over it and body from the side; accepted bodies, then refused ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from data.open.build.photo_fits import PhotoFits
from data.open.build.photo_people import LabelledPhotos
from models.fitting.photo_fit import rotations
from models.smpl import SMPL
from utils.geometry import CROP_SIZE, FOCAL_LENGTH, cam_to_translation
from utils.io import atomic_write
from utils.io.marks import SHEET, marked_image
from utils.renderer.mesh import MeshRenderer

SHOWN = 16  # accepted people at most, and as many refused ones
COLUMNS = 2
GREEN, RED = (90, 220, 90), (255, 110, 90)
BACKGROUND = 60


def choose(refused: np.ndarray, has_fit: np.ndarray) -> list[int]:
    """Evenly spread numbers of accepted fits, then of refused ones."""
    groups = (np.flatnonzero((refused == "") & has_fit), np.flatnonzero((refused != "") & has_fit))
    return [
        int(group[i])
        for group in groups
        for i in np.unique(np.linspace(0, len(group) - 1, min(SHOWN, len(group))).astype(int))
    ]


def write_sheet(
    path: Path,
    photos: LabelledPhotos,
    rows: Sequence[int],
    fits: PhotoFits,
    refused: np.ndarray,
    smpl: SMPL,
    overwrite: bool,
) -> None:
    """Write the sheet, whole or not at all.

    Args:
        rows: of the labels that the fits belong to.
        refused: why each fit is left out; empty for accepted ones.
        overwrite: whether an older sheet is replaced.
    """
    renderer = MeshRenderer(smpl.faces)
    tiles = []
    for number in choose(refused, fits.trouble == ""):
        crop = photos.crop(rows[number], photos.image_name(rows[number]))
        words = f"{fits.error[number]:.3f} d{fits.direction[number]:.2f} p{fits.prior[number]:.0f}"
        words += f" b{np.abs(fits.betas[number]).max():.1f} iou{fits.iou[number]:.2f} {refused[number]}"
        tile = draw_fit(crop, fits, number, smpl, renderer)
        cv2.putText(
            tile, words, (4, 218), cv2.FONT_HERSHEY_SIMPLEX, 0.42, RED if refused[number] else GREEN, 1
        )
        tiles.append(tile)
    while len(tiles) % COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    lines = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
    _, data = cv2.imencode(path.suffix, np.concatenate(lines)[..., ::-1])
    with atomic_write(path, replace=overwrite) as file:
        file.write(marked_image(data.tobytes(), SHEET))


@torch.no_grad()
def draw_fit(
    crop: np.ndarray, fits: PhotoFits, number: int, smpl: SMPL, renderer: MeshRenderer
) -> np.ndarray:
    """Crop, body over it and body from the side, [224, 672, 3] uint8."""
    rotvec, betas, cam = (
        torch.from_numpy(a[number : number + 1]) for a in (fits.rotvec, fits.betas, fits.cam)
    )
    vertices = smpl(rotations(rotvec), betas).vertices[0].numpy()
    cam_t = cam_to_translation(cam)[0].numpy()
    over = renderer.overlay(crop, vertices, cam_t, FOCAL_LENGTH)
    side = renderer.side_view(vertices, cam_t, FOCAL_LENGTH, CROP_SIZE)
    side = side[..., :3] * side[..., 3:] * 255 + BACKGROUND * (1 - side[..., 3:])
    return np.ascontiguousarray(np.concatenate([crop, over, side.round().astype(np.uint8)], axis=1))
