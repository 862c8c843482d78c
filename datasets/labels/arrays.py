"""Labels of a data set as typed arrays, read from the .npz files of docs/method.md section 8.5 and checked at once."""

from __future__ import annotations

import contextlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.labels.densepose import DenseAnnotations
from datasets.labels.values import MAX_PIXELS, absurd_row
from utils.io import DataFileError, load_npz

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

NUM_OPENPOSE = 25
TEXT = ("imgname", "maskname", "partname")
SHAPES: dict[str, tuple[int, ...]] = {
    "center": (2,),
    "scale": (),
    "part": (24, 3),
    "openpose": (NUM_OPENPOSE, 3),
    "S": (24, 4),
    "pose": (72,),
    "shape": (10,),
    "has_smpl": (),
    "smpl_2dkps": (24, 3),
    "smpl_joints": (24, 3),
}
# Numbers beyond are absurd, whatever the unit.
LIMITS = {
    **dict.fromkeys(("center", "part", "openpose", "smpl_2dkps", "S", "smpl_joints"), MAX_PIXELS),
    "scale": MAX_PIXELS / 200,
    "pose": 1e3,
    "shape": 1e3,
    "has_smpl": 1.0,
}
FIELDS = (*TEXT, *SHAPES, "gender", "dp_annot")
GENDERS = {"m": 0, "male": 0, "0": 0, "f": 1, "female": 1, "1": 1}


@dataclass(frozen=True)
class Labels:
    """What is known of N people, in picture pixels and metres; None where a set has no such labels."""

    imgname: np.ndarray  # [N] text, below the set's picture folder
    center: Float[np.ndarray, "N 2"]
    scale: Float[np.ndarray, "N"]  # side of the box / 200 px
    keypoints: Float[np.ndarray, "N 49 3"] | None = None  # x, y, confidence
    joints_3d: Float[np.ndarray, "N 24 4"] | None = None
    rotvec: Float[np.ndarray, "N 72"] | None = None
    betas: Float[np.ndarray, "N 10"] | None = None
    has_smpl: Bool[np.ndarray, "N"] | None = None  # None: nobody
    smpl_keypoints: Float[np.ndarray, "N 24 3"] | None = None  # 2D SMPL joints with weights
    smpl_joints: Float[np.ndarray, "N 24 3"] | None = None  # 3D SMPL joints, to certify pose and shape
    gender: Int[np.ndarray, "N"] | None = None  # 0 male, 1 female; None: unknown
    maskname: np.ndarray | None = None  # [N] text, below the folder of masks
    partname: np.ndarray | None = None
    dense: DenseAnnotations | None = None
    image_id: Int[np.ndarray, "N"] | None = None  # COCO's
    score: Float[np.ndarray, "N"] | None = None  # of detections; 1 for annotated boxes
    unread: tuple[str, ...] = ()  # fields of the file that nothing reads

    def __len__(self) -> int:
        return len(self.imgname)

    @property
    def left_out(self) -> dict[str, int]:
        """What of the file is not used, counted by reason."""
        reason = f"fields of the label file that nothing reads ({', '.join(self.unread)})"
        return {reason: len(self.unread)} if self.unread else {}


def read_label_file(path: str | Path, required: tuple[str, ...]) -> Labels:
    """Read a label file. Plain arrays are not unpickled; `dp_annot` is, through an allow-list.

    Raises DataFileError naming the field that is missing or not as expected, and what was expected.
    """
    arrays = load_npz(path, objects=True, only=FIELDS)
    missing = [name for name in required if name not in arrays]
    if missing:
        raise DataFileError(f"{path} lacks {', '.join(missing)}; expected {', '.join(required)}.")
    if ("pose" in arrays) != ("shape" in arrays):
        lone = "pose" if "pose" in arrays else "shape"
        raise DataFileError(f"{path} holds {lone} alone; pose and shape belong together.")
    names = _text(arrays["imgname"], f"{path}: imgname", None)
    count = len(names)
    if not count:
        raise DataFileError(f"{path} holds no people: imgname is empty.")
    numbers = {
        name: _numbers(arrays[name], f"{path}: {name}", (count, *shape), LIMITS[name])
        for name, shape in SHAPES.items()
        if name in arrays
    }
    check_boxes(numbers["center"], numbers["scale"], str(path))
    rotvec = _double(numbers.get("pose"))
    return Labels(
        imgname=names,
        center=_double(numbers["center"]),
        scale=_double(numbers["scale"]),
        keypoints=_all_keypoints(numbers.get("openpose"), numbers.get("part")),
        joints_3d=numbers.get("S"),
        rotvec=rotvec,
        betas=_double(numbers.get("shape")),
        has_smpl=None if rotvec is None else numbers.get("has_smpl", np.ones(count)) != 0,
        smpl_keypoints=numbers.get("smpl_2dkps"),
        smpl_joints=numbers.get("smpl_joints"),
        gender=_genders(arrays["gender"], f"{path}: gender", count) if "gender" in arrays else None,
        dense=_dense(arrays["dp_annot"], f"{path}: dp_annot", count) if "dp_annot" in arrays else None,
        unread=tuple(sorted(set(_names_in(path)) - set(FIELDS))),
        **{n: _text(arrays[n], f"{path}: {n}", count) for n in ("maskname", "partname") if n in arrays},
    )


def _names_in(path: str | Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def check_boxes(center: np.ndarray, scale: np.ndarray, source: str) -> None:
    """Raise DataFileError naming the first item whose scale is not positive."""
    if not (scale > 0).all():
        index = int(np.flatnonzero(~(scale > 0))[0])
        raise DataFileError(
            f"{source}: scale of item {index} is {scale[index]:g}; expected the side of the person's box / 200 px."
        )


def _double(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else values.astype(np.float64)


def _all_keypoints(openpose: np.ndarray | None, part: np.ndarray | None) -> np.ndarray | None:
    if openpose is None and part is None:
        return None
    count = len(part if openpose is None else openpose)
    openpose = np.zeros((count, NUM_OPENPOSE, 3)) if openpose is None else openpose
    part = np.zeros((count, 24, 3)) if part is None else part
    return np.concatenate([openpose, part], axis=1)


def _numbers(values: np.ndarray, what: str, shape: tuple[int, ...], limit: float) -> np.ndarray:
    """Plausible numbers of the wanted shape; floating types stay as they are, others become float64."""
    if values.dtype == object:
        with contextlib.suppress(ValueError):  # of different lengths
            values = np.asarray(values.tolist())  # numbers saved as Python objects
    if values.dtype.kind not in ("fiub" if shape[1:] == () else "fiu"):
        raise DataFileError(f"{what} holds {values.dtype}; expected numbers.")
    if values.shape != shape:
        if len(shape) > 1 or values.size != shape[0]:
            longer = len(shape) == 2 and values.ndim == 2 and values.shape[0] == shape[0] < np.inf
            cure = f" Keep the first {shape[1]}." if longer and values.shape[1] > shape[1] else ""
            raise DataFileError(f"{what} has the shape {values.shape}; expected {shape}.{cure}")
        values = values.reshape(shape)  # [N, 1]
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    row = absurd_row(values, limit)
    if row is not None:
        numbers = values[row].reshape(-1)
        worst = numbers[np.argmax(~(np.abs(numbers) <= limit))]
        told = f"is {worst:g}, expected at most {limit:,.0f}" if np.isfinite(worst) else "is not finite"
        raise DataFileError(f"{what} of item {row} {told}.")
    return values


def _text(values: np.ndarray, what: str, count: int | None) -> np.ndarray:
    if values.dtype.kind == "O" and all(isinstance(value, str | bytes) for value in values.reshape(-1)):
        values = np.array(
            [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values.reshape(-1)],
            dtype=str,
        )
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind != "U":
        raise DataFileError(f"{what} holds {values.dtype}; expected text.")
    if values.ndim != 1 or count not in (None, len(values)):
        expected = "N" if count is None else count
        raise DataFileError(f"{what} has the shape {values.shape}; expected ({expected},).")
    return values


def _genders(values: np.ndarray, what: str, count: int) -> Int[np.ndarray, "N"]:
    if values.shape != (count,):
        raise DataFileError(f"{what} has the shape {values.shape}; expected ({count},).")
    told = [_plain(value) for value in values]
    unknown = sorted({name for name in told if name not in GENDERS})
    if unknown:
        raise DataFileError(f"{what} holds {', '.join(map(repr, unknown[:3]))}; expected 'm' or 'f'.")
    return np.array([GENDERS[name] for name in told], dtype=np.int32)


def _plain(value: Any) -> str:
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip().lower()


def _dense(values: np.ndarray, what: str, count: int) -> DenseAnnotations:
    if values.shape != (count,):
        raise DataFileError(f"{what} has the shape {values.shape}; expected ({count},).")
    return DenseAnnotations(values, what)
