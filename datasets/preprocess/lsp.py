"""LSP test pictures with the masks of UPi-S1h -> lsp_dataset_test.npz (evaluation).

    python -m datasets.preprocess.lsp --source data/lsp_dataset --out data/dataset_extras

Reads joints.mat (3 x 14 x 2000) below --source. The test pictures are images/im1001.jpg to im2000.jpg; their masks
are data/lsp/im1001_segmentation.png and data/lsp/im1001_part_segmentation.png below the folder of UPi-S1h.
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
from datasets.preprocess.common import box_of_points, make_parser, part_of_lsp, read_lsp_joints, run

FILE = "lsp_dataset_test.npz"

NUM_PICTURES, NUM_TRAIN = 2000, 1000


def read_joints(source: Path):
    """Joints [2000,14,3] of LSP: x, y and 1, since all are labelled."""
    joints = read_lsp_joints(source / "joints.mat", order=(2, 1, 0), count=NUM_PICTURES)
    joints[..., 2] = 1
    return joints


def convert(source: Path) -> Rows:
    """Rows of the test pictures."""
    joints = read_joints(source)
    rows = Rows(FILE)
    for number in tqdm(range(NUM_TRAIN + 1, NUM_PICTURES + 1), desc="LSP", unit="picture", disable=None):
        person = joints[number - 1]
        center, scale = box_of_points(person)
        rows.add(
            imgname=f"images/im{number:04d}.jpg",
            center=center,
            scale=scale,
            maskname=f"data/lsp/im{number:04d}_segmentation.png",
            partname=f"data/lsp/im{number:04d}_part_segmentation.png",
            part=part_of_lsp(person),
        )
    return rows


def convert_all(args: argparse.Namespace) -> Iterator[Rows]:
    yield convert(args.source)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("lsp", __doc__, "LSP's folder, with joints.mat and images/")
    return run(parser, argv, convert_all, lambda args: [FILE])


if __name__ == "__main__":
    run_script(main)
