"""LSP training images in their original size -> lsp_dataset_original_train.npz (training).

    python -m datasets.preprocess.lsp_orig --source data/lsp_dataset_original --out data/dataset_extras

Reads joints.mat (3 x 14 x 2000) below --source; the training images are images/im0001.jpg to im1000.jpg.
All 14 joints are labelled and get confidence 1: the file's third number only says which are hidden. Box: the
joints times 1.2.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

from pathlib import Path

from tqdm import tqdm

from datasets.labels.files import Rows
from datasets.preprocess import openpose
from datasets.preprocess.lsp import NUM_TRAIN, add_training_person, read_joints

FILE = "lsp_dataset_original_train.npz"


def convert(source: Path, openpose_dir: Path | None = None) -> Rows:
    """Rows of the training images."""
    joints, rows = read_joints(source), Rows(FILE)
    for number in tqdm(range(1, NUM_TRAIN + 1), desc="LSP", unit="image", disable=None):
        add_training_person(rows, f"images/im{number:04d}.jpg", joints[number - 1], openpose_dir)
    return rows


def main(argv: list[str] | None = None) -> int:
    source = "LSP's folder of original images, with joints.mat and images/"
    return openpose.run_with_openpose(argv, "lsp_orig", __doc__, source, FILE, convert)


if __name__ == "__main__":
    run_script(main)
