"""DensePose labels of a person: coarse parts and surface points on the crop's 56 x 56 grid (docs/method.md 8.4).

`DenseAnnotations` holds the `dp_annot` dicts of a data set as checked, compact arrays; `dense_labels` places
one person's labels on a crop. Coordinates of points and masks are 0..255 of the person's own box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datasets.labels.rle import decode, readable, split_runs
from datasets.labels.values import MAX_PIXELS, absurd_row
from utils.io import DataFileError, load_mat
from utils.structures import DensePosePoints

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

GRID = 56
MAX_POINTS = 196
NUM_PARTS = 24
NUM_MASKS = 14
MASK_SIZE = 256
KEYS = ("bbox", "dp_x", "dp_y", "dp_I", "dp_U", "dp_V", "dp_masks")
POINT_KEYS = KEYS[1:6]
SYMMETRY_FILE = Path("UV_data") / "UV_symmetry_transforms.mat"
CHUNK = 1000  # people whose masks are checked at once

# Mirror partners: parts 1..24 and mask classes 1..14 (0 is background).
PART_FLIP = (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23)
MASK_FLIP = (0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14)


@dataclass(frozen=True)
class UVSymmetry:
    """Where a point of a part lies on the mirrored body's part: tables over [255 V, 255 U]."""

    u: Float[np.ndarray, "24 256 256"]
    v: Float[np.ndarray, "24 256 256"]


@dataclass(frozen=True)
class DensePerson:
    """Labels of one person as annotated."""

    box: Float[np.ndarray, "4"]  # x, y, width, height in picture pixels
    xy: Float[np.ndarray, "N 2"]  # 0..255 of the box
    part: Int[np.ndarray, "N"]  # 1..24
    u: Float[np.ndarray, "N"]
    v: Float[np.ndarray, "N"]
    labels: UInt8[np.ndarray, "256 256"]  # 0..14 over the box


def load_symmetry(data_dir: str | Path) -> UVSymmetry:
    """DensePose's mirror tables below a data folder.

    Raises FileNotFoundError, or DataFileError when the file holds something else.
    """
    path = Path(data_dir) / SYMMETRY_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"Mirroring DensePose labels needs {path}. Run `bash get_densepose_uv.sh` to fetch it."
        )
    content = load_mat(path)
    try:
        tables = [
            np.stack([np.asarray(cell, np.float32) for cell in content[name].reshape(-1)])
            for name in ("U_transforms", "V_transforms")
        ]
        right = all(t.shape == (NUM_PARTS, MASK_SIZE, MASK_SIZE) and np.isfinite(t).all() for t in tables)
    except (KeyError, ValueError, TypeError):
        right = False
    if not right:
        raise DataFileError(
            f"{path} is not DensePose's: expected U_transforms and V_transforms with {NUM_PARTS} tables of "
            f"{MASK_SIZE} x {MASK_SIZE}. Run `bash get_densepose_uv.sh` to fetch it again."
        )
    return UVSymmetry(*tables)


# ------------------------------------------------------------------------------------------------ annotations


class DenseAnnotations:
    """The `dp_annot` entries of a data set; an entry of None or {} is a person without annotation."""

    def __init__(self, entries: Sequence[Any], source: str = "dp_annot"):
        """Raises DataFileError naming the first damaged item."""
        boxes, points, masks = [], [], []
        for index, entry in enumerate(entries):
            box, values, rles = _checked(entry, f"{source}, item {index}")
            boxes.append(box)
            points.append(values)
            masks.append(rles)
        self.annotated = np.array([box is not None for box in boxes], dtype=bool)
        self._boxes = np.array([[0.0] * 4 if box is None else box for box in boxes]).reshape(-1, 4)
        self._starts = np.concatenate([[0], np.cumsum([len(values) for values in points])]).astype(np.int64)
        self._points = np.concatenate([np.zeros((0, 5)), *points])
        self._masks = np.array([b"\n".join(rles) for rles in masks], dtype=object)  # "\n" is in no mask
        for start in range(0, len(masks), CHUNK):
            _check_masks(masks[start : start + CHUNK], start, source)

    def __len__(self) -> int:
        return len(self.annotated)

    def person(self, index: int) -> DensePerson:
        """Labels of an annotated person."""
        x, y, part, u, v = self._points[self._starts[index] : self._starts[index + 1]].T
        labels = label_map(self._masks[index].split(b"\n"))
        return DensePerson(self._boxes[index], np.stack([x, y], 1), part.astype(np.int64), u, v, labels)


def _checked(entry: Any, what: str) -> tuple[Any, np.ndarray, list[bytes]]:
    """Box, points [N,5] (x, y, part, U, V) and 14 masks of an entry."""
    if entry is None or (isinstance(entry, dict) and not entry):
        return None, np.zeros((0, 5)), [b""] * NUM_MASKS
    if not isinstance(entry, dict):
        raise DataFileError(f"{what}: expected a dict with {', '.join(KEYS)}, got {type(entry).__name__}.")
    missing = [key for key in KEYS if key not in entry]
    if missing:
        raise DataFileError(f"{what} lacks {', '.join(missing)}; expected {', '.join(KEYS)}.")
    box = _numbers(entry["bbox"], f"{what}: bbox")
    if len(box) != 4 or min(box[2:]) <= 0:
        raise DataFileError(
            f"{what}: bbox must be x, y, width, height with a positive size, got {list(box)}."
        )
    columns = [_numbers(entry[key], f"{what}: {key}") for key in POINT_KEYS]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1 or lengths[0] > MAX_POINTS:
        told = ", ".join(f"{key} {length}" for key, length in zip(POINT_KEYS, lengths, strict=True))
        raise DataFileError(
            f"{what}: the lists of points must have one length of at most {MAX_POINTS}, got {told}."
        )
    _, _, part, u, v = columns
    if not (np.isin(part, np.arange(1, NUM_PARTS + 1)).all()):
        raise DataFileError(f"{what}: dp_I must hold parts 1 to {NUM_PARTS}, got {_odd(part)}.")
    if lengths[0] and not (min(u.min(), v.min()) > -1e-6 and max(u.max(), v.max()) < 1 + 1e-6):
        raise DataFileError(f"{what}: dp_U and dp_V must lie in 0..1.")
    return box, np.stack(columns, axis=1), _rle_masks(entry["dp_masks"], what)


def _numbers(values: Any, what: str) -> Float[np.ndarray, "N"]:
    try:
        array = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise DataFileError(f"{what} must be a list of numbers.") from None
    if absurd_row(array[:, None], MAX_PIXELS) is not None:
        raise DataFileError(f"{what} holds numbers that are not finite or beyond {MAX_PIXELS:,.0f}.")
    return array


def _odd(part: np.ndarray) -> str:
    wrong = part[~np.isin(part, np.arange(1, NUM_PARTS + 1))]
    return ", ".join(f"{value:g}" for value in wrong[:3])


def _rle_masks(masks: Any, what: str) -> list[bytes]:
    try:
        masks = list(masks)
    except TypeError:
        masks = None
    if masks is None or len(masks) != NUM_MASKS:
        found = "something else" if masks is None else len(masks)
        raise DataFileError(f"{what}: dp_masks must hold {NUM_MASKS} run-length masks or [], got {found}.")
    return [_counts(mask, f"{what}: mask {number}") for number, mask in enumerate(masks, 1)]


def _counts(mask: Any, what: str) -> bytes:
    if not isinstance(mask, dict):
        if mask is None or np.size(mask) == 0:
            return b""
        raise DataFileError(f"{what} must be a run-length mask or [].")
    counts, size = mask.get("counts"), mask.get("size")
    if np.shape(size) != (2,) or list(size) != [MASK_SIZE, MASK_SIZE]:
        raise DataFileError(f"{what} has the size {size}; expected {[MASK_SIZE, MASK_SIZE]}.")
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    if not isinstance(counts, bytes) or not counts:
        raise DataFileError(f"{what} has no compressed counts.")
    return counts


def _check_masks(masks: list[list[bytes]], start: int, source: str) -> None:
    flat = [mask for person in masks for mask in person]
    good = readable(*split_runs(flat), MASK_SIZE * MASK_SIZE) | np.array([not mask for mask in flat], bool)
    if not good.all():
        person, number = divmod(int(np.flatnonzero(~good)[0]), NUM_MASKS)
        raise DataFileError(
            f"{source}, item {start + person}: mask {number + 1} is damaged; its runs do not fill "
            f"{MASK_SIZE} x {MASK_SIZE} pixels."
        )


# -------------------------------------------------------------------------------------------- on the crop


def label_map(masks: Sequence[bytes]) -> UInt8[np.ndarray, "256 256"]:
    """Masks 1..14 painted in order, later over earlier; empty ones are passed over."""
    labels = np.zeros((MASK_SIZE, MASK_SIZE), dtype=np.uint8)
    for number, mask in enumerate(masks, 1):
        if mask:
            labels[decode(mask, MASK_SIZE, MASK_SIZE) == 1] = number
    return labels


def mirror_person(person: DensePerson, symmetry: UVSymmetry) -> DensePerson:
    """The labels mirrored inside the person's box, as 2020 did: x becomes 256 - x. The box stays."""
    row, column = (255 * person.v).astype(np.int64), (255 * person.u).astype(np.int64)
    own = person.part - 1
    return replace(
        person,
        xy=np.stack([256 - person.xy[:, 0], person.xy[:, 1]], axis=1),
        part=np.array(PART_FLIP)[person.part],
        u=symmetry.u[own, row, column],
        v=symmetry.v[own, row, column],
        labels=np.array(MASK_FLIP, np.uint8)[person.labels[:, ::-1]],
    )


def mirror_box(box: Float[np.ndarray, "4"], crop_box: Sequence[float]) -> Float[np.ndarray, "4"]:
    """A box x, y, width, height mirrored about the middle of the crop x1, y1, x2, y2."""
    x, y, width, height = box
    return np.array([crop_box[0] + crop_box[2] - x - width, y, width, height])


def dense_labels(person: DensePerson, crop_box: Sequence[float]) -> DensePosePoints:
    """A person's labels on the grid of the crop x1, y1, x2, y2 (picture pixels); points outside are dropped."""
    low, high = np.asarray(crop_box, dtype=np.float64).reshape(2, 2)
    corner, size = person.box[:2], person.box[2:]
    xy = (person.xy * size / 255.0 + corner - low) * GRID / (high - low)
    kept = ((xy >= 0) & (xy <= GRID - 1)).all(axis=1)
    count = int(kept.sum())

    def padded(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        result = torch.zeros(MAX_POINTS, *values.shape[1:], dtype=dtype)
        result[:count] = torch.from_numpy(values[kept])
        return result

    return DensePosePoints(
        ann_labels=torch.from_numpy(_labels_on_grid(person, low, high)),
        xy=padded(xy, torch.float32),
        part=padded(person.part, torch.int64),
        u=padded(person.u, torch.float32),
        v=padded(person.v, torch.float32),
    )


def _labels_on_grid(person: DensePerson, low: np.ndarray, high: np.ndarray) -> Int[np.ndarray, "56 56"]:
    """Nearest label at each grid position; 0 outside the person's box."""
    steps = np.arange(GRID)[:, None] * ((high - low) / GRID)
    position = np.rint(((low + steps - person.box[:2]) * (255.0 / person.box[2:])).astype(np.float32))
    inside = (position >= 0) & (position < MASK_SIZE)
    column, row = np.where(inside, position, 0).astype(np.int64).T
    labels = person.labels[np.ix_(row, column)].astype(np.int64)
    return labels * (inside[:, 1][:, None] & inside[:, 0][None, :])


def no_dense_labels() -> DensePosePoints:
    """Zeros, for a person without annotation."""
    return DensePosePoints(
        ann_labels=torch.zeros(GRID, GRID, dtype=torch.int64),
        xy=torch.zeros(MAX_POINTS, 2),
        part=torch.zeros(MAX_POINTS, dtype=torch.int64),
        u=torch.zeros(MAX_POINTS),
        v=torch.zeros(MAX_POINTS),
    )
