"""LSP extended in high resolution -> hr-lspet_train.npz (training).

    python -m datasets.preprocess.lspet --source data/hr-lspet --out data/dataset_extras

Reads joints.mat (14 x 3 x 10000) below --source; the images im00001.png to im10000.png are beside it. Where
images are there, labels without one are left out: the set has gaps. Joints whose third number is 0 are not
labelled: they are zero with confidence 0. Box: the labelled joints times 1.2.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from pathlib import Path

from tqdm import tqdm

from datasets.labels.files import Rows
from datasets.preprocess import openpose
from datasets.preprocess.lsp import add_training_person, read_joints_file

FILE = "hr-lspet_train.npz"


def convert(source: Path, openpose_dir: Path | None = None) -> Rows:
    """Rows of all images."""
    joints = read_joints_file(source / "joints.mat", order=(2, 0, 1), count=None)
    existing, rows = {path.name for path in source.glob("im*.png")}, Rows(FILE)
    for number, person in enumerate(tqdm(joints, desc="LSP extended", unit="image", disable=None), 1):
        imgname = f"im{number:05d}.png"
        if existing and imgname not in existing:
            rows.leave_out("without an image")
        else:
            add_training_person(rows, imgname, person, openpose_dir)
    return rows


def main(argv: list[str] | None = None) -> int:
    source = "the folder hr-lspet, with joints.mat and the images"
    return openpose.run_with_openpose(argv, "lspet", __doc__, source, FILE, convert)


if __name__ == "__main__":
    run_script(main)
