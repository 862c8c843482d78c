"""LSP training pictures in their original size -> lsp_dataset_original_train.npz (training).

    python -m datasets.preprocess.lsp_orig --source data/lsp_dataset_original --out data/dataset_extras

Reads joints.mat (3 x 14 x 2000) below --source; the training pictures are images/im0001.jpg to im1000.jpg.
All 14 joints are labelled and get confidence 1: the file's third number only says which are hidden. Box: the
joints times 1.2.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from datasets.labels.files import Rows
from datasets.preprocess import openpose
from datasets.preprocess.common import box_of_points, make_parser, part_of_lsp, run
from datasets.preprocess.lsp import NUM_TRAIN, read_joints

FILE = "lsp_dataset_original_train.npz"


def convert(source: Path, openpose_dir: Path | None = None) -> Rows:
    """Rows of the training pictures."""
    joints = read_joints(source)
    rows = Rows(FILE)
    for number in tqdm(range(1, NUM_TRAIN + 1), desc="LSP", unit="picture", disable=None):
        person, imgname = joints[number - 1], f"images/im{number:04d}.jpg"
        (center, scale), part = box_of_points(person), part_of_lsp(person)
        detected = openpose.openpose_of(openpose_dir, imgname, part, scale)
        rows.add(imgname=imgname, center=center, scale=scale, part=part, openpose=detected)
    return rows


def convert_all(args: argparse.Namespace) -> Iterator[Rows]:
    yield convert(args.source, args.openpose)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "lsp_orig", __doc__, "LSP's folder of original pictures, with joints.mat and images/"
    )
    openpose.add_flag(parser)
    return run(parser, argv, convert_all, lambda args: [FILE])


if __name__ == "__main__":
    run_script(main)
