"""LSP test images with the masks of UPi-S1h -> lsp_dataset_test.npz (evaluation).

    python -m datasets.preprocess.lsp --source data/lsp_dataset --out data/dataset_extras

Reads joints.mat (3 x 14 x 2000) below --source. The test images are images/im1001.jpg to im2000.jpg; their masks
are data/lsp/im1001_segmentation.png and data/lsp/im1001_part_segmentation.png below the folder of UPi-S1h.
All 14 joints are labelled and get confidence 1: the file's third number only says which are hidden. Box: the
joints times 1.2.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.labels.files import Rows, gt24
from datasets.preprocess import openpose
from datasets.preprocess.common import box_of_points, run
from utils.io import DataFileError, load_mat
from utils.skeleton import NUM_LSP_JOINTS

FILE = "lsp_dataset_test.npz"
NUM_IMAGES, NUM_TRAIN = 2000, 1000


def read_joints_file(path: Path, order: tuple[int, int, int], count: int | None) -> np.ndarray:
    """`joints` of an LSP joints.mat as [N,14,3]: x, y, flag.

    Args:
        order: axes of the file that hold items, joints and x, y, flag.
        count: items expected, None for any.
    """
    joints = load_mat(path).get("joints")
    if joints is not None and joints.ndim == 3 and np.issubdtype(joints.dtype, np.number):
        joints = joints.transpose(order).astype(np.float64)
        if joints.shape[1:] == (NUM_LSP_JOINTS, 3) and count in (None, len(joints)):
            return joints
    expected = dict(zip(order, (count or "N", NUM_LSP_JOINTS, 3), strict=True))
    raise DataFileError(
        f"{path} must hold an array 'joints' of {' x '.join(str(expected[axis]) for axis in range(3))} numbers. "
        "Expected the joints.mat of this very data set."
    )


def read_joints(source: Path) -> np.ndarray:
    """Joints [2000,14,3] of LSP: x, y and 1, since all are labelled."""
    joints = read_joints_file(source / "joints.mat", order=(2, 1, 0), count=NUM_IMAGES)
    joints[..., 2] = 1
    return joints


def labels_of(joints: np.ndarray) -> dict[str, np.ndarray | float]:
    """Box and `part` of a person's joints [14,3]; the rows of joints that are not labelled are zero."""
    labelled = joints[:, 2] > 0
    center, scale = box_of_points(joints[labelled])
    part = gt24(np.where(labelled[:, None], joints[:, :2], 0), range(NUM_LSP_JOINTS), labelled)
    return {"center": center, "scale": scale, "part": part}


def add_training_person(rows: Rows, imgname: str, joints: np.ndarray, openpose_dir: Path | None) -> None:
    """Add a person's labels, with the detection of OpenPose that fits them."""
    labels = labels_of(joints)
    detected = openpose.keypoints_of(openpose_dir, imgname, labels["part"], labels["scale"])
    rows.add(imgname=imgname, openpose=detected, **labels)


def convert(source: Path) -> Rows:
    """Rows of the test images."""
    joints, rows = read_joints(source), Rows(FILE)
    for number in tqdm(range(NUM_TRAIN + 1, NUM_IMAGES + 1), desc="LSP", unit="image", disable=None):
        rows.add(
            imgname=f"images/im{number:04d}.jpg",
            maskname=f"data/lsp/im{number:04d}_segmentation.png",
            partname=f"data/lsp/im{number:04d}_part_segmentation.png",
            **labels_of(joints[number - 1]),
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    source = "LSP's folder, with joints.mat and images/"
    return run(argv, "lsp", __doc__, source, lambda args: ([FILE], lambda: [convert(args.source)]))


if __name__ == "__main__":
    run_script(main)
