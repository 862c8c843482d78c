"""MPI-INF-3DHP -> mpi_inf_3dhp_valid.npz (evaluation), mpi_inf_3dhp_train.npz (training).

    python -m datasets.preprocess.mpi_inf_3dhp --source data/mpi_inf_3dhp --out data/dataset_extras --extract

Test set: mpi_inf_3dhp_test_set/TS1 to TS6/annot_data.mat below --source: frames with valid_frame, of which all 17
joints (annot2) lie in the image. Images are mpi_inf_3dhp_test_set/TS1/imageSequence/img_<frame, from
000001>.jpg; where the folder imageSequence is missing, the size is taken as 2048 x 2048 (TS1 to TS4) or 1920 x 1080.
Training set: S1/Seq1 to S8/Seq2/annot.mat, videos 0, 1, 2 and 4 to 8: every 10th (the 1st, 11th ... over all
subjects and videos) of the frames of which all 17 used joints lie in the image of 2048 x 2048. Images are
S1/Seq1/imageFrames/video_0/frame_<frame, from 000001>.jpg; --extract makes them from
S1/Seq1/imageSequence/video_0.avi.
Sequences that are not there are named and passed over.
S are 17 joints in metres, relative to the pelvis. They come from univ_annot3 (a body of universal size) for the
test set and from annot3 (true size) for the training set, as the numbers of 2020 do; mixing the two up costs
several centimetres. Box: the 17 joints times 1.2. The set has no body parameters: pose and shape are zero, has_smpl
is 0, and training takes bodies from the fits where they are there.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.labels.files import Rows, gt24
from datasets.preprocess import openpose, video_frames
from datasets.preprocess.common import Planned, box_of_points, run, split_flag
from datasets.preprocess.hdf5 import is_hdf5, open_hdf5
from utils.images import image_size
from utils.io import DataFileError, load_mat
from utils.skeleton import H36M17_IN_GT24

TEST_SEQUENCES = tuple(f"TS{number}" for number in range(1, 7))
TRAIN_SEQUENCES = tuple(f"S{subject}/Seq{number}" for subject in range(1, 9) for number in (1, 2))
VIDEOS = (0, 1, 2, 4, 5, 6, 7, 8)
FRAME_STEP = 10
TRAIN_SIZE = (2048, 2048)  # px, width and height
WIDE_SIZE, WIDE_SEQUENCES = (1920, 1080), ("TS5", "TS6")
# Rows of the set's joints in the order of H36M17_IN_GT24; the pelvis comes first.
TEST_JOINTS = (14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)  # of 17
TRAIN_JOINTS = (4, 18, 19, 20, 23, 24, 25, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16)  # of 28
JOINTS_3D = ("univ_annot3", "annot3")

TEST, TRAIN = "mpi_inf_3dhp_valid.npz", "mpi_inf_3dhp_train.npz"


def all_inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether all joints [...,K,2] lie in an image of this width and height: bool [...]."""
    return ((points >= 0) & (points < size)).all(axis=(-1, -2))


def labels_of(points: np.ndarray, joints: np.ndarray) -> dict[str, np.ndarray | float]:
    """Fields of joints in the image [17,2] (pixels) and in space [17,3] (millimetres, pelvis first)."""
    center, scale = box_of_points(points)
    metres = (joints - joints[0]) / 1000
    return {
        "center": center,
        "scale": scale,
        "part": gt24(points, H36M17_IN_GT24),
        "S": gt24(metres, H36M17_IN_GT24),
    }


# --------------------------------------------------------------------------------------------------- test set


def read_test(path: Path, joints_3d: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints of a test sequence [F,17,2] and [F,17,3], and which frames are valid [F]."""
    with open_hdf5(path) as file:
        points, joints, valid = file.array("annot2"), file.array(joints_3d), file.array("valid_frame")
    frames = len(points)
    if points.shape != (frames, 1, 17, 2) or joints.shape != (frames, 1, 17, 3) or valid.size != frames:
        raise DataFileError(
            f"{path} must hold annot2 (F, 1, 17, 2), {joints_3d} (F, 1, 17, 3) and valid_frame for F frames; the "
            f"shapes are {points.shape}, {joints.shape} and {valid.shape}."
        )
    return points[:, 0, TEST_JOINTS], joints[:, 0, TEST_JOINTS], valid.ravel() > 0


def size_of(sequence: str, path: Path) -> tuple[int, int] | None:
    """Width and height of a test image; that of its sequence where there are no images, None if unreadable."""
    if path.parent.is_dir():
        return image_size(path)
    return WIDE_SIZE if sequence in WIDE_SEQUENCES else TRAIN_SIZE


def convert_test(source: Path, sequences: list[str], joints_3d: str) -> Rows:
    """Rows of the test sequences."""
    rows = Rows(TEST)
    for sequence in tqdm(sequences, desc="test set", unit="sequence", disable=None):
        folder = f"mpi_inf_3dhp_test_set/{sequence}"
        points, joints, valid = read_test(source / folder / "annot_data.mat", joints_3d)
        rows.leave_out("that are marked as not valid", int((~valid).sum()))
        for frame in np.flatnonzero(valid):
            imgname = f"{folder}/imageSequence/img_{frame + 1:06d}.jpg"
            size = size_of(sequence, source / imgname)
            if size is None:
                rows.leave_out("without a readable image", damaged=True)
            elif not np.isfinite(points[frame]).all() or all_inside(points[frame], size):
                rows.add(imgname=imgname, **labels_of(points[frame], joints[frame]))
            else:
                rows.leave_out("with a joint outside the image")
    rows.notes.append(f"3D joints are {joints_3d}.")
    return rows


# ----------------------------------------------------------------------------------------------- training set


def read_train(path: Path, joints_3d: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Used joints of a training sequence by video: [F,17,2] in pixels, [F,17,3] in millimetres."""
    points, joints = _read_cells(path, "annot2", 2), _read_cells(path, joints_3d, 3)
    for video in VIDEOS:
        if len(points[video]) != len(joints[video]):
            raise DataFileError(
                f"annot2 and {joints_3d} of {path} have different numbers of frames. Fetch it again."
            )
    return {video: (points[video], joints[video]) for video in VIDEOS}


def _read_cells(path: Path, name: str, dim: int) -> dict[int, np.ndarray]:
    if is_hdf5(path):  # as MATLAB 7.3 would write it again
        with open_hdf5(path) as file:
            cells = {video: file.cell(name, video).T for video in VIDEOS}
    else:
        content = load_mat(path).get(name)
        if content is None or content.dtype != object or content.size <= max(VIDEOS):
            raise DataFileError(f"{path} has no cells '{name}' for {max(VIDEOS) + 1} videos. Fetch it again.")
        cells = {video: content.ravel()[video] for video in VIDEOS}
    for cell in cells.values():
        if not isinstance(cell, np.ndarray) or cell.dtype.kind not in "iuf" or cell.shape[1:] != (28 * dim,):
            raise DataFileError(f"Cells of '{name}' in {path} must be frames of {28 * dim} numbers.")
    used = {video: cell.astype(np.float64).reshape(-1, 28, dim) for video, cell in cells.items()}
    return {video: cell[:, TRAIN_JOINTS] for video, cell in used.items()}


def convert_train(
    source: Path, sequences: list[str], joints_3d: str, extract: bool, openpose_dir: Path | None
) -> Rows:
    """Rows of the training sequences; extract: write their images from the videos, too."""
    rows, inside_before = Rows(TRAIN), 0
    for sequence in tqdm(sequences, desc="training set", unit="sequence", disable=None):
        for video, (points, joints) in read_train(source / sequence / "annot.mat", joints_3d).items():
            finite = np.isfinite(points).all((1, 2)) & np.isfinite(joints).all((1, 2))
            inside = finite & all_inside(points, TRAIN_SIZE)
            rows.leave_out("with a number that is not finite", int((~finite).sum()), damaged=True)
            rows.leave_out("with a joint outside the image", int((finite & ~inside).sum()))
            frames = np.flatnonzero(inside)
            chosen = frames[-inside_before % FRAME_STEP :: FRAME_STEP]
            inside_before += len(frames)
            rows.leave_out(f"that are not every {FRAME_STEP}th", len(frames) - len(chosen))
            names = {int(f): f"{sequence}/imageFrames/video_{video}/frame_{f + 1:06d}.jpg" for f in chosen}
            existing = set(names)
            if extract:
                file = source / sequence / "imageSequence" / f"video_{video}.avi"
                existing = video_frames.extract(file, {frame: source / name for frame, name in names.items()})
                rows.leave_out("behind the end of the video", len(names) - len(existing), damaged=True)
            for frame in sorted(existing):
                _add_training_frame(rows, names[frame], labels_of(points[frame], joints[frame]), openpose_dir)
    rows.notes.append(f"3D joints are {joints_3d}; no body parameters (has_smpl 0).")
    return rows


def _add_training_frame(rows: Rows, imgname: str, labels: dict, openpose_dir: Path | None) -> None:
    detected = openpose.keypoints_of(openpose_dir, imgname, labels["part"], labels["scale"])
    no_body = {"pose": np.zeros(72), "shape": np.zeros(10), "has_smpl": 0.0}
    rows.add(imgname=imgname, openpose=detected, **no_body, **labels)


# ----------------------------------------------------------------------------------------------- command line


def _existing(source: Path, names: tuple[str, ...], file: str) -> list[str]:
    found = [name for name in names if (source / name / file).is_file()]
    if found and len(found) < len(names):
        print(f"not there: {', '.join(name for name in names if name not in found)}")
    return found


def plan(args: argparse.Namespace) -> Planned:
    """Files that the settings ask for, and what makes their rows."""
    test = _existing(args.source / "mpi_inf_3dhp_test_set", TEST_SEQUENCES, "annot_data.mat")
    train = _existing(args.source, TRAIN_SEQUENCES, "annot.mat")
    conversions = {
        TEST: lambda: convert_test(args.source, test, args.test_joints),
        TRAIN: lambda: convert_train(args.source, train, args.train_joints, args.extract, args.openpose),
    }
    found = {"test": (TEST, test), "train": (TRAIN, train)}
    wanted = args.split or [split for split, (_, sequences) in found.items() if sequences]
    missing = [split for split in wanted or found if not found[split][1]]
    if missing:
        raise FileNotFoundError(
            f"{args.source} holds nothing of the {' or '.join(missing)} set: expected "
            "mpi_inf_3dhp_test_set/TS1/annot_data.mat (test), S1/Seq1/annot.mat (train) and so on."
        )
    files = [file for split, (file, _) in found.items() if split in wanted]
    return files, lambda: [conversions[file]() for file in files]


def add_joint_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the joint arrays."""
    for split, default in (("test", "univ_annot3"), ("train", "annot3")):
        text = f"3D joints of the {split} set (default: {default})"
        parser.add_argument(f"--{split}_joints", choices=JOINTS_3D, default=default, help=text)


def main(argv: list[str] | None = None) -> int:
    extract = video_frames.flag("from S1/Seq1/imageSequence/video_0.avi into S1/Seq1/imageFrames/video_0/")
    flags = split_flag("test", "train"), add_joint_flags, extract, openpose.add_flag
    return run(
        argv, "mpi_inf_3dhp", __doc__, "folder with S1/ ... S8/ and mpi_inf_3dhp_test_set/", plan, *flags
    )


if __name__ == "__main__":
    run_script(main)
