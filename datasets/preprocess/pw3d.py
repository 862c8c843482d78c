"""3DPW test sequences -> 3dpw_test.npz (evaluation).

    python -m datasets.preprocess.pw3d --source data/3dpw --out data/dataset_extras

Reads sequenceFiles/test/*.pkl below --source; these pickles are read without running what they may hold. Kept are
the frames of each person with a valid camera (campose_valid). pose: the axis-angles of the file, the first three
turned into the camera's frame; shape: the first 10 numbers; gender: m or f. Box: the visible 2D joints times 1.2.
Images are imageFiles/<sequence>/image_<frame, from 00000>.jpg.
smpl_joints, a field of ours: jointPositions in metres in the camera's frame, relative to the pelvis; evaluation
compares the body made of pose, shape and gender with them before it scores anything.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from datasets.labels.files import Rows
from datasets.preprocess.common import box_of_points, run
from utils.io import DataFileError, read_pickle

FILE = "3dpw_test.npz"

PER_PERSON = ("poses", "betas", "poses2d", "jointPositions", "genders", "campose_valid")
COUNTS_IN_USE = "Published numbers are over 35,515 or 35,463 frames (3DPW's test set as others cut it)"


class Person(NamedTuple):
    """One person of a sequence of F frames."""

    pose: np.ndarray  # [F,72]
    betas: np.ndarray  # [10]
    points: np.ndarray  # [F,K,3]: x, y, confidence
    joints: np.ndarray  # [F,24,3], metres in the world
    gender: str
    valid: np.ndarray  # [F] bool


def read_sequence(path: Path) -> tuple[str, np.ndarray, list[Person]]:
    """Name, camera rotations [F,3,3] and people of a sequence. Raises DataFileError for damage."""
    content = read_pickle(path)
    try:
        name = str(content["sequence"])
        cameras = np.asarray(content["cam_poses"], np.float64)
        if Path(name).name != name or cameras.ndim != 3 or cameras.shape[1:] != (4, 4):
            raise ValueError(f"sequence '{name}' with cameras of shape {cameras.shape}")
        people = [_person(content, index, len(cameras)) for index in range(len(content["poses"]))]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataFileError(
            f"{path} is no sequence of 3DPW: it needs sequence, cam_poses, {', '.join(PER_PERSON)} "
            f"({type(error).__name__}: {error})."
        ) from error
    return name, cameras[:, :3, :3], people


def _person(content: Mapping[str, Any], index: int, frames: int) -> Person:
    pose, betas, points, joints, gender, valid = (content[key][index] for key in PER_PERSON)
    if gender not in ("m", "f"):
        raise ValueError(f"gender '{gender}'")
    points = np.asarray(points, np.float64).reshape(frames, 3, -1).transpose(0, 2, 1)
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or len(betas) < 10:
        raise ValueError(f"betas of shape {betas.shape}")
    return Person(
        np.asarray(pose, np.float64).reshape(frames, 72),
        betas[:10],
        points,
        np.asarray(joints, np.float64).reshape(frames, 24, 3),
        str(gender),
        np.asarray(valid).reshape(frames) > 0,
    )


def add_person(rows: Rows, sequence: str, cameras: np.ndarray, person: Person) -> None:
    """Add the frames of a person that have a valid camera."""
    rows.leave_out("without a valid camera", int((~person.valid).sum()))
    for frame in np.flatnonzero(person.valid):
        camera, pose = cameras[frame], person.pose[frame].copy()
        if not np.isfinite(camera).all() or np.linalg.det(camera) < 0.5:
            rows.leave_out("with a camera that is no rotation", damaged=True)
            continue
        pose[:3] = (Rotation.from_matrix(camera) * Rotation.from_rotvec(pose[:3])).as_rotvec()
        points = person.points[frame]
        center, scale = box_of_points(points[points[:, 2] > 0])
        joints = person.joints[frame]
        rows.add(
            imgname=f"imageFiles/{sequence}/image_{frame:05d}.jpg",
            center=center,
            scale=scale,
            pose=pose,
            shape=person.betas,
            gender=person.gender,
            smpl_joints=(joints - joints[0]) @ camera.T,
        )


def convert(source: Path) -> Rows:
    """Rows of all test sequences, in the order of their names."""
    folder = source / "sequenceFiles" / "test"
    files = sorted(folder.glob("*.pkl"))
    if not files:
        raise FileNotFoundError(
            f"There are no sequences in {folder}; expected the .pkl files of 3DPW's test set."
        )
    rows = Rows(FILE)
    for path in tqdm(files, desc="3DPW", unit="sequence", disable=None):
        sequence, cameras, people = read_sequence(path)
        for person in people:
            add_person(rows, sequence, cameras, person)
    rows.notes.append(f"{COUNTS_IN_USE}; this file has {len(rows):,}.")
    return rows


def main(argv: list[str] | None = None) -> int:
    source = "folder with sequenceFiles/ and imageFiles/"
    return run(argv, "pw3d", __doc__, source, lambda args: ([FILE], lambda: [convert(args.source)]))


if __name__ == "__main__":
    run_script(main)
