"""DensePose surface atlases: the published `UV_Processed.mat` or the open one -> `Atlas` and face colours.

An atlas says for every face which of 24 body parts it belongs to and where its corners lie on that part's
unit square (docs/method.md section 5.1). The published one is cut along seams, so it has more vertices than
the body; `vertex_map` leads back.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.body.model import SMPL_ID, SMPL_VERTICES
from utils.io import DATA_DIR, DataFileError, load_mat, load_npz
from utils.skeleton import NUM_PARTS
from utils.structures import Atlas
from utils.wording import shorten

if TYPE_CHECKING:
    from jaxtyping import Float

OFFICIAL_ATLAS = Path("UV_data") / "UV_Processed.mat"
OPEN_ATLAS = Path("open") / "atlas.npz"
MAT_FIELDS = ("All_FaceIndices", "All_Faces", "All_U_norm", "All_V_norm", "All_vertices")


def load_uv_processed(path: str | Path) -> Atlas:
    """The atlas of the official SMPL body, from DensePose's `UV_Processed.mat`.

    Raises FileNotFoundError, or DataFileError that names the field that is missing or not as expected.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no DensePose atlas at {path}. Run `bash get_densepose_uv.sh` to fetch it.")
    mat = _with_fields(path, load_mat(path), MAT_FIELDS)
    part = _whole_numbers(path, "All_FaceIndices", mat["All_FaceIndices"].reshape(-1), 1, NUM_PARTS)
    vertices = _whole_numbers(path, "All_vertices", mat["All_vertices"].reshape(-1), 1, SMPL_VERTICES)
    faces = _whole_numbers(path, "All_Faces", mat["All_Faces"], 1, len(vertices))
    if faces.shape != (len(part), 3):
        raise DataFileError(
            f"{path}: All_Faces has the shape {faces.shape}, but All_FaceIndices names {len(part)} faces, "
            f"so ({len(part)}, 3) was expected."
        )
    uv = [_unit_interval(path, name, mat[name], len(vertices)) for name in ("All_U_norm", "All_V_norm")]
    faces, uv = (faces - 1).astype(np.int32), np.stack(uv, axis=1)
    return Atlas(SMPL_ID, (vertices - 1).astype(np.int32), faces, part.astype(np.uint8), uv[faces])


def load_open_atlas(path: str | Path | None = None) -> Atlas:
    """The atlas of the open body: `atlas.npz`, by default the shipped one, with the faces of `body.npz` beside it.

    Raises FileNotFoundError, or DataFileError when the two files do not belong together.
    """
    path = DATA_DIR / OPEN_ATLAS if path is None else Path(path)
    body_path = path.with_name("body.npz")
    atlas = _with_fields(path, load_npz(path), ("model_id", "face_part", "face_uv"))
    body = _with_fields(body_path, load_npz(body_path), ("model_id", "f", "v_template"))
    model_id, body_id = shorten(atlas["model_id"]), shorten(body["model_id"])
    num_vertices = body["v_template"].shape[0] if body["v_template"].ndim else 0
    faces = _whole_numbers(body_path, "f", body["f"], 0, num_vertices - 1).astype(np.int32)
    face_part = _whole_numbers(path, "face_part", atlas["face_part"], 0, NUM_PARTS).astype(np.uint8)
    face_uv = atlas["face_uv"]
    if face_uv.dtype.kind != "f" or not np.isfinite(face_uv).all():
        raise DataFileError(f"{path}: face_uv must hold finite numbers; it does not.")
    if model_id != body_id:
        raise DataFileError(f"{path} belongs to the body '{model_id}', but {body_path} is '{body_id}'.")
    if face_part.shape != (len(faces),) or face_uv.shape != (len(faces), 3, 2):
        raise DataFileError(f"{path} describes {len(face_part)} faces, but {body_path} has {len(faces)}.")
    vertex_map = np.arange(num_vertices, dtype=np.int32)
    return Atlas(model_id, vertex_map, faces, face_part, face_uv.astype(np.float32))


def default_atlas(data_dir: str | Path = DATA_DIR) -> Atlas:
    """The official atlas when `data_dir` has it, else the open one with a warning."""
    official = Path(data_dir) / OFFICIAL_ATLAS
    if official.is_file():
        return load_uv_processed(official)
    warnings.warn(
        f"{official} is not there, so the atlas of the open body is used. It fits vertices of the open body "
        "only; for the official SMPL body run `bash get_densepose_uv.sh`.",
        stacklevel=3,
    )
    return load_open_atlas(Path(data_dir) / OPEN_ATLAS)


def face_colors(atlas: Atlas) -> Float[np.ndarray, "F 3"]:
    """IUV colour of each face: (part / 24, mean U, mean V of its corners)."""
    uv = atlas.face_uv.astype(np.float64).mean(axis=1)
    return np.column_stack([atlas.face_part / NUM_PARTS, uv]).astype(np.float32)


def _with_fields(path: Path, arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if missing := [name for name in names if name not in arrays]:
        raise DataFileError(f"{path} lacks {', '.join(missing)}; it is not the file expected here.")
    return arrays


def _whole_numbers(path: Path, name: str, values: np.ndarray, low: int, high: int) -> np.ndarray:
    is_finite = values.dtype.kind in "iu" or (values.dtype.kind == "f" and np.isfinite(values).all())
    numbers = values.astype(np.int64) if is_finite else values[:0]
    is_whole = numbers.size and np.array_equal(numbers, values)
    if not (is_whole and low <= numbers.min() and numbers.max() <= high):
        raise DataFileError(f"{path}: {name} must hold whole numbers from {low} to {high}; it does not.")
    return numbers


def _unit_interval(path: Path, name: str, values: np.ndarray, count: int) -> np.ndarray:
    values = values.reshape(-1)
    values = values.astype(np.float64) if values.dtype.kind in "fiu" else values[:0]
    if len(values) != count:
        raise DataFileError(f"{path}: {name} has {len(values)} values for the {count} vertices of All_vertices.")
    if not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):
        raise DataFileError(f"{path}: {name} must lie in 0..1; it spans {values.min():.3g}..{values.max():.3g}.")
    return values.astype(np.float32)
