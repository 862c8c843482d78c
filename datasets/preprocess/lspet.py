"""LSP extended in high resolution -> hr-lspet_train.npz (training).

    python -m datasets.preprocess.lspet --source data/hr-lspet --out data/dataset_extras

Reads joints.mat (14 x 3 x 10000) below --source; the pictures im00001.png to im10000.png are beside it. Where
pictures are there, labels without one are left out: the set has gaps. Joints whose third number is 0 are not
labelled: they are zero with confidence 0. Box: the labelled joints times 1.2.
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
from datasets.preprocess.common import box_of_points, make_parser, part_of_lsp, read_lsp_joints, run

FILE = "hr-lspet_train.npz"


def convert(source: Path, openpose_dir: Path | None = None) -> Rows:
    """Rows of all pictures."""
    joints = read_lsp_joints(source / "joints.mat", order=(2, 0, 1), count=None)
    there = {path.name for path in source.glob("im*.png")}
    rows = Rows(FILE)
    for index, person in enumerate(tqdm(joints, desc="LSP extended", unit="picture", disable=None)):
        imgname = f"im{index + 1:05d}.png"
        if there and imgname not in there:
            rows.leave_out("without a picture")
            continue
        (center, scale), part = box_of_points(person[person[:, 2] > 0]), part_of_lsp(person)
        detected = openpose.openpose_of(openpose_dir, imgname, part, scale)
        rows.add(imgname=imgname, center=center, scale=scale, part=part, openpose=detected)
    return rows


def convert_all(args: argparse.Namespace) -> Iterator[Rows]:
    yield convert(args.source, args.openpose)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("lspet", __doc__, "the folder hr-lspet, with joints.mat and the pictures")
    openpose.add_flag(parser)
    return run(parser, argv, convert_all, lambda args: [FILE])


if __name__ == "__main__":
    run_script(main)
