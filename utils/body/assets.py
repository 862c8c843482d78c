"""Which files a run uses: the user's licensed ones when they are all there, the shipped open ones otherwise.

Half a licensed set is an error, so that bodies are not mixed unnoticed (docs/method.md 10).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.body.atlas import load_open_atlas, load_uv_processed
from utils.body.model import SMPL_ID, load_open_body, read_regressor, read_smpl_file, surface_points
from utils.io import DATA_DIR, OPEN_DIR, DataFileError, load_json, load_npz, read_pickle
from utils.structures import Atlas, BodyModel, Regressor, require_same_body

if TYPE_CHECKING:
    from jaxtyping import Float

log = logging.getLogger(__name__)

BODY_CHOICES = ("auto", "smpl", "open")
CORE_NEED = ("body", "atlas", "regressor_extra")
GENDER_CODES = {"neutral": "neutral", "male": "m(?:ale)?", "female": "f(?:emale)?"}


# ---------------------------------------------------------------------------------------------- finding files


def find_smpl_file(gender: str, data_dir: str | os.PathLike = DATA_DIR) -> Path | None:
    """The official body file of a gender in `data_dir`/smpl, under the README's or its publishers' name.

    README names win over publishers', then the newer version, then .pkl over .npz; case does not matter.
    Raises ValueError for an unknown gender.
    """
    gender = gender.lower()
    if gender not in GENDER_CODES:
        raise ValueError(f"Unknown gender '{gender}'; choose one of {', '.join(GENDER_CODES)}.")
    ranked = [(rank, path) for path in _body_files(data_dir) if (rank := _body_rank(path.name, gender))]
    return max(ranked)[1] if ranked else None


def unknown_bodies(data_dir: str | os.PathLike) -> list[str]:
    """Names of files in `data_dir`/smpl that look like bodies but have no name of `find_smpl_file`."""
    names = (path.name for path in _body_files(data_dir))
    return sorted(name for name in names if not any(_body_rank(name, gender) for gender in GENDER_CODES))


def _body_files(data_dir: str | os.PathLike) -> list[Path]:
    folder = Path(data_dir) / "smpl"
    files = folder.iterdir() if folder.is_dir() else ()
    return [path for path in files if path.suffix.lower() in (".pkl", ".npz") and path.is_file()]


def _body_rank(name: str, gender: str) -> tuple | None:
    """Sorts the names of a gender's body file, the best last; None for any other name."""
    readme = rf"smpl_{gender}\.(?:pkl|npz)"
    publishers = rf"basicmodel_{GENDER_CODES[gender]}_lbs_10_207_0_v([\d.]+\d)\.(?:pkl|npz)"
    is_pickle = name.lower().endswith(".pkl")
    if re.fullmatch(readme, name, re.IGNORECASE):
        return (2, (), is_pickle, name)
    if found := re.fullmatch(publishers, name, re.IGNORECASE):
        return (1, tuple(int(n) for n in found[1].split(".")), is_pickle, name)
    return None


def _at(name: str) -> Callable[[Path], Path | None]:
    return lambda data_dir: data_dir / name if (data_dir / name).is_file() else None


def _body_of(gender: str) -> Callable[[Path], Path | None]:
    return lambda data_dir: find_smpl_file(gender, data_dir)


_SMPL_SITE = "from smpl.is.tue.mpg.de, after signing up"
_NEUTRAL_SITE = "from smplify.is.tue.mpg.de (v1.0.0) or smpl.is.tue.mpg.de (v1.1.0), after signing up"
_SPIN_DATA = "from the data of SPIN, github.com/nkolot/SPIN (fetch_data.sh)"
_UV_SCRIPT = "run: bash get_densepose_uv.sh"
_DENSEPOSE_DATA = "from dl.fbaipublicfiles.com/densepose/data/, optional: for GPS as DensePose measures it"
# What a run may need -> how to find it, its name for people, where it comes from.
LICENSED_FILES: dict[str, tuple[Callable[[Path], Path | None], str, str]] = {
    "body": (_body_of("neutral"), "smpl/SMPL_NEUTRAL.pkl", _NEUTRAL_SITE),
    "body_male": (_body_of("male"), "smpl/SMPL_MALE.pkl", _SMPL_SITE),
    "body_female": (_body_of("female"), "smpl/SMPL_FEMALE.pkl", _SMPL_SITE),
    **{
        key: (_at(name), name, origin)
        for key, name, origin in (
            ("atlas", "UV_data/UV_Processed.mat", _UV_SCRIPT),
            ("uv_symmetry", "UV_data/UV_symmetry_transforms.mat", _UV_SCRIPT),
            ("subdivision", "UV_data/SMPL_subdiv.mat", _DENSEPOSE_DATA),
            ("subdivision_vertices", "UV_data/SMPL_SUBDIV_TRANSFORM.mat", _DENSEPOSE_DATA),
            ("geodesics", "UV_data/Pdist_matrix.pkl", _DENSEPOSE_DATA),
            ("regressor_extra", "J_regressor_extra.npy", _SPIN_DATA),
            ("regressor_h36m", "J_regressor_h36m.npy", _SPIN_DATA),
        )
    },
}
_SIGNS_OF_LICENSED = (*CORE_NEED, "body_male", "body_female")


# --------------------------------------------------------------------------------------------- body and atlas


@dataclass(frozen=True)
class BodyAssets:
    """A body with everything that is tied to its vertex numbers. Optional parts may be None."""

    body: BodyModel
    atlas: Atlas | None
    extra: Regressor
    surface: Regressor
    h36m: Regressor | None
    source: str  # which files these are, for the log

    def __post_init__(self) -> None:
        for part in (self.atlas, self.extra, self.surface, self.h36m):
            if part is not None:
                require_same_body(self.body, part)

    def log_line(self, weights: str) -> str:
        """One line that says which body, atlas and weights are in use."""
        return f"{self.source}; weights: {weights}"


def resolve_body(
    choice: str = "auto", data_dir: str | os.PathLike = DATA_DIR, need: Iterable[str] = CORE_NEED
) -> BodyAssets:
    """The body of a run.

    Args:
        choice: "smpl" the licensed files, "open" the shipped body, "auto" the licensed ones when any is there.
        data_dir: folder of the licensed files.
        need: keys of `LICENSED_FILES` that a run with the licensed body cannot do without.

    Raises:
        ValueError: for another choice.
        FileNotFoundError: when the licensed set is incomplete, naming every missing file and its origin, and when
            there is no folder `data_dir`.
    """
    if choice not in BODY_CHOICES:
        raise ValueError(f"Unknown body '{choice}'; choose one of {', '.join(BODY_CHOICES)}.")
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise FileNotFoundError(f"There is no folder '{data_dir}' for the licensed files (--data_dir).")
    if choice == "auto" and (unknown := unknown_bodies(data_dir)):
        log.warning("Passed over in %s, expected SMPL_NEUTRAL.pkl: %s", data_dir / "smpl", ", ".join(unknown))
    found = {key: find(data_dir) for key, (find, _, _) in LICENSED_FILES.items()}
    if choice == "open" or (choice == "auto" and not any(found[key] for key in _SIGNS_OF_LICENSED)):
        return _open_assets()
    missing = [key for key in dict.fromkeys([*need, "body", "regressor_extra"]) if not found[key]]
    if missing:
        have = ", ".join(str(path.relative_to(data_dir)) for path in found.values() if path) or "none of its files"
        lack = "; ".join(f"{LICENSED_FILES[key][1]} ({LICENSED_FILES[key][2]})" for key in missing)
        raise FileNotFoundError(
            f"The licensed body in {data_dir} is incomplete: it has {have}, but this run also needs {lack}. "
            "Add what is missing, or run with --body open."
        )
    return _licensed_assets(found)


def _licensed_assets(found: dict[str, Path | None]) -> BodyAssets:
    body = read_smpl_file(found["body"])
    if body.model_id != SMPL_ID:
        raise DataFileError(f"{found['body']} holds the body '{body.model_id}', not an official SMPL body.")
    h36m = found["regressor_h36m"]
    return BodyAssets(
        body=body,
        atlas=load_uv_processed(found["atlas"]) if found["atlas"] else None,
        extra=read_regressor(found["regressor_extra"], "extra"),
        surface=surface_points(body),
        h36m=read_regressor(h36m, "h36m") if h36m else None,
        source=f"body: SMPL ({found['body']}); atlas: DensePose ({found['atlas'] or 'absent'})",
    )


def _open_assets() -> BodyAssets:
    body, regressors = load_open_body(), OPEN_DIR / "regressors.npz"
    return BodyAssets(
        body=body,
        atlas=load_open_atlas(OPEN_DIR / "atlas.npz"),
        extra=read_regressor(regressors, "extra"),
        surface=surface_points(body, regressors),
        h36m=read_regressor(regressors, "h36m"),
        source=f"body: {body.model_id} (open, shipped); atlas: open (shipped)",
    )


# ---------------------------------------------------------------------------- numbers the network starts from


@dataclass(frozen=True)
class MeanParams:
    """Camera, shape and pose that the regressor's residuals are added to."""

    cam: Float[Tensor, "3"]
    betas: Float[Tensor, "10"]
    pose_6d: Float[Tensor, "144"]


def load_mean_params(path: str | os.PathLike | None = None, data_dir: str | os.PathLike | None = None) -> MeanParams:
    """Mean parameters of `path`, else of smpl_mean_params.npz in the user's `data_dir` (default: data), else shipped.

    Raises DataFileError for a file without cam [3], shape [10] and pose [144].
    """
    users = _at("smpl_mean_params.npz")(Path(data_dir or DATA_DIR))
    path = path or users or OPEN_DIR / "smpl_mean_params.npz"
    arrays = load_npz(path, only=("cam", "shape", "pose"))
    return MeanParams(*(_vector(path, arrays, k, n) for k, n in (("cam", 3), ("shape", 10), ("pose", 144))))


def load_learned_ratio(
    path: str | os.PathLike | None = None, data_dir: str | os.PathLike | None = None
) -> tuple[Float[Tensor, "24"], Float[Tensor, "24"]]:
    """Ratio and offset of the part crops, from a file (.pkl of 2020 or .json), else learned_ratio.pkl in the
    user's `data_dir` (default: data) or its pretrained_model, else the shipped ones.

    Raises UnsafeFileError for a hostile pickle, DataFileError for a file without 24 ratios and offsets.
    """
    folder = Path(data_dir or DATA_DIR)
    users = _at("learned_ratio.pkl")(folder) or _at("pretrained_model/learned_ratio.pkl")(folder)
    path = Path(path or users or OPEN_DIR / "learned_ratio.json")
    values = load_json(path) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(values, dict):
        raise DataFileError(f"{path} holds a {type(values).__name__}, expected 'ratio' and 'offset'.")
    return _vector(path, values, "ratio", 24), _vector(path, values, "offset", 24)


def _vector(path: str | os.PathLike, values: dict, key: str, count: int) -> Tensor:
    try:
        array = np.asarray(values[key]).reshape(-1)
        with np.errstate(over="ignore"):
            array = array.astype(np.float32) if array.dtype.kind in "fiu" else array[:0]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataFileError(f"{path} lacks '{key}' with {count} numbers.") from None
    if array.shape != (count,) or not np.isfinite(array).all():
        raise DataFileError(f"{path}: '{key}' must hold {count} finite numbers, it holds {array.size}.")
    return torch.from_numpy(array.copy())
