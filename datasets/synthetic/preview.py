"""Contact sheets of synthetic people: each image beside its part map with the joints drawn on both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.synthetic.body import PeopleAssets, project, to_ndc
from datasets.synthetic.generator import SyntheticRender
from utils.io import atomic_write
from utils.io.marks import SHEET, marked_image
from utils.renderer.panel import colorize_parts
from utils.renderer.rasterizer import rasterize_numpy

COLUMNS = 8
LEFT_JOINTS = (1, 4, 7, 10, 13, 16, 18, 20, 22)


def part_map(render: SyntheticRender, assets: PeopleAssets, size: int = 224) -> np.ndarray:
    """DensePose part [size,size] uint8 of every pixel of the bare body, 0 = background."""
    points = to_ndc(project(render.body.vertices, render.cam))
    face, _, _ = rasterize_numpy(points, assets.faces, size)
    return np.where(face >= 0, assets.face_part[face], 0).astype(np.uint8)


def draw_labels(render: SyntheticRender, assets: PeopleAssets) -> np.ndarray:
    """The image half covered by its coloured part map, with the 24 SMPL joints (left red) as dots."""
    parts = part_map(render, assets)
    covered = render.image // 3 + colorize_parts(parts) // 3 * 2
    out = np.where(parts[..., None] > 0, covered, render.image // 2).astype(np.uint8)
    for joint, (x, y) in enumerate(project(render.body.smpl_joints, render.cam)[:, :2]):
        color = (255, 0, 0) if joint in LEFT_JOINTS else (255, 255, 255)
        cv2.circle(out, (int(x), int(y)), 2, color, -1)
    return out


def write_sheet(
    renders: Sequence[SyntheticRender], assets: PeopleAssets, path: Path, replace: bool = True
) -> None:
    """Write images and labels of people to one JPEG or PNG. replace: a file that is there."""
    rows = []
    for start in range(0, len(renders), COLUMNS):
        row = renders[start : start + COLUMNS]
        for cells in ([r.image for r in row], [draw_labels(r, assets) for r in row]):
            blank = [np.zeros_like(cells[0])] * (COLUMNS - len(cells))
            rows.append(np.concatenate(cells + blank, axis=1))
    done, data = cv2.imencode(path.suffix, np.concatenate(rows)[..., ::-1])
    if not done:
        raise ValueError(f"Cannot write an image to '{path}'; name a .jpg or .png file.")
    with atomic_write(path, replace=replace) as stream:
        stream.write(marked_image(data.tobytes(), SHEET))
