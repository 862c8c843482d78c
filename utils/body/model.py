"""Body-model arrays: reading official and open files, regressors, linear blend skinning (docs/method.md 4.3)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from utils.io import OPEN_DIR, DataFileError, load_npy, load_npz, read_pickle
from utils.skeleton import EXTRA_JOINT_NAMES, H36M17_NAMES, SMPL_VERTEX_JOINT_IDS, VERTEX_JOINT_NAMES
from utils.structures import BodyModel, Record, Regressor
from utils.wording import shorten

if TYPE_CHECKING:
    from jaxtyping import Float

SMPL_ID = "smpl"
SMPL_VERTICES = 6890
NUM_BETAS = 10
BODY_KEYS = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")

# Kind of regressor -> its array in the open body's regressors.npz, and its rows.
REGRESSOR_ROWS = {
    "surface": ("vertex_joints", VERTEX_JOINT_NAMES),
    "extra": ("extra", EXTRA_JOINT_NAMES),
    "h36m": ("h36m", H36M17_NAMES),
}


# --------------------------------------------------------------------------------------------- reading a body


def read_smpl_file(path: str | os.PathLike) -> BodyModel:
    """The arrays of an official SMPL file (.pkl as published, or .npz) or an open body (.npz); runs no code of it.

    Only the first 10 shape components are read. A file without `model_id` is an official one, "smpl".

    Raises:
        FileNotFoundError: when it is not there.
        UnsafeFileError: naming the call that the file asks for.
        DataFileError: naming the array that is missing or not as expected.
    """
    path = Path(path)
    if path.suffix.lower() not in (".pkl", ".npz"):
        raise DataFileError(f"{path} is no body file: expected the suffix .pkl or .npz.")
    data = read_pickle(path) if path.suffix.lower() == ".pkl" else load_npz(path, objects=True)
    if not isinstance(data, dict):
        raise DataFileError(f"{path} holds a {type(data).__name__}, expected a dictionary of body arrays.")
    missing = [key for key in BODY_KEYS if key not in data]
    if missing:
        raise DataFileError(f"{path} is no SMPL body: it lacks {', '.join(missing)}.")
    try:
        with np.errstate(over="ignore"):
            return _body_from_arrays(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataFileError(f"{path} is no SMPL body: {shorten(error, 300)}") from error


def load_open_body() -> BodyModel:
    """The open body that ships with the project, as `read_smpl_file` gives it."""
    return read_smpl_file(OPEN_DIR / "body.npz")


def _body_from_arrays(data: dict[str, Any]) -> BodyModel:
    model_id = shorten(data.get("model_id", SMPL_ID))
    vertices = len(_numbers(data, "v_template"))
    if model_id == SMPL_ID and vertices != SMPL_VERTICES:
        raise ValueError(f"v_template has {vertices} vertices; SMPL has {SMPL_VERTICES}.")
    joints = len(_numbers(data, "J_regressor"))
    if joints != 24:
        raise ValueError(f"it has {joints} joints; SMPL has 24 (SMPL-H and SMPL-X files do not fit).")
    shapedirs = _numbers(data, "shapedirs")
    if shapedirs.shape[:2] != (vertices, 3) or shapedirs.ndim != 3 or shapedirs.shape[2] < NUM_BETAS:
        raise ValueError(f"shapedirs has the shape {shapedirs.shape}; expected [{vertices}, 3, 10 or more].")
    posedirs = None
    if data.get("posedirs") is not None:
        posedirs = np.ascontiguousarray(_numbers(data, "posedirs", (vertices, 3, 207)).reshape(-1, 207).T)
    return BodyModel(
        model_id=model_id,
        v_template=_numbers(data, "v_template", (vertices, 3)),
        shapedirs=np.ascontiguousarray(shapedirs[:, :, :NUM_BETAS]),
        posedirs=posedirs,
        J_regressor=_numbers(data, "J_regressor", (24, vertices)),
        weights=_numbers(data, "weights", (vertices, 24)),
        parents=_parents(np.asarray(data["kintree_table"])),
        faces=_faces(np.asarray(data["f"]), vertices),
    )


def _numbers(data: dict[str, Any], key: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """An array as float32. Raises ValueError for other values than finite numbers and for another shape."""
    array = np.asarray(data[key])
    if array.dtype == object and array.ndim == 0:  # np.savez wraps a sparse matrix so
        array = np.asarray(array.item())
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{key} holds {array.dtype} values, expected numbers.")
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{key} holds values that are not finite.")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{key} has the shape {array.shape}; expected {shape}.")
    return array


def _parents(table: np.ndarray) -> np.ndarray:
    if table.shape != (2, 24) or table.dtype.kind not in "iu":
        raise ValueError(f"kintree_table is {table.dtype} {table.shape}; expected integers [2, 24].")
    parents = table[0].astype(np.int64)
    parents[0] = -1  # the official files hold 4294967295
    if np.any(parents[1:] < 0) or np.any(parents[1:] >= np.arange(1, 24)):
        raise ValueError("kintree_table is no tree whose parents come before their children.")
    return parents


def _faces(faces: np.ndarray, vertices: int) -> np.ndarray:
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise ValueError(f"f is {faces.dtype} {faces.shape}; expected integers [F, 3].")
    if faces.size and (faces.min() < 0 or faces.max() >= vertices):
        raise ValueError(f"f names vertices outside 0..{vertices - 1}.")
    return faces.astype(np.int32)


# ------------------------------------------------------------------------------------------------- regressors


def read_regressor(source: str | os.PathLike | np.ndarray, kind: str) -> Regressor:
    """Rows that make joints from vertices.

    Args:
        source: an official .npy file or an array [N, 6890] (body "smpl"), or the open body's regressors.npz.
        kind: "extra" (9 rows), "h36m" (17) or "surface" (21).

    Raises:
        ValueError: for another kind.
        DataFileError: for a wrong shape or a file that lacks the kind.
    """
    if kind not in REGRESSOR_ROWS:
        raise ValueError(f"Unknown kind of regressor '{kind}'; known are {', '.join(REGRESSOR_ROWS)}.")
    key, names = REGRESSOR_ROWS[kind]
    what, model_id = "The array", SMPL_ID
    if isinstance(source, np.ndarray):
        matrix = source
    elif Path(source).suffix.lower() == ".npz":
        what, arrays = str(source), load_npz(source)
        if key not in arrays or "model_id" not in arrays:
            raise DataFileError(f"{source} is no regressor file of an open body: it lacks '{key}' or 'model_id'.")
        matrix, model_id = arrays[key], str(arrays["model_id"])
    else:
        what, matrix = str(source), load_npy(source)
    fits = matrix.ndim == 2 and len(matrix) == len(names) and matrix.dtype.kind in "fiu"
    if not fits or (model_id == SMPL_ID and matrix.shape[1] != SMPL_VERTICES):
        columns = SMPL_VERTICES if model_id == SMPL_ID else "V"
        raise DataFileError(
            f"{what} is {matrix.dtype} {matrix.shape}; a '{kind}' regressor is [{len(names)}, {columns}]."
        )
    if not np.isfinite(matrix).all():
        raise DataFileError(f"{what} holds values that are not finite; a '{kind}' regressor has none.")
    return Regressor(model_id, np.ascontiguousarray(matrix, dtype=np.float32), names)


def surface_points(body: BodyModel, regressors: str | os.PathLike | None = None) -> Regressor:
    """Regressor of the 21 points on the surface: single vertices of the official mesh, dense rows of an open body.

    regressors: the regressors.npz that belongs to an open body (default: the shipped one).
    """
    if body.model_id != SMPL_ID:
        return read_regressor(regressors or OPEN_DIR / "regressors.npz", "surface")
    matrix = np.zeros((len(SMPL_VERTEX_JOINT_IDS), len(body.v_template)), np.float32)
    matrix[np.arange(len(matrix)), SMPL_VERTEX_JOINT_IDS] = 1
    return Regressor(SMPL_ID, matrix, VERTEX_JOINT_NAMES)


# --------------------------------------------------------------------------------------------------- skinning


@dataclass(frozen=True)
class BodyTensors(Record):
    """Tensors for skinning, laid out for speed: coordinates come before vertices ([3, V] flattened)."""

    template: Float[Tensor, "3V"]
    shapedirs: Float[Tensor, "10 3V"]
    posedirs: Float[Tensor, "207 3V"] | None
    joint_template: Float[Tensor, "72"]  # joints of the mean shape, and how they move with the shape
    joint_shapedirs: Float[Tensor, "10 72"]
    weights: Float[Tensor, "24 V"]


def body_tensors(body: BodyModel) -> BodyTensors:
    """A body laid out for `skin`; joint positions are regressed once, for the mean and each shape component."""
    regressor = body.J_regressor.astype(np.float64)
    joint_shapedirs = np.einsum("jv,vcs->sjc", regressor, body.shapedirs).reshape(NUM_BETAS, 72)
    posedirs = body.posedirs
    if posedirs is not None:
        posedirs = posedirs.reshape(207, -1, 3).transpose(0, 2, 1).reshape(207, -1)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    return BodyTensors(
        template=tensor(body.v_template.T.reshape(-1)),
        shapedirs=tensor(body.shapedirs.transpose(2, 1, 0).reshape(NUM_BETAS, -1)),
        posedirs=None if posedirs is None else tensor(posedirs),
        joint_template=tensor((regressor @ body.v_template).reshape(-1)),
        joint_shapedirs=tensor(joint_shapedirs),
        weights=tensor(body.weights.T),
    )


def kinematic_chain(
    rotmat: Float[Tensor, "B 24 3 3"], joints: Float[Tensor, "B 24 3"], parents: tuple[int, ...]
) -> tuple[Float[Tensor, "B 24 3 3"], Float[Tensor, "B 24 3"]]:
    """Rotations and positions (metres) of the joints in the root's frame, from rotations relative to the parents."""
    rotations, positions = [rotmat[:, 0]], [joints[:, 0]]
    for joint, parent in enumerate(parents[1:], start=1):
        offset = joints[:, joint] - joints[:, parent]
        positions.append(positions[parent] + (rotations[parent] @ offset[..., None])[..., 0])
        rotations.append(rotations[parent] @ rotmat[:, joint])
    return torch.stack(rotations, dim=1), torch.stack(positions, dim=1)


def skin(
    body: BodyTensors,
    parents: tuple[int, ...],
    rotmat: Float[Tensor, "B 24 3 3"],
    betas: Float[Tensor, "B 10"],
) -> tuple[Float[Tensor, "B 3 V"], Float[Tensor, "B 24 3"]]:
    """Vertices (coordinates first) and joints of a body posed by linear blend skinning, metres.

    Args:
        body: of `body_tensors`.
        parents: of the 24 joints, -1 for the root.
        rotmat: rotations relative to the parents; the root's turns the whole body.
        betas: shape coefficients.
    """
    batch = len(rotmat)
    vertices = torch.addmm(body.template, betas, body.shapedirs)
    joints = torch.addmm(body.joint_template, betas, body.joint_shapedirs).view(batch, 24, 3)
    if body.posedirs is not None:
        bend = rotmat[:, 1:] - torch.eye(3, dtype=rotmat.dtype, device=rotmat.device)
        vertices = torch.addmm(vertices, bend.flatten(1), body.posedirs)
    rotations, positions = kinematic_chain(rotmat, joints, parents)
    shift = positions - (rotations @ joints[..., None])[..., 0]  # the rest position is taken out
    transforms = torch.cat([rotations, shift[..., None]], dim=-1).flatten(2).transpose(1, 2)  # [B, 12, 24]
    blended = (transforms @ body.weights).view(batch, 3, 4, -1)
    x, y, z = vertices.view(batch, 1, 3, -1).unbind(2)
    return blended[:, :, 0] * x + blended[:, :, 1] * y + blended[:, :, 2] * z + blended[:, :, 3], positions
