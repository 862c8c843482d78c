"""Annotations of one synthetic photograph as LSP, COCO and DensePose-COCO write them (docs/method.md 8.4 and 8.8)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from pycocotools import mask as coco_mask

from datasets.synthetic.wide import Surface, WidePerson
from utils.skeleton import ANN_CLASSES, GT24_NAMES, GT24_TO_COCO17

UNKNOWN = 255  # LSP: no class is known
GRID = 256  # side of DensePose's masks and of its point coordinates, 0..255 over the box
NUM_POINTS = 100
MIN_BYSTANDER = 300  # pixels
HIDDEN = 0.12  # metres that a joint may lie behind what is seen at its place and still count as visible
COCO_BONES = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip


def in_image(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Points [N,2] in pixels with confidence 1, [N,3]; zeros for those outside an image of (width, height)."""
    inside = ((points >= 0) & (points <= size)).all(1)
    return np.column_stack([points, np.ones(len(points))]) * inside[:, None]


def part_image(surface: Surface, face_class: np.ndarray, unknown_rim: bool) -> np.ndarray:
    """LSP's classes [H,W] uint8 of a body; `face_class` [F]. With a rim of unknown pixels around it if asked."""
    parts = np.where(surface.face >= 0, face_class[surface.face], 0).astype(np.uint8)
    if unknown_rim:
        body = surface.mask.astype(np.uint8)
        parts[(cv2.dilate(body, np.ones((3, 3), np.uint8)) > 0) & (body == 0)] = UNKNOWN
    return parts


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run-length code of a mask [H,W]."""
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def coco_categories() -> list[dict[str, Any]]:
    """The one category of COCO's person keypoints."""
    names = [GT24_NAMES[joint] for joint in GT24_TO_COCO17]
    return [{"id": 1, "name": "person", "supercategory": "person", "keypoints": names,
             "skeleton": [list(bone) for bone in COCO_BONES]}]  # fmt: skip


def coco_annotations(person: WidePerson, image_id: int, person_id: int) -> list[dict[str, Any]]:
    """The person with keypoints and, where another one stands behind, that one (`person_id` + 1) without any."""
    points = person.view.project(person.body.joints[25:])[list(GT24_TO_COCO17)]
    keypoints = in_image(points[:, :2], person.view.size)
    seen = (keypoints[:, 2] > 0) & ~_is_hidden(points, person.surface)
    keypoints = np.round(keypoints, 3) + np.outer(seen, [0, 0, 1])  # 1 labelled but hidden, 2 visible
    found = [_annotation(person.surface.mask, keypoints, image_id, person_id)]
    found[0]["bbox"] = person.view.box.tolist()  # not rounded to pixels, so that its crop is the view's
    if person.bystander is not None and person.bystander.sum() >= MIN_BYSTANDER:
        found.append(_annotation(person.bystander, np.zeros((17, 3)), image_id, person_id + 1))
    return found


def _is_hidden(points: np.ndarray, surface: Surface) -> np.ndarray:
    """Whether the body itself is before projected points [N,3] (pixels, depth)."""
    height, width = surface.depth.shape
    x, y = (np.clip(points[:, :2], 0, [width - 1, height - 1])).astype(int).T
    depth = surface.depth[y, x]
    return (depth > 0) & (depth < points[:, 2] - HIDDEN)


def _annotation(mask: np.ndarray, keypoints: np.ndarray, image_id: int, person_id: int) -> dict[str, Any]:
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [float(v) for v in cv2.boundingRect(mask.astype(np.uint8))],
        "area": float(mask.sum()),
        "segmentation": _run_lengths(mask),
        "keypoints": keypoints.reshape(-1).tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }


def dense_annotation(rng: Generator, person: WidePerson, face_uv: np.ndarray) -> dict[str, Any]:
    """DensePose's annotation: about a hundred points with part, U, V, and masks of 14 part classes.

    Points and masks lie on a grid of 0..255 over the box; `face_uv` [F,3,2] holds U, V of the faces' corners.
    """
    surface, box = person.surface, person.view.box
    rows, cols = np.nonzero(surface.mask)
    chosen = rng.choice(len(rows), min(NUM_POINTS, len(rows)), replace=False)
    rows, cols = rows[chosen], cols[chosen]
    uv = np.einsum("nk,nkc->nc", surface.bary[rows, cols], face_uv[surface.face[rows, cols]])
    xy = (np.column_stack([cols, rows]) + 0.5 - box[:2]) * (GRID - 1) / box[2:]
    inside = ((xy >= 0) & (xy <= GRID - 1)).all(1)
    values = np.column_stack([xy, surface.part[rows, cols], np.clip(uv, 0, 1)])[inside]
    lists = dict(zip(("dp_x", "dp_y", "dp_I", "dp_U", "dp_V"), values.T.tolist(), strict=True))
    return {"bbox": box.tolist(), **lists, "dp_masks": _part_masks(surface.part, box)}


def _part_masks(part: np.ndarray, box: np.ndarray) -> list[Any]:
    """One run-length code [256,256] for each of the 14 part classes, [] for those that are not seen."""
    steps = np.arange(GRID) / (GRID - 1)
    limits = np.array(part.shape[::-1])[:, None] - 1
    cols, rows = np.clip(np.floor(box[:2, None] + steps * box[2:, None]), 0, limits).astype(int)
    grid = part[np.ix_(rows, cols)]
    masks = [np.isin(grid, parts) for parts in ANN_CLASSES[1:]]
    return [_run_lengths(mask) if mask.any() else [] for mask in masks]
