"""Labels of a data set as typed arrays, read from an .npz file (docs/method.md section 8.5)."""

from __future__ import annotations

import contextlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.labels.densepose import DenseAnnotations
from datasets.labels.values import MAX_PIXELS, first_implausible
from utils.body import SMPL_ID
from utils.geometry import BOX_UNIT
from utils.io import DataFileError, load_npz
from utils.skeleton import NUM_GT_JOINTS, NUM_JOINTS, NUM_OPENPOSE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# Fields of numbers: shape of an item, and the largest plausible absolute value, whatever the unit.
NUMBERS: dict[str, tuple[tuple[int, ...], float]] = {
    "center": ((2,), MAX_PIXELS),
    "scale": ((), MAX_PIXELS / BOX_UNIT),
    "part": ((NUM_GT_JOINTS, 3), MAX_PIXELS),
    "openpose": ((NUM_OPENPOSE, 3), MAX_PIXELS),
    "S": ((NUM_GT_JOINTS, 4), MAX_PIXELS),
    "pose": ((72,), 1e3),
    "shape": ((10,), 1e3),
    "has_smpl": ((), 1.0),
    "smpl_2dkps": ((NUM_JOINTS, 3), MAX_PIXELS),
    "smpl_joints": ((NUM_JOINTS, 3), MAX_PIXELS),
}
FIELDS = ("imgname", "maskname", "partname", *NUMBERS, "gender", "dp_annot", "body_model")
GENDERS = {"m": 0, "male": 0, "0": 0, "f": 1, "female": 1, "1": 1}


@dataclass(frozen=True)
class Labels:
    """Labels of N people in image pixels, metres and radians; None where a set has no such labels."""

    imgname: np.ndarray  # [N] text, below the set's image folder
    center: Float[np.ndarray, "N 2"]
    scale: Float[np.ndarray, "N"]  # side of the box / 200 px
    keypoints: Float[np.ndarray, "N 49 3"] | None = None  # x, y, confidence
    joints_3d: Float[np.ndarray, "N 24 4"] | None = None  # x, y, z, confidence
    rotvec: Float[np.ndarray, "N 72"] | None = None
    betas: Float[np.ndarray, "N 10"] | None = None
    has_smpl: Bool[np.ndarray, "N"] | None = None  # None: no person
    body_model: str = SMPL_ID  # id of the body that pose and shape belong to
    smpl_keypoints: Float[np.ndarray, "N 24 3"] | None = None  # 2D SMPL joints with weights
    smpl_joints: Float[np.ndarray, "N 24 3"] | None = None  # 3D SMPL joints, to certify pose and shape
    gender: Int[np.ndarray, "N"] | None = None  # 0 male, 1 female; None: unknown
    maskname: np.ndarray | None = None  # [N] text, below the folder of masks; empty: the person has none
    partname: np.ndarray | None = None
    dense: DenseAnnotations | None = None
    image_id: Int[np.ndarray, "N"] | None = None  # COCO's
    score: Float[np.ndarray, "N"] | None = None  # of detections; 1 for annotated boxes
    unread: tuple[str, ...] = ()  # fields of the file that nothing reads

    def __len__(self) -> int:
        return len(self.imgname)

    @property
    def left_out(self) -> dict[str, int]:
        """Counts of unused labels of the file, by reason."""
        reason = f"fields of the label file that nothing reads ({', '.join(self.unread)})"
        return {reason: len(self.unread)} if self.unread else {}


def read_label_file(path: str | Path, required: tuple[str, ...]) -> Labels:
    """The labels of an .npz file; only `dp_annot` is unpickled, through an allow-list.

    Args:
        required: fields that the file must hold.

    Raises:
        DataFileError: a field is missing or not as expected; the sentence names it.
    """
    arrays = load_npz(path, objects=True, only=FIELDS)
    missing = [name for name in required if name not in arrays]
    if missing:
        raise DataFileError(f"{path} lacks {', '.join(missing)}; expected {', '.join(required)}.")
    if ("pose" in arrays) != ("shape" in arrays):
        raise DataFileError(f"{path} holds {'pose' if 'pose' in arrays else 'shape'} alone; both belong together.")
    imgname = _text(arrays["imgname"], f"{path}: imgname", arrays["imgname"].size)
    count = len(imgname)
    if not count:
        raise DataFileError(f"{path} holds no people: imgname is empty.")
    found = {
        name: _numbers(arrays[name], f"{path}: {name}", (count, *shape), limit)
        for name, (shape, limit) in NUMBERS.items()
        if name in arrays
    }
    for item in np.flatnonzero(found["scale"] <= 0)[:1]:
        value = found["scale"][item]
        raise DataFileError(
            f"{path}: scale of item {item} is {value:g}; expected the side of its box / 200 px."
        )
    double = {
        name: found[name].astype(np.float64) for name in ("center", "scale", "pose", "shape") if name in found
    }
    return Labels(
        imgname=imgname,
        center=double["center"],
        scale=double["scale"],
        keypoints=_all_keypoints(found.get("openpose"), found.get("part"), count),
        joints_3d=found.get("S"),
        rotvec=double.get("pose"),
        betas=double.get("shape"),
        has_smpl=found.get("has_smpl", np.ones(count)) != 0 if "pose" in found else None,
        smpl_keypoints=found.get("smpl_2dkps"),
        smpl_joints=found.get("smpl_joints"),
        gender=_genders(arrays["gender"], f"{path}: gender", count) if "gender" in arrays else None,
        dense=_dense(arrays["dp_annot"], f"{path}: dp_annot", count) if "dp_annot" in arrays else None,
        unread=_unread(path),
        body_model=_name(arrays["body_model"], f"{path}: body_model") if "body_model" in arrays else SMPL_ID,
        **{n: _text(arrays[n], f"{path}: {n}", count) for n in ("maskname", "partname") if n in arrays},
    )


def _unread(path: str | Path) -> tuple[str, ...]:
    with zipfile.ZipFile(path) as archive:
        return tuple(sorted({name.removesuffix(".npy") for name in archive.namelist()} - {*FIELDS}))


def _all_keypoints(openpose: np.ndarray | None, part: np.ndarray | None, count: int) -> np.ndarray | None:
    if openpose is None and part is None:
        return None
    openpose = np.zeros((count, NUM_OPENPOSE, 3)) if openpose is None else openpose
    return np.concatenate([openpose, np.zeros((count, 24, 3)) if part is None else part], axis=1)


def _numbers(values: np.ndarray, what: str, shape: tuple[int, ...], limit: float) -> np.ndarray:
    """Plausible numbers of the wanted shape; floating types stay as they are, others become float64."""
    if values.dtype == object:
        with contextlib.suppress(ValueError):  # of different lengths
            values = np.asarray(values.tolist())  # numbers saved as Python objects
    if values.dtype.kind not in ("fiub" if len(shape) == 1 else "fiu"):
        raise DataFileError(f"{what} holds {values.dtype}; expected numbers.")
    if len(shape) == 1 and values.size == shape[0]:
        values = values.reshape(shape)  # [N, 1]
    if values.shape != shape:
        too_long = (
            len(shape) == values.ndim == 2 and values.shape[0] == shape[0] and values.shape[1] > shape[1]
        )
        cure = f" Keep the first {shape[1]}." if too_long else ""
        raise DataFileError(f"{what} has the shape {values.shape}; expected {shape}.{cure}")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    item = first_implausible(values, limit)
    if item is not None:
        numbers = values[item].reshape(-1)
        worst = numbers[np.argmax(~(np.abs(numbers) <= limit))]
        fault = f"is {worst:g}, expected at most {limit:,.0f}" if np.isfinite(worst) else "is not finite"
        raise DataFileError(f"{what} of item {item} {fault}.")
    return values


def _text(values: np.ndarray, what: str, count: int) -> np.ndarray:
    if values.dtype.kind in "OS" and all(isinstance(value, str | bytes) for value in values.flat):
        decoded = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values.flat]
        values = np.array(decoded, dtype=str).reshape(values.shape)
    if values.dtype.kind != "U":
        raise DataFileError(f"{what} holds {values.dtype}; expected text.")
    return _of_shape(values, what, count)


def _name(value: np.ndarray, what: str) -> str:
    if value.dtype.kind != "U" or value.ndim:
        raise DataFileError(f"{what} is {value.dtype} of the shape {value.shape}; expected one text, the body's id.")
    return str(value)


def _genders(values: np.ndarray, what: str, count: int) -> Int[np.ndarray, "N"]:
    names = [_plain(value) for value in _of_shape(values, what, count)]
    unknown = sorted({name for name in names if name not in GENDERS})
    if unknown:
        raise DataFileError(f"{what} holds {', '.join(map(repr, unknown[:3]))}; expected 'm' or 'f'.")
    return np.array([GENDERS[name] for name in names], dtype=np.int32)


def _plain(value: Any) -> str:
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip().lower()


def _dense(values: np.ndarray, what: str, count: int) -> DenseAnnotations:
    return DenseAnnotations(_of_shape(values, what, count), what)


def _of_shape(values: np.ndarray, what: str, count: int) -> np.ndarray:
    if values.shape != (count,):
        raise DataFileError(f"{what} has the shape {values.shape}; expected ({count},).")
    return values
