"""MPII Human Pose -> mpii_train.npz (training).

    python -m datasets.preprocess.mpii --source data/mpii --out data/dataset_extras

Reads annot/train.json below --source: the training annotations of mpii_human_pose_v1_u12_1.mat as a list of people
{image, center [2], scale, joints [16][2], joints_vis [16]}, the form in which HRNet and "Simple Baselines" hand
them out. Images are images/<image>. Centre and scale (height / 200 px) stay as annotated. Joints with
joints_vis 0 are not labelled: they are zero with confidence 0.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.labels.files import Rows, gt24
from datasets.preprocess import openpose
from datasets.preprocess.common import INCOMPLETE
from utils.io import DataFileError, load_json
from utils.skeleton import MPII16_IN_GT24

FILE = "mpii_train.npz"


def part_of(person: Mapping[str, Any]) -> np.ndarray:
    """The field `part` [24,3]. Raises KeyError, TypeError or ValueError when joints are missing."""
    labelled = np.array(person["joints_vis"], np.float64).reshape(16) > 0
    joints = np.array(person["joints"], np.float64).reshape(16, 2)
    return gt24(np.where(labelled[:, None], joints, 0), MPII16_IN_GT24, labelled)


def convert(source: Path, openpose_dir: Path | None = None) -> Rows:
    """Rows of all people."""
    path = source / "annot" / "train.json"
    people = load_json(path)
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise DataFileError(f"{path} must be a list of people {{image, center, scale, joints, joints_vis}}.")
    rows = Rows(FILE)
    for person in tqdm(people, desc="MPII", unit="person", disable=None):
        try:
            part = part_of(person)
            center = np.array(person["center"], np.float64).reshape(2)
            imgname, scale = f"images/{Path(person['image']).name}", float(person["scale"])
        except INCOMPLETE:
            rows.leave_out("with incomplete annotations", damaged=True)
            continue
        if not part[:, 2].any():
            rows.leave_out("without a labelled joint")
            continue
        detected = openpose.keypoints_of(openpose_dir, imgname, part, scale)
        rows.add(imgname=imgname, center=center, scale=scale, part=part, openpose=detected)
    return rows


def main(argv: list[str] | None = None) -> int:
    source = "MPII's folder, with annot/train.json and images/"
    return openpose.run_with_openpose(argv, "mpii", __doc__, source, FILE, convert)


if __name__ == "__main__":
    run_script(main)
