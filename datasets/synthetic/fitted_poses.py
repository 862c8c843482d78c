"""Poses of bodies that were fitted to photographs, for rendered people who sit, squat, lie and stand like real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from datasets.augment import flip_rotvec
from datasets.labels.arrays import read_label_file
from datasets.synthetic.pose import LIMIT_HIGH, LIMIT_LOW, NOISE, TURN
from utils.body import SMPL_ID
from utils.io import DataFileError

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class FittedPoses:
    """Poses to draw from.

    share: of rendered people who take one.
    """

    rotvec: Float[np.ndarray, "N 24 3"]  # axis-angle; the root is upright about the y axis
    share: float

    def draw(self, rng: Generator) -> Float[np.ndarray, "24 3"]:
        """One of the poses, as often mirrored as not, with small changes of its joints."""
        pose = self.rotvec[rng.integers(len(self.rotvec))]
        if rng.random() < 0.5:
            pose = flip_rotvec(pose.reshape(72)).reshape(24, 3)
        pose = pose + rng.normal(0, 1, (24, 3)) * NOISE[:, None] / 2
        return np.clip(pose, LIMIT_LOW, LIMIT_HIGH)


def read_fitted_poses(path: Path, share: float) -> FittedPoses:
    """The poses of a label file whose bodies are the open one.

    Raises:
        DataFileError: there are no poses, or those of another body.
    """
    labels = read_label_file(path, ("imgname", "center", "scale", "pose", "shape"))
    if labels.body_model == SMPL_ID:
        raise DataFileError(f"The poses of {path} belong to '{SMPL_ID}'; rendered people show the open body.")
    known = np.ones(len(labels), bool) if labels.has_smpl is None else labels.has_smpl
    rotvec = np.float64(labels.rotvec[known]).reshape(-1, 24, 3)
    if not len(rotvec):
        raise DataFileError(f"{path} labels no pose.")
    rotvec[:, 0] = (TURN.inv() * Rotation.from_rotvec(rotvec[:, 0])).as_rotvec()
    return FittedPoses(rotvec, share)
