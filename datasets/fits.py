"""Bodies that SPIN fitted to pictures without body labels (docs/method.md 7.2 and 8.7).

    fits = load_fits(mix, data_dir)            # once, at start; `fits.description` says what was read
    build_targets = TargetBuilder(smpl, renderer, fits)
    fits(batch) -> BodyFits(rotvec [B,72], betas [B,10], valid [B])     # turned and flipped as the pictures are

Files below the data folder, the first that is there: `final_fits/<set>.npz` (pose, betas, valid_fit; of
Human3.6M `final_fits/h36m.npy`, all valid), else `static_fits/<set>_fits.npy`. Static fits come without
validity flags and all count as valid: whoever puts them there wants bodies for pictures that have none, and with
none valid the regressor would silently learn from no picture in the wild. `final_fits` is the stricter choice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets.base_dataset import LabelledPeople
from datasets.mixed_dataset import LABELS, LABELS_OR_FITS, MixedDataset
from utils.body import DATA_DIR
from utils.io import DataFileError, load_npy, load_npz
from utils.skeleton import SMPL_FLIP
from utils.structures import Batch, BodyFits

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

log = logging.getLogger(__name__)

FINAL, STATIC = "final_fits", "static_fits"
NO_FITS = ("dp_coco",)  # its people are known by annotated points; fits are read where they are there
MAX_NUMBER = 1e3  # of a pose or shape
TINY = 1e-60  # keeps quotients of vanishing angles finite, without a trace elsewhere
_MIRROR = np.tile(np.array([1.0, -1.0, -1.0], dtype=np.float32), 24)
_FLIP = (3 * np.array(SMPL_FLIP)[:, None] + np.arange(3)).reshape(72)


@dataclass(frozen=True)
class FitTable:
    """The fits of a data set's N people."""

    rotvec: Float[np.ndarray, "N 72"]
    betas: Float[np.ndarray, "N 10"]
    valid: Bool[np.ndarray, "N"]
    path: Path

    def __len__(self) -> int:
        return len(self.valid)


# ---------------------------------------------------------------------------------------------------- look-up


class Fits:
    """Looks up the fits of a batch at once. Data sets without a table have none: zeros, invalid."""

    def __init__(self, tables: Mapping[str, FitTable], description: str = "") -> None:
        self.description = description
        self.tables = dict(tables)
        # All tables are one, behind a row of zeros for people without a fit: one gather serves a mixed batch.
        ends = np.cumsum([1, *map(len, tables.values())]).tolist()
        self._first = dict(zip(self.tables, ends[:-1], strict=True))
        rows = [np.zeros((1, 72), np.float32), *(table.rotvec for table in tables.values())]
        self._rotvec = np.concatenate(rows, dtype=np.float32)
        rows = [np.zeros((1, 10), np.float32), *(table.betas for table in tables.values())]
        self._betas = np.concatenate(rows, dtype=np.float32)
        self._valid = np.concatenate([[False], *(table.valid for table in tables.values())])

    def __call__(self, batch: Batch) -> BodyFits:
        """Fits of a batch's people, turned and flipped as their pictures are, on the batch's device."""
        names = (batch.dataset,) * len(batch) if isinstance(batch.dataset, str) else batch.dataset
        rotvec, betas, valid = self.look_up(
            names,
            batch.index.cpu().numpy(),
            batch.rotation_deg.cpu().numpy(),
            batch.is_flipped.cpu().numpy(),
        )
        device = batch.rotvec.device
        return BodyFits(*(torch.from_numpy(values).to(device) for values in (rotvec, betas, valid)))

    def look_up(
        self,
        names: Sequence[str],
        index: Int[np.ndarray, "B"],
        rotation_deg: Float[np.ndarray, "B"],
        is_flipped: Bool[np.ndarray, "B"],
    ) -> tuple[Float[np.ndarray, "B 72"], Float[np.ndarray, "B 10"], Bool[np.ndarray, "B"]]:
        """Pose, shape and validity of people `index` of data sets `names`: turned first, then flipped.

        Raises IndexError for a person that a table does not hold.
        """
        rows = self._rows(names, index)
        rotvec = self._rotvec[rows]
        rotvec[:, :3] = turn_rotvec(rotvec[:, :3], np.where(rows > 0, rotation_deg, 0))
        rotvec = np.where(is_flipped.astype(bool)[:, None], flip_rotvecs(rotvec), rotvec)
        return rotvec, self._betas[rows], self._valid[rows]

    def _rows(self, names: Sequence[str], index: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B"]:
        rows = np.zeros(len(names), dtype=np.int64)
        for place, (name, own) in enumerate(zip(names, index.tolist(), strict=True)):
            first = self._first.get(name)
            if first is None:
                continue
            if not 0 <= own < len(self.tables[name]):
                raise IndexError(
                    f"Person {own} of '{name}' was asked for, its fits hold 0..{len(self.tables[name]) - 1}."
                )
            rows[place] = first + own
        return rows


def turn_rotvec(
    rotvec: Float[np.ndarray, "B 3"], rotation_deg: Float[np.ndarray, "B"]
) -> Float[np.ndarray, "B 3"]:
    """Global orientations turned about the viewing axis as pictures turned counter-clockwise; angles in [0, pi].

    Products of quaternions in float64: within 1e-6 of the float32 matrices of 2020.
    """
    rotvec = rotvec.T.astype(np.float64)
    angle = np.sqrt((rotvec * rotvec).sum(axis=0) + TINY)
    w, (x, y, z) = np.cos(angle / 2), rotvec * (np.sin(angle / 2) / angle)
    half = rotation_deg * (-np.pi / 360)
    c, s = np.cos(half), np.sin(half)
    w, axis = c * w - s * z, np.array([c * x - s * y, c * y + s * x, c * z + s * w])
    sine = np.sqrt((axis * axis).sum(axis=0) + TINY)
    factor = np.copysign(
        2 * np.arctan2(sine, np.abs(w)) / sine, w
    )  # -q is the same rotation, by less than pi
    return (axis * factor).T.astype(np.float32)


def flip_rotvecs(rotvec: Float[np.ndarray, "B 72"]) -> Float[np.ndarray, "B 72"]:
    """Poses mirrored from left to right."""
    return rotvec[:, _FLIP] * _MIRROR


# ------------------------------------------------------------------------------------------------------ files


def fit_paths(name: str, data_dir: str | Path) -> tuple[Path, Path]:
    """Where the final and the static fits of a data set belong."""
    final = "h36m.npy" if name == "h36m" else f"{name}.npz"
    return Path(data_dir) / FINAL / final, Path(data_dir) / STATIC / f"{name}_fits.npy"


def read_fits(name: str, count: int, data_dir: str | Path = DATA_DIR) -> FitTable | None:
    """The fits of a data set of `count` people; None when neither file is there.

    Raises DataFileError for a file that holds something else, or fits of another number of people.
    """
    for path in fit_paths(name, data_dir):
        if path.is_file():
            return _read_npz(path, count) if path.suffix == ".npz" else _read_npy(path, count)
    return None


def _read_npy(path: Path, count: int) -> FitTable:
    values = _numbers(load_npy(path), f"{path}", (count, 82))
    return _table(values[:, :72], values[:, 72:], np.ones(count, dtype=bool), path)


def _read_npz(path: Path, count: int) -> FitTable:
    shapes = {"pose": (count, 72), "betas": (count, 10), "valid_fit": (count,)}
    arrays = load_npz(path, only=tuple(shapes))
    missing = [field for field in shapes if field not in arrays]
    if missing:
        raise DataFileError(f"{path} lacks {', '.join(missing)}; expected {', '.join(shapes)}.")
    valid = arrays["valid_fit"]
    arrays["valid_fit"] = valid.reshape(-1) if valid.size == count else valid  # [N, 1]
    pose, betas, valid = (_numbers(arrays[field], f"{path}: {field}", shapes[field]) for field in shapes)
    return _table(pose, betas, valid != 0, path)


def _numbers(values: np.ndarray, what: str, shape: tuple[int, ...]) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise DataFileError(f"{what} holds {values.dtype}; expected numbers.")
    if values.shape != shape:
        raise DataFileError(
            f"{what} has the shape {values.shape}; expected {shape}, a row for each of the {shape[0]:,} people of "
            "the label file. Fits and labels must belong together."
        )
    return values


def _table(rotvec: np.ndarray, betas: np.ndarray, valid: np.ndarray, path: Path) -> FitTable:
    with np.errstate(over="ignore", invalid="ignore"):
        rotvec, betas = rotvec.astype(np.float32), betas.astype(np.float32)
        plausible = (np.abs(rotvec) <= MAX_NUMBER).all(axis=1) & (np.abs(betas) <= MAX_NUMBER).all(axis=1)
    if (valid & ~plausible).any():
        person = np.flatnonzero(valid & ~plausible)[0]
        raise DataFileError(
            f"{path}: the fit of person {person} is not finite, or holds a number beyond {MAX_NUMBER:,.0f}; expected "
            "axis-angles in radians and 10 shape numbers."
        )
    rotvec[~plausible], betas[~plausible] = 0, 0  # even a masked sample must pose a finite body
    return FitTable(rotvec, betas, valid, path)


# -------------------------------------------------------------------------------------------------- of a mix


def load_fits(mix: MixedDataset, data_dir: str | Path = DATA_DIR, *, skip_missing: bool = False) -> Fits:
    """The fits of a mix's members, as far as they are used.

    Members whose people all have body labels need none, nor do `NO_FITS`, nor any member where the mix counts
    labels alone. skip_missing: a member that needs fits and has none trains without bodies, with a warning.
    Raises FileNotFoundError in one sentence for fits that are missing, and what `read_fits` raises.
    """
    tables, told = {}, []
    for member in mix.members:
        if not isinstance(member, LabelledPeople) or _all_labelled(member):
            continue
        table = read_fits(member.name, len(member), data_dir)
        if table is None:
            if mix.bodies == LABELS_OR_FITS and member.name not in NO_FITS:
                _missing(member.name, data_dir, skip_missing)
                told.append(f"{member.name} none")
            continue
        if mix.bodies == LABELS:
            table = FitTable(table.rotvec, table.betas, np.zeros(len(table), dtype=bool), table.path)
        tables[member.name] = table
        valid, source = int(table.valid.sum()), table.path.parent.name
        told.append(f"{member.name} {valid:,} valid of {len(table):,} ({source})")
    return Fits(tables, "fits: " + (", ".join(told) or "none needed"))


def _all_labelled(member: LabelledPeople) -> bool:
    return member.labels.has_smpl is not None and bool(member.labels.has_smpl.all())


def _missing(name: str, data_dir: str | Path, skip_missing: bool) -> None:
    final, static = fit_paths(name, data_dir)
    origin = "they come with SPIN's fetch_data.sh"
    sentence = f"The bodies fitted to '{name}' are neither at {final} nor at {static}; {origin}."
    if not skip_missing:
        raise FileNotFoundError(sentence)
    log.warning("%s Its people train without bodies.", sentence)
