"""DensePose labels of a person: coarse parts and surface points on the crop's 56 x 56 grid.

`DenseAnnotations` holds the `dp_annot` dicts of a data set as checked, compact arrays; `dense_labels` places one
person's labels on a crop (docs/method.md section 8.4). Points and masks are in 0..255 of the person's own box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datasets.labels.rle import decode, parse_runs
from datasets.labels.values import MAX_PIXELS, first_implausible
from utils.geometry import MAP_SIZE
from utils.io import DataFileError, load_mat
from utils.skeleton import NUM_PARTS
from utils.structures import DensePosePoints

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

MAX_POINTS = 196
NUM_MASKS, MASK_SIZE = 14, 256
POINT_KEYS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
KEYS = ("bbox", *POINT_KEYS, "dp_masks")
SYMMETRY_FILE = Path("UV_data") / "UV_symmetry_transforms.mat"

# Mirror partners: parts 1..24 and mask classes 1..14 (0 is background).
PART_FLIP = (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23)
MASK_FLIP = (0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14)


@dataclass(frozen=True)
class UVSymmetry:
    """DensePose's mirror tables: part, U and V of a point on the mirrored body, over [255 V, 255 U]."""

    u: Float[np.ndarray, "24 256 256"]
    v: Float[np.ndarray, "24 256 256"]


@dataclass(frozen=True)
class DensePerson:
    """Labels of one person as annotated."""

    box: Float[np.ndarray, "4"]  # x, y, width, height in image pixels
    xy: Float[np.ndarray, "N 2"]  # 0..255 of the box
    part: Int[np.ndarray, "N"]  # 1..24
    u: Float[np.ndarray, "N"]
    v: Float[np.ndarray, "N"]
    labels: UInt8[np.ndarray, "256 256"]  # 0..14 over the box


def annotation_names(split: str) -> tuple[str, str]:
    """Names of DensePose-COCO's annotation file of a part ("train", "minival"): of 2018, and of today."""
    return f"densepose_coco_2014_{split}.json", f"densepose_{split}2014.json"


def with_masks(entry: dict[str, Any]) -> dict[str, Any]:
    """The DensePose labels of an annotation in COCO's form, with empty masks where it has none."""
    labels = {key: entry[key] for key in KEYS if key in entry}
    return labels | {"dp_masks": labels.get("dp_masks") or [[]] * NUM_MASKS}


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
            np.stack([*content[name].ravel()]).astype(np.float32) for name in ("U_transforms", "V_transforms")
        ]
        sound = all(t.shape == (NUM_PARTS, MASK_SIZE, MASK_SIZE) and np.isfinite(t).all() for t in tables)
    except (KeyError, ValueError, TypeError):
        sound = False
    if not sound:
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
        checked = [_checked(entry, f"{source}, item {index}") for index, entry in enumerate(entries)]
        self.annotated = np.array([points is not None for _, points, _ in checked], dtype=bool)
        self._boxes = np.array([box for box, _, _ in checked]).reshape(-1, 4)
        points = [np.zeros((0, 5)) if points is None else points for _, points, _ in checked]
        self._starts = np.cumsum([0, *map(len, points)])
        self._points = np.concatenate([np.zeros((0, 5)), *points])
        self._masks = np.array(
            [b"\n".join(masks) for _, _, masks in checked], dtype=object
        )  # "\n" is in no mask

    def __len__(self) -> int:
        return len(self.annotated)

    def person(self, index: int) -> DensePerson:
        """Labels of an annotated person; masks are painted in their order, later over earlier."""
        x, y, part, u, v = self._points[self._starts[index] : self._starts[index + 1]].T
        labels = np.zeros((MASK_SIZE, MASK_SIZE), dtype=np.uint8)
        for number, mask in enumerate(self._masks[index].split(b"\n"), 1):
            if mask:
                labels[decode(mask, MASK_SIZE, MASK_SIZE) == 1] = number
        return DensePerson(self._boxes[index], np.stack([x, y], 1), part.astype(np.int64), u, v, labels)


def _checked(entry: Any, what: str) -> tuple[np.ndarray, np.ndarray | None, list[bytes]]:
    """Box [4], points [N,5] (x, y, part, U, V; None without annotation) and compressed masks of an entry."""
    if entry is None or (isinstance(entry, dict) and not entry):
        return np.zeros(4), None, []
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
    lengths = {key: len(column) for key, column in zip(POINT_KEYS, columns, strict=True)}
    if len({*lengths.values()}) > 1 or lengths["dp_x"] > MAX_POINTS:
        given = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataFileError(
            f"{what}: lists of points must have one length of at most {MAX_POINTS}, got {given}."
        )
    _, _, part, u, v = columns
    wrong = part[~np.isin(part, np.arange(1, NUM_PARTS + 1))]
    if wrong.size:
        raise DataFileError(f"{what}: dp_I must hold parts 1 to {NUM_PARTS}, got {wrong[0]:g}.")
    if not (np.abs(np.concatenate([u, v]) - 0.5) < 0.5 + 1e-6).all():
        raise DataFileError(f"{what}: dp_U and dp_V must lie in 0..1.")
    masks = entry["dp_masks"]
    if not isinstance(masks, list | tuple | np.ndarray) or len(masks) != NUM_MASKS:
        raise DataFileError(f"{what}: dp_masks must hold {NUM_MASKS} run-length masks or [].")
    return box, np.stack(columns, axis=1), [_mask(m, f"{what}: mask {n}") for n, m in enumerate(masks, 1)]


def _numbers(values: Any, what: str) -> Float[np.ndarray, "N"]:
    try:
        array = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise DataFileError(f"{what} must be a list of numbers.") from None
    if first_implausible(array[:, None], MAX_PIXELS) is not None:
        raise DataFileError(f"{what} holds numbers that are not finite or beyond {MAX_PIXELS:,.0f}.")
    return array


def _mask(mask: Any, what: str) -> bytes:
    """Compressed counts of a mask of 256 x 256; empty for an empty one."""
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
    try:
        parse_runs(counts, MASK_SIZE, MASK_SIZE)
    except ValueError as error:
        raise DataFileError(f"{what}: {error}") from error
    return counts


# -------------------------------------------------------------------------------------------- on the crop


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
    """A person's labels on the grid of the crop x1, y1, x2, y2 (image pixels); points outside are dropped."""
    low, high = np.asarray(crop_box, dtype=np.float64).reshape(2, 2)
    corner, size = person.box[:2], person.box[2:]
    xy = (person.xy * size / 255.0 + corner - low) * MAP_SIZE / (high - low)
    inside = ((xy >= 0) & (xy <= MAP_SIZE - 1)).all(axis=1)
    count = int(inside.sum())

    def padded(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        result = torch.zeros(MAX_POINTS, *values.shape[1:], dtype=dtype)
        result[:count] = torch.from_numpy(values[inside])
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
    steps = np.arange(MAP_SIZE)[:, None] * ((high - low) / MAP_SIZE)
    position = np.rint(((low + steps - person.box[:2]) * (255.0 / person.box[2:])).astype(np.float32))
    inside = (position >= 0) & (position < MASK_SIZE)
    column, row = np.where(inside, position, 0).astype(np.int64).T
    labels = person.labels[np.ix_(row, column)].astype(np.int64)
    return labels * (inside[:, 1][:, None] & inside[:, 0][None, :])


def no_dense_labels() -> DensePosePoints:
    """Zeros, for a person without annotation."""
    ann_labels = torch.zeros(MAP_SIZE, MAP_SIZE, dtype=torch.int64)
    xy, part, u, v = torch.zeros(MAX_POINTS, 2), torch.zeros(MAX_POINTS, dtype=torch.int64), *torch.zeros(2, MAX_POINTS)
    return DensePosePoints(ann_labels=ann_labels, xy=xy, part=part, u=u, v=v)
