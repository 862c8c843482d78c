"""Human3.6M test subjects -> h36m_valid_protocol1.npz, h36m_valid_protocol2.npz (evaluation).

    python -m datasets.preprocess.h36m --source data/h36m --out data/dataset_extras --extract

Reads, below --source, S9 and S11:
  S9/MyPoseFeatures/D3_Positions_mono/<Action>.<camera>.cdf           joints in the camera's frame, mm
  S9/MySegmentsMat/ground_truth_bb/<Action>.<camera>.mat              a box a frame, drawn as a mask
  S9/Videos/<Action>.<camera>.mp4                                     with --extract only
Protocol 1 has all cameras, protocol 2 camera 60457274 only; both take every 5th frame. "_ALL" is passed over.
S are 17 joints in metres, relative to the pelvis (the pelvis itself is 0). Box: the mask's times 0.9. Images are
images/S9_<Action>.<camera>_<frame, from 000001>.jpg below --source, blanks in the action being "_".
Training labels (h36m_mosh_train.npz) hold body parameters that were fitted to the markers. They may not be
passed on and cannot be worked out from the public files, so there is no converter for them.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from datasets.labels.files import Rows, gt24
from datasets.preprocess import video_frames
from datasets.preprocess.common import box_of_corners, run
from datasets.preprocess.hdf5 import open_hdf5
from utils.io import DataFileError, limited_memory
from utils.packages import require_packages
from utils.skeleton import H36M17_IN_GT24

FILES = ("h36m_valid_protocol1.npz", "h36m_valid_protocol2.npz")

SUBJECTS = ("S9", "S11")
FRONT_CAMERA = "60457274"  # of protocol 2
FRAME_STEP = 5
MASK_MARGIN = 0.9
# Rows of the set's 32 joints, in the order of H36M17_IN_GT24; the pelvis comes first.
JOINTS = (11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)


class Recording(NamedTuple):
    """One action of one subject as one camera saw it."""

    subject: str
    action: str
    camera: str
    poses: Path
    boxes: Path
    video: Path

    def image(self, frame: int) -> str:
        """Name of a frame's image; `frame` counts from 0, the name from 1."""
        return f"images/{self.subject}_{self.action.replace(' ', '_')}.{self.camera}_{frame + 1:06d}.jpg"


def recordings(source: Path) -> list[Recording]:
    """All recordings below `source` but "_ALL". Raises FileNotFoundError when there is none."""
    found = []
    for subject in SUBJECTS:
        folder = source / subject / "MyPoseFeatures" / "D3_Positions_mono"
        files = sorted(folder.glob("*.cdf"))
        if not files:
            print(f"no {subject}: {folder} has no .cdf files")
        for poses in files:
            action, _, camera = poses.stem.rpartition(".")
            if not (action and camera.isdigit()):
                raise DataFileError(f"{poses} must be named <Action>.<camera>.cdf, as Human3.6M names it.")
            if action.startswith("_ALL"):
                continue
            boxes = source / subject / "MySegmentsMat" / "ground_truth_bb" / f"{poses.stem}.mat"
            video = source / subject / "Videos" / f"{poses.stem}.mp4"
            found.append(Recording(subject, action, camera, poses, boxes, video))
    if not found:
        raise FileNotFoundError(
            f"There are no joints in {source}: neither of {', '.join(SUBJECTS)} has MyPoseFeatures/D3_Positions_mono."
        )
    return found


def read_poses(path: Path) -> np.ndarray:
    """Joints [T,32,3] of a CDF file, in millimetres."""
    require_packages(f"Reading {path}", "datasets", "cdflib")
    import cdflib

    try:
        with limited_memory():  # blocks that are packed do not say how large they are
            pose = np.asarray(cdflib.CDF(path).varget("Pose"))
    except Exception as error:  # the reader raises many types on damaged files
        raise DataFileError(
            f"{path} is not a CDF file with a variable 'Pose' ({str(error) or type(error).__name__}). Fetch it again."
        ) from error
    if pose.ndim != 3 or pose.shape[0] != 1 or pose.shape[2] != 96 or pose.dtype.kind != "f":
        raise DataFileError(f"'Pose' of {path} must have the shape (1, frames, 96), not {pose.shape}.")
    return pose[0].reshape(-1, 32, 3).astype(np.float64)


def root_centred(joints: np.ndarray) -> np.ndarray:
    """The set's joints [32,3] in millimetres -> S [24,4]: metres from the pelvis, confidence."""
    joints = joints[list(JOINTS)] / 1000
    return gt24(joints - joints[0], H36M17_IN_GT24)


def box_of_mask(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and scale of the pixels set in a mask [width, height], as HDF5 holds MATLAB's; scale 0 for none."""
    if mask.ndim != 2 or not mask.any():
        return np.zeros(2), 0.0
    xs, ys = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return box_of_corners(xs[0], ys[0], xs[-1] + 1, ys[-1] + 1, margin=MASK_MARGIN)


def add_recording(recording: Recording, source: Path, extract: bool, files: list[Rows]) -> None:
    """Add every 5th frame of a recording to the files; extract: write their images, too."""
    poses = read_poses(recording.poses)
    frames = range(0, len(poses), FRAME_STEP)
    existing = set(frames)
    if extract:
        images = {frame: source / recording.image(frame) for frame in frames}
        existing = video_frames.extract(recording.video, images)
    with open_hdf5(recording.boxes) as boxes:
        num_boxes = boxes.num_cells("Masks")
        for frame in frames:
            usable = frame in existing and frame < num_boxes
            center, scale = box_of_mask(boxes.cell("Masks", frame)) if usable else (None, 0.0)
            for rows in files:
                if frame not in existing:
                    rows.leave_out("behind the end of the video", damaged=True)
                elif frame >= num_boxes:
                    rows.leave_out("without a box", damaged=True)
                else:
                    joints = root_centred(poses[frame])
                    rows.add(imgname=recording.image(frame), center=center, scale=scale, S=joints)


def convert(source: Path, extract: bool = False) -> list[Rows]:
    """Rows of protocol 1 and, if its camera is there, of protocol 2; extract: write the images, too."""
    protocol1, protocol2 = files = [*map(Rows, FILES)]
    for recording in tqdm(recordings(source), desc="Human3.6M", unit="recording", disable=None):
        add_recording(recording, source, extract, files if recording.camera == FRONT_CAMERA else files[:1])
    if not protocol2 and not protocol2.left_out:
        print(f"no protocol 2: there is no recording of camera {FRONT_CAMERA}")
        return [protocol1]
    return files


def main(argv: list[str] | None = None) -> int:
    return run(
        argv,
        "h36m",
        __doc__,
        "folder with S9/ and S11/",
        lambda args: ([*FILES], lambda: convert(args.source, args.extract)),
        video_frames.flag("from S9/Videos/*.mp4 into images/, both below --source"),
    )


if __name__ == "__main__":
    run_script(main)
