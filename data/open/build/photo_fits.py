"""Fits of photographs as arrays: the file of an unfinished run, acceptance by numbers, the training set's file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from data.open.build.photo_people import LabelledPhotos
from utils.geometry import BOX_UNIT, project_to_crop
from utils.io import DataFileError, load_npz, save_npz_atomic
from utils.io.marks import LABELS
from utils.skeleton import GT24_NAMES, NUM_GT_JOINTS

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SHAPES = {
    "rotvec": (72,), "betas": (10,), "cam": (3,), "joints": (NUM_GT_JOINTS, 3),
    "error": (), "direction": (), "prior": (), "iou": (),
}  # fmt: skip
PELVIS = GT24_NAMES.index("pelvis_mpii")
FEW_POINTS, UNREADABLE = "few points", "unreadable"


@dataclass(frozen=True)
class PhotoFits:
    """Fits of N photographs, float32; zeros where `trouble` says why there is none."""

    name: np.ndarray  # [N] text
    trouble: np.ndarray  # [N] text: empty, FEW_POINTS or UNREADABLE
    rotvec: Float[np.ndarray, "N 72"]
    betas: Float[np.ndarray, "N 10"]
    cam: Float[np.ndarray, "N 3"]  # of the crop
    joints: Float[np.ndarray, "N 24 3"]  # the labelled ones, metres, camera axes
    error: Float[np.ndarray, "N"]  # as of `models.fitting.photo_fit.PhotoFit`
    direction: Float[np.ndarray, "N"]
    prior: Float[np.ndarray, "N"]
    iou: Float[np.ndarray, "N"]  # of the body's silhouette with the mask, within the photograph

    @classmethod
    def blank(cls, names: Sequence[str], trouble: Sequence[str]) -> PhotoFits:
        """Rows without fits."""
        zeros = {field: np.zeros((len(names), *shape), np.float32) for field, shape in SHAPES.items()}
        return cls(np.array(names, np.str_), np.array(trouble, np.str_), **zeros)

    def __len__(self) -> int:
        return len(self.name)

    def joined(self, other: PhotoFits) -> PhotoFits:
        """The rows of both."""
        return PhotoFits(*(np.concatenate([getattr(p, f.name) for p in (self, other)]) for f in fields(self)))

    def save(self, path: Path, run: str) -> None:
        """Write the file of an unfinished run, whole or not at all."""
        save_npz_atomic(path, LABELS, True, run=run, **asdict(self))


def read_unfinished(path: Path, run: str, names: Sequence[str]) -> PhotoFits:
    """The fits so far of the run `run` over `names`; none where there is no file.

    Raises DataFileError for a file of another form or another run.
    """
    if not path.is_file():
        return PhotoFits.blank([], [])
    arrays = load_npz(path)
    texts = [
        field for field in ("run", "name", "trouble") if arrays.get(field, np.zeros(0)).dtype.kind != "U"
    ]
    count = 0 if texts else len(np.atleast_1d(arrays["name"]))
    wrong = texts or [f for f, shape in SHAPES.items() if np.shape(arrays.get(f)) != (count, *shape)]
    if wrong or arrays["trouble"].shape != (count,):
        raise DataFileError(
            f"{path} is no file of an unfinished run ({', '.join(wrong)}); remove it to begin again."
        )
    if str(arrays["run"]) != run or list(names[:count]) != arrays["name"].tolist():
        raise DataFileError(
            f"{path} was begun with other labels or settings; give these again, or remove it to begin anew."
        )
    return PhotoFits(**{field.name: arrays[field.name] for field in fields(PhotoFits)})


# -------------------------------------------------------------------------------------------------- acceptance


@dataclass(frozen=True)
class Limits:
    """What a fit may be at most (`iou`: at least) to become a label."""

    error: float
    direction: float
    prior: float
    beta: float
    iou: float

    def reasons(self) -> dict[str, str]:
        """Sentences on those that are left out, by reason."""
        return {
            FEW_POINTS: "too few points of the body are visible",
            UNREADABLE: "photograph or mask cannot be used",
            "error": f"points are off by more than {self.error:g} on average (--max_error)",
            "direction": f"bones point elsewhere: mean 1 - cos above {self.direction:g} (--max_direction)",
            "prior": f"the pose is further than {self.prior:g} from the mean one (--max_prior)",
            "beta": f"a shape coefficient is beyond {self.beta:g} (--max_beta)",
            "iou": f"the silhouette's IoU with the mask is below {self.iou:g} (--min_iou)",
        }


def refusals(fits: PhotoFits, limits: Limits) -> np.ndarray:
    """Why each fit is left out, [N] text: the first key of `Limits.reasons` that holds; empty for accepted ones."""
    broken = {  # what is not finite is accepted by none
        "error": ~(fits.error <= limits.error),
        "direction": ~(fits.direction <= limits.direction),
        "prior": ~(fits.prior <= limits.prior),
        "beta": ~(np.abs(fits.betas).max(axis=1, initial=0) <= limits.beta),
        "iou": ~(fits.iou >= limits.iou),
    }
    found = fits.trouble.astype(object)
    for reason, where in broken.items():
        found[(found == "") & where] = reason
    return found.astype(np.str_)


def training_arrays(
    photos: LabelledPhotos,
    rows: Sequence[int],
    fits: PhotoFits,
    accepted: Bool[np.ndarray, "N"],
    model_id: str,
) -> dict[str, np.ndarray]:
    """The fields of `photos_train.npz` (docs/method.md 8.5).

    Args:
        rows: of the labels that the fits belong to.
        accepted: fits that become labels.
        model_id: of the body.
    """
    chosen = [rows[i] for i in np.flatnonzero(accepted)]
    boxes = [photos.labels.box(row) for row in chosen]
    center, scale = np.array([box[0] for box in boxes]), np.array([box[1] for box in boxes])
    joints = fits.joints[accepted]
    places = project_to_crop(torch.from_numpy(joints), torch.from_numpy(fits.cam[accepted])).numpy()
    pixels = center[:, None] + places * (scale * (BOX_UNIT / 2))[:, None, None]
    inside = ((pixels >= 0) & (pixels < photos.labels.size[chosen][:, None])).all(axis=-1, keepdims=True)
    about_pelvis = joints - joints[:, PELVIS : PELVIS + 1]
    return {
        "imgname": np.array([photos.image_name(row) for row in chosen]),
        "maskname": np.array([photos.mask_name(row) for row in chosen]),
        "center": center,
        "scale": scale,
        "part": np.concatenate([pixels, inside], axis=2).astype(np.float32),
        "S": np.concatenate([about_pelvis, np.ones_like(about_pelvis[..., :1])], axis=2),
        "pose": fits.rotvec[accepted],
        "shape": fits.betas[accepted],
        "body_model": np.array(model_id),
    }
