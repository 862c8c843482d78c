"""Label files of data sets: their fields, rows with a count of what was left out, and how they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasets.labels.arrays import NUMBERS
from utils.io import save_arrays
from utils.io.marks import LABELS
from utils.skeleton import NUM_GT_JOINTS, NUM_JOINTS

# Kind and shape of one item in every field; "U" is text, "O" plain Python values (numbers, text, lists, dicts).
FIELDS: dict[str, tuple[str, tuple[int, ...]]] = {
    **{name: ("f8", shape) for name, (shape, _) in NUMBERS.items()},
    **dict.fromkeys(("imgname", "maskname", "partname", "gender"), ("U", ())),
    **dict.fromkeys(("im_id", "id"), ("i8", ())),
    "smpl_joints": ("f4", (NUM_JOINTS, 3)),
    "dp_annot": ("O", ()),
}
_BOX = ("imgname", "center", "scale")
_DENSE = (*_BOX, "part", "smpl_2dkps", "dp_annot", "im_id", "id")
_KEYPOINTS = (*_BOX, "part", "openpose")
FILES: dict[str, tuple[str, ...]] = {
    "dp_coco_2014_train.npz": _DENSE,
    "dp_coco_2014_minival.npz": _DENSE,
    "coco_2014_train.npz": _KEYPOINTS,
    "coco_2014_val.npz": (*_BOX, "part"),
    "3dpw_test.npz": (*_BOX, "pose", "shape", "gender", "smpl_joints"),
    "mpi_inf_3dhp_train.npz": (*_BOX, "part", "S", "openpose", "pose", "shape", "has_smpl"),
    "mpi_inf_3dhp_valid.npz": (*_BOX, "part", "S"),
    "h36m_valid_protocol1.npz": (*_BOX, "S"),
    "h36m_valid_protocol2.npz": (*_BOX, "S"),
    "lsp_dataset_test.npz": (*_BOX, "maskname", "partname", "part"),
    "lsp_dataset_original_train.npz": _KEYPOINTS,
    "hr-lspet_train.npz": _KEYPOINTS,
    "mpii_train.npz": _KEYPOINTS,
}


class Rows:
    """The items of one label file, and how many were left out for what reason."""

    def __init__(self, file: str) -> None:
        """file: a name of `FILES`."""
        self.file = file
        self.fields = FILES[file]
        self.notes: list[str] = []  # sentences printed behind the count
        self.left_out: Counter[str] = Counter()
        self.unusable = 0  # items left out because something is wrong with them, not by the set's rule
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, **values: Any) -> bool:
        """Add an item, unless it has no box or a number that cannot be; False when it was left out.

        Raises ValueError when a value has another shape than its field, TypeError when a field is missing.
        """
        if values.keys() != set(self.fields):
            raise TypeError(f"{self.file} has the fields {self.fields}, given were {tuple(values)}.")
        row = {name: _item(name, value) for name, value in values.items()}
        if not all(np.isfinite(v).all() for name, v in row.items() if FIELDS[name][0] not in "UO"):
            self.leave_out("with a number that is not finite", damaged=True)
        elif row["scale"] <= 0:
            self.leave_out("without a box", damaged=True)
        elif any((np.abs(row[name]) > limit).any() for name, (_, limit) in NUMBERS.items() if name in row):
            self.leave_out("with an absurd number", damaged=True)
        else:
            self._rows.append(row)
            return True
        return False

    def leave_out(self, reason: str, count: int = 1, *, damaged: bool = False) -> None:
        """Count items that are not written; `reason` continues the sentence "3 of them ...".

        damaged: something is wrong with an item or its image; otherwise the set's own rule leaves it out.
        """
        if count:
            self.left_out[reason] += count
            self.unusable += damaged * count

    def arrays(self) -> dict[str, np.ndarray]:
        """One array for every field, its first axis running over the items."""
        arrays = {}
        for name in self.fields:
            kind, shape = FIELDS[name]
            array = np.empty(len(self), object) if kind == "O" else np.zeros((len(self), *shape), kind)
            column = [row[name] for row in self._rows]
            if kind == "O":
                array[:] = column
            elif column:
                array = np.array(column, None if kind == "U" else kind)
            arrays[name] = array
        return arrays

    def summary(self) -> str:
        """Counts of the items that are written, and of those left out by reason."""
        total = len(self) + self.left_out.total()
        lines = [f"{self.file}: kept {len(self):,} of {total:,}"]
        lines += [f"  left out {count:,} {reason}" for reason, count in self.left_out.most_common()]
        if "openpose" in self.fields:
            detected = sum(bool(row["openpose"].any()) for row in self._rows)
            lines.append(f"  detections of OpenPose: for {detected:,} of {len(self):,}")
        return "\n".join(lines + [f"  {note}" for note in self.notes])


def _item(name: str, value: Any) -> Any:
    kind, shape = FIELDS[name]
    if kind == "O":
        return value
    array = np.asarray(value, kind)
    if array.shape != shape:
        raise ValueError(f"'{name}' of an item must have the shape {shape}, not {array.shape}")
    return array


def gt24(points: np.ndarray, rows: Iterable[int], confidence: np.ndarray | float = 1.0) -> np.ndarray:
    """The 24 annotated joints [24,D+1] of a person, zeros where there is no label.

    Args:
        points: labelled joints [K,D].
        rows: the row in `skeleton.GT24_NAMES` of each point.
        confidence: last column of the labelled rows, a number or [K].
    """
    joints = np.zeros((NUM_GT_JOINTS, points.shape[1] + 1))
    joints[list(rows), :-1] = points
    joints[list(rows), -1] = confidence
    return joints


def save_labels(path: Path, arrays: Mapping[str, np.ndarray], replace: bool = True) -> None:
    """Write label arrays whole or not at all; `replace` a file of an earlier conversion.

    `dp_annot` is the one field of Python objects: its items must be plain values, as JSON has them, so that
    `load_npz(path, objects=True)` reads them back. Raises TypeError for others.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject and not all(map(_is_plain, array)):
            raise TypeError(f"'{name}' holds more than numbers, text, lists and dicts.")
    save_arrays(path, dict(arrays), LABELS, replace)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)
