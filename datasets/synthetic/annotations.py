"""Annotations of one synthetic photograph as LSP, COCO and DensePose-COCO write them (docs/method.md 8.4, 11.2)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from datasets.synthetic.wide import Surface, WidePerson
from utils.skeleton import ANN_CLASSES, GT24_TO_COCO17

UNKNOWN = 255  # LSP: no class is known
GRID = 256  # side of DensePose's masks and of its point coordinates, 0..255 over the box
NUM_POINTS = 100
MIN_BYSTANDER = 300  # pixels
HIDDEN = 0.12  # metres that a joint may lie behind what is seen at its place and still count as visible

COCO_NAMES = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()
COCO_BONES = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip


def in_picture(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Points [N,2] in pixels with confidence 1, [N,3]; zeros for those outside a picture of (width, height)."""
    inside = ((points >= 0) & (points <= size)).all(1)
    return np.column_stack([points, np.ones(len(points))]) * inside[:, None]


def part_picture(surface: Surface, face_class: np.ndarray, unknown_rim: bool) -> np.ndarray:
    """LSP's classes [H,W] uint8 of a body; `face_class` [F]. With a rim of unknown pixels around it if asked."""
    parts = np.where(surface.face >= 0, face_class[surface.face], 0).astype(np.uint8)
    if unknown_rim:
        body = surface.mask.astype(np.uint8)
        parts[(cv2.dilate(body, np.ones((3, 3), np.uint8)) > 0) & (body == 0)] = UNKNOWN
    return parts


def visible_box(mask: np.ndarray) -> list[float]:
    """Box x, y, width, height of the pixels of a mask [H,W]."""
    return [float(v) for v in cv2.boundingRect(mask.astype(np.uint8))]


# -------------------------------------------------------------------------------------------------------- COCO


def coco_categories() -> list[dict[str, Any]]:
    """The one category of COCO's person keypoints."""
    return [{"id": 1, "name": "person", "supercategory": "person", "keypoints": COCO_NAMES,
             "skeleton": [list(bone) for bone in COCO_BONES]}]  # fmt: skip


def coco_annotations(person: WidePerson, picture_id: int, person_id: int) -> list[dict[str, Any]]:
    """The person with its keypoints and, where somebody stands behind, that one without any.

    Numbers of people are `person_id` and `person_id` + 1.
    """
    points = person.view.project(person.body.joints[25:])[list(GT24_TO_COCO17)]
    keypoints = in_picture(points[:, :2], person.size)
    seen = (keypoints[:, 2] > 0) & ~_is_hidden(points, person.surface)
    keypoints = np.round(keypoints, 3) + np.outer(seen, [0, 0, 1])  # 1 labelled but hidden, 2 visible
    found = [_annotation(person.surface.mask, keypoints, picture_id, person_id)]
    found[0]["bbox"] = person.view.box.tolist()  # not rounded to pixels, so that its crop is the view's
    if person.bystander is not None and person.bystander.sum() >= MIN_BYSTANDER:
        found.append(_annotation(person.bystander, np.zeros((17, 3)), picture_id, person_id + 1))
    return found


def _is_hidden(points: np.ndarray, surface: Surface) -> np.ndarray:
    """Whether the body itself is before projected points [N,3] (pixels, depth)."""
    height, width = surface.depth.shape
    x, y = (np.clip(points[:, :2], 0, [width - 1, height - 1])).astype(int).T
    depth = surface.depth[y, x]
    return (depth > 0) & (depth < points[:, 2] - HIDDEN)


def _annotation(mask: np.ndarray, keypoints: np.ndarray, picture_id: int, person_id: int) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": person_id,
        "image_id": picture_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": visible_box(mask),
        "area": float(mask.sum()),
        "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode()},
        "keypoints": keypoints.reshape(-1).tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }


# --------------------------------------------------------------------------------------------------- DensePose


def dense_annotation(rng: np.random.Generator, person: WidePerson, face_uv: np.ndarray) -> dict[str, Any]:
    """DensePose's annotation: about a hundred points with part, U, V, and masks of 14 part classes.

    face_uv [F,3,2] holds U, V of the faces' corners. Points and masks lie on a grid of 0..255 over the box.
    """
    surface, (x, y, width, height) = person.surface, person.view.box.tolist()
    rows, cols = np.nonzero(surface.mask)
    chosen = rng.choice(len(rows), min(NUM_POINTS, len(rows)), replace=False)
    rows, cols = rows[chosen], cols[chosen]
    face, bary = surface.face[rows, cols], surface.bary[rows, cols]
    uv = np.clip(np.einsum("nk,nkc->nc", bary, face_uv[face]), 0, 1)
    at = (np.column_stack([cols, rows]) + 0.5 - [x, y]) * (GRID - 1) / [width, height]
    at, inside = np.clip(at, 0, GRID - 1), ((at >= 0) & (at <= GRID - 1)).all(1)
    columns = {"dp_x": at[:, 0], "dp_y": at[:, 1], "dp_I": surface.part[rows, cols], "dp_U": uv[:, 0],
               "dp_V": uv[:, 1]}  # fmt: skip
    lists = {name: [float(v) for v in values[inside]] for name, values in columns.items()}
    return {"bbox": [x, y, width, height], **lists, "dp_masks": _part_masks(surface, (x, y, width, height))}


def _part_masks(surface: Surface, box: tuple[float, float, float, float]) -> list[Any]:
    """One run-length code [256,256] for each of the 14 part classes, [] for those that are not seen."""
    from pycocotools import mask as coco_mask

    x, y, width, height = box
    steps = np.arange(GRID) / (GRID - 1)
    limits = surface.part.shape[1] - 1, surface.part.shape[0] - 1
    cols = np.clip(np.floor(x + steps * width), 0, limits[0]).astype(int)
    rows = np.clip(np.floor(y + steps * height), 0, limits[1]).astype(int)
    grid = surface.part[np.ix_(rows, cols)]
    masks: list[Any] = []
    for parts in ANN_CLASSES[1:]:
        mask = np.isin(grid, parts)
        if not mask.any():
            masks.append([])
            continue
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        masks.append({"size": [GRID, GRID], "counts": code["counts"].decode()})
    return masks
