"""Converts the motion clips in pybullet's data (from DeepMimic) to SMPL poses: data/open/motions.npz.

    pip install pybullet
    python -m data.open.build.motions --out_dir data/open

A source frame is 44 numbers: duration, root position, and rotations of root, chest, neck and per side hip,
knee, ankle, shoulder, elbow (quaternions w,x,y,z; knees and elbows one angle about z), in axes x forward, y
up. Its skeleton rests with arms and legs straight down; SMPL rests in the T-pose. A segment's rotation in
the world is carried over, so that the direction of every segment is kept.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from data.open.build.people import FOOT_YAW, MIRROR_X, REST_DIRECTION, rotation_between
from utils.io import load_json, require_free, save_npz_atomic

FRAME_LENGTH = 44
# First column of each side's hip, knee, ankle, shoulder and elbow.
_RIGHT_COLUMNS, _LEFT_COLUMNS = (16, 20, 21, 25, 29), (30, 34, 35, 39, 43)
_RIGHT_JOINTS, _LEFT_JOINTS = (2, 5, 8, 17, 19), (1, 4, 7, 16, 18)
_TO_SMPL = Rotation.from_euler("y", -90, degrees=True)


def find_clips() -> list[Path]:
    """The people's clips of the installed pybullet, or an ImportError that says what to install."""
    spec = importlib.util.find_spec("pybullet_data")
    if spec is None or spec.origin is None:
        raise ImportError(
            "The motion clips come from the package 'pybullet', which is not installed. The converted clips "
            "ship in data/open/motions.npz; to convert them again run: pip install pybullet"
        )
    folder = Path(spec.origin).parent / "data" / "motions"
    return sorted(folder.glob("humanoid3d_*.txt")) + sorted((folder / "walker").glob("*.txt"))


def read_clip(path: Path) -> np.ndarray:
    """Frames [N,44] of one clip."""
    frames = np.array(load_json(path)["Frames"], np.float64)
    if frames.ndim != 2 or frames.shape[1] != FRAME_LENGTH:
        raise ValueError(f"{path} must hold frames of {FRAME_LENGTH} numbers; their shape is {frames.shape}.")
    return frames


def rest_alignment() -> dict[int, np.ndarray]:
    """Rotations [3,3] by joint that turn SMPL's rest direction of a segment to straight down."""
    down, align = np.array([0.0, -1.0, 0.0]), {}
    for left, right in ((1, 2), (4, 5), (16, 17)):
        for joint, sign in ((left, np.ones(3)), (right, MIRROR_X)):
            align[joint] = rotation_between((np.array(REST_DIRECTION[left]) * sign)[None], down)[0]
    # The forearm follows the upper arm first: the elbow keeps its hinge.
    for arm, forearm, sign in ((16, 18, np.ones(3)), (17, 19, MIRROR_X)):
        carried = align[arm] @ (np.array(REST_DIRECTION[18]) * sign)
        align[forearm] = rotation_between(carried[None], down)[0] @ align[arm]
    for joint, sign in ((7, 1), (8, -1)):
        align[joint] = Rotation.from_euler("y", -sign * FOOT_YAW).as_matrix()
    return align


def _conjugated(rotation: Rotation) -> Rotation:
    return _TO_SMPL * rotation * _TO_SMPL.inv()


def _quaternion(frames: np.ndarray, column: int) -> Rotation:
    return _conjugated(Rotation.from_quat(frames[:, [column + 1, column + 2, column + 3, column]]))


def _hinge(frames: np.ndarray, column: int) -> Rotation:
    return _conjugated(Rotation.from_euler("z", frames[:, column : column + 1]))


def smpl_poses(frames: np.ndarray) -> np.ndarray:
    """Frames [N,44] -> axis-angle poses [N,24,3] of SMPL's joints, root included, y up, facing +z at rest."""
    pose = np.zeros((len(frames), 24, 3))
    pose[:, 0] = _quaternion(frames, 4).as_rotvec()
    pose[:, (3, 6, 9)] = _quaternion(frames, 8).as_rotvec()[:, None] / 3
    pose[:, (12, 15)] = _quaternion(frames, 12).as_rotvec()[:, None] / 2
    align = {joint: Rotation.from_matrix(matrix) for joint, matrix in rest_alignment().items()}
    for columns, joints in ((_LEFT_COLUMNS, _LEFT_JOINTS), (_RIGHT_COLUMNS, _RIGHT_JOINTS)):
        hip, knee, ankle, shoulder, elbow = joints
        parent = {hip: None, knee: hip, ankle: knee, shoulder: None, elbow: shoulder}
        for column, joint in zip(columns, joints, strict=True):
            turn = _hinge(frames, column) if joint in (knee, elbow) else _quaternion(frames, column)
            before = align[parent[joint]].inv() if parent[joint] is not None else Rotation.identity()
            pose[:, joint] = (before * turn * align[joint]).as_rotvec()
    return pose


def convert(paths: list[Path]) -> dict[str, np.ndarray]:
    """The arrays of motions.npz: rotvec [N,24,3] float32, clip [N] int64, names [C], fps [C] float32."""
    clips = [read_clip(path) for path in paths]
    poses = np.concatenate([smpl_poses(frames) for frames in clips])
    names = [path.stem.removeprefix("humanoid3d_").lstrip("0") for path in paths]
    return {
        "rotvec": (np.round(poses * 2**12) / 2**12).astype(np.float32),
        "clip": np.repeat(np.arange(len(clips)), [len(frames) for frames in clips]).astype(np.int64),
        "names": np.array(names),
        "fps": np.array([1 / np.median(frames[:, 0]) for frames in clips], np.float32),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out_dir", type=Path, default=Path("data/open"), help="where motions.npz goes")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args(argv)
    require_free(args.out_dir / "motions.npz", args.overwrite)
    arrays = convert(find_clips())
    save_npz_atomic(args.out_dir / "motions.npz", "", args.overwrite, **arrays)
    counts = np.bincount(arrays["clip"])
    print(f"wrote {args.out_dir}/motions.npz: {len(arrays['rotvec'])} poses of {len(counts)} clips")
    for name, count, fps in zip(arrays["names"], counts, arrays["fps"], strict=True):
        print(f"  {name}: {count} poses, {fps:.0f} a second")


if __name__ == "__main__":
    run_script(main)
