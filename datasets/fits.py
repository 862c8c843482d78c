"""Bodies that SPIN fitted to images without body labels (docs/method.md 7.2 and 8.7).

    fits = load_fits(mix, data_dir)            # once, at start; `fits.description` says what was read
    build_targets = TargetBuilder(smpl, renderer, fits)
    fits(batch) -> BodyFits(rotvec [B,72], betas [B,10], valid [B])     # turned and flipped as the images are

Files below the data folder, the first that is there: `final_fits/<set>.npz` (pose, betas, valid_fit; of
Human3.6M `final_fits/h36m.npy`, all valid), else `static_fits/<set>_fits.npy`. Static fits come without
validity flags and all count as valid: a user who puts them there wants bodies for images that have none, and with
none valid the regressor would silently learn from no image in the wild. `final_fits` is the stricter choice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets.labelled_people import LabelledPeople
from datasets.mixed_dataset import LABELS, LABELS_OR_FITS, MixedDataset
from utils.body import DATA_DIR
from utils.io import DataFileError, load_npy, load_npz
from utils.skeleton import SMPL_FLIP
from utils.structures import Batch, BodyFits

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

log = logging.getLogger(__name__)

FINAL, STATIC = "final_fits", "static_fits"
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


class Fits:
    """Looks up the fits of a batch. Data sets without a table have none: zeros, invalid."""

    def __init__(self, tables: Mapping[str, FitTable], description: str = "") -> None:
        self.tables, self.description = dict(tables), description

    def __call__(self, batch: Batch) -> BodyFits:
        """Fits of a batch's people, turned and flipped as their images are, on the batch's device."""
        names = (batch.dataset,) * len(batch) if isinstance(batch.dataset, str) else batch.dataset
        columns = (column.cpu().numpy() for column in (batch.index, batch.rotation_deg, batch.is_flipped))
        device = batch.rotvec.device
        return BodyFits(*(torch.from_numpy(values).to(device) for values in self.look_up(names, *columns)))

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
        count, names = len(names), np.asarray(names)
        rotvec, betas = np.zeros((count, 72), np.float32), np.zeros((count, 10), np.float32)
        valid, known = np.zeros(count, bool), np.isin(names, [*self.tables])
        for name in set(names[known].tolist()):
            table, rows = self.tables[name], names == name
            own = index[rows]
            for person in own[(own < 0) | (own >= len(table))].tolist()[:1]:
                raise IndexError(f"Person {person} of '{name}' was asked for, its fits hold 0..{len(table) - 1}.")
            rotvec[rows], betas[rows], valid[rows] = table.rotvec[own], table.betas[own], table.valid[own]
        rotvec[:, :3] = turn_rotvec(rotvec[:, :3], np.where(known, rotation_deg, 0))
        mirrored = rotvec[:, _FLIP] * _MIRROR
        return np.where(is_flipped.astype(bool)[:, None], mirrored, rotvec), betas, valid


def turn_rotvec(
    rotvec: Float[np.ndarray, "B 3"], rotation_deg: Float[np.ndarray, "B"]
) -> Float[np.ndarray, "B 3"]:
    """Global orientations turned about the viewing axis as images turned counter-clockwise; angles in [0, pi].

    Products of quaternions in float64: within 1e-6 of the float32 matrices of 2020.
    """
    rotvec = rotvec.T.astype(np.float64)
    angle = np.sqrt((rotvec * rotvec).sum(axis=0) + TINY)
    w, (x, y, z) = np.cos(angle / 2), rotvec * (np.sin(angle / 2) / angle)
    half = rotation_deg * (-np.pi / 360)
    c, s = np.cos(half), np.sin(half)
    w, axis = c * w - s * z, np.array([c * x - s * y, c * y + s * x, c * z + s * w])
    sine = np.sqrt((axis * axis).sum(axis=0) + TINY)
    factor = np.copysign(2 * np.arctan2(sine, np.abs(w)) / sine, w)  # -q: the same rotation, by less than pi
    return (axis * factor).T.astype(np.float32)


def fit_paths(name: str, data_dir: str | Path) -> tuple[Path, Path]:
    """Paths of the final and the static fits of a data set, which need not exist."""
    final = "h36m.npy" if name == "h36m" else f"{name}.npz"
    return Path(data_dir) / FINAL / final, Path(data_dir) / STATIC / f"{name}_fits.npy"


def read_fits(name: str, count: int, data_dir: str | Path = DATA_DIR) -> FitTable | None:
    """The fits of a data set of `count` people; None when neither file is there.

    Raises DataFileError for a file that holds something else, or fits of another number of people.
    """
    path = next((path for path in fit_paths(name, data_dir) if path.is_file()), None)
    if path is None:
        return None
    if path.suffix == ".npy":
        values = _numbers(load_npy(path), f"{path}", (count, 82))
        return _table(values[:, :72], values[:, 72:], np.ones(count, dtype=bool), path)
    shapes = {"pose": (count, 72), "betas": (count, 10), "valid_fit": (count,)}
    arrays = load_npz(path, only=tuple(shapes))
    missing = [field for field in shapes if field not in arrays]
    if missing:
        raise DataFileError(f"{path} lacks {', '.join(missing)}; expected {', '.join(shapes)}.")
    if arrays["valid_fit"].size == count:
        arrays["valid_fit"] = arrays["valid_fit"].reshape(-1)  # [N, 1]
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


def load_fits(mix: MixedDataset, data_dir: str | Path = DATA_DIR, *, skip_missing: bool = False) -> Fits:
    """The fits of a mix's members, as far as they are used.

    Members whose people all have body labels need none, nor do those of annotated points, nor any member where the
    mix counts labels alone.

    Args:
        skip_missing: a member that needs fits and has none trains without bodies, with a warning.

    Raises:
        FileNotFoundError: fits are missing.
        DataFileError: a file holds something else, or fits of another number of people.
    """
    tables, found = {}, []
    for member in mix.members:
        if not isinstance(member, LabelledPeople):
            continue
        if member.labels.has_smpl is not None and member.labels.has_smpl.all():
            continue
        table = read_fits(member.name, len(member), data_dir)
        if table is None:
            if mix.bodies == LABELS_OR_FITS and not member.dense_only:
                _report_missing(member.name, data_dir, skip_missing)
                found.append(f"{member.name} none")
            continue
        if mix.bodies == LABELS:
            table = replace(table, valid=np.zeros(len(table), dtype=bool))
        tables[member.name] = table
        valid, source = int(table.valid.sum()), table.path.parent.name
        found.append(f"{member.name} {valid:,} valid of {len(table):,} ({source})")
    return Fits(tables, "fits: " + (", ".join(found) or "none needed"))


def _report_missing(name: str, data_dir: str | Path, skip_missing: bool) -> None:
    final, static = fit_paths(name, data_dir)
    sentence = (
        f"The bodies fitted to '{name}' are neither at {final} nor at {static}; they come with SPIN's fetch_data.sh."
    )
    if not skip_missing:
        raise FileNotFoundError(sentence)
    log.warning("%s Its people train without bodies.", sentence)
