"""COCO 2014 person keypoints -> coco_2014_train.npz (training), coco_2014_val.npz (evaluation).

    python -m datasets.preprocess.coco --source data/coco --out data/dataset_extras

Reads annotations/person_keypoints_{train,val}2014.json below --source; what of the two is there is converted.
train: people of whom all of keypoints 5 to 16 (shoulders to ankles) are labelled, hidden or not.
val: people with iscrowd 0 and num_keypoints > 0. The rule behind the file of 2020 is not public; this one is
ours, so the number of people may differ from it.
Box: the annotated one times 1.2. A keypoint labelled but hidden counts as labelled.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from datasets.labels.coco import is_person
from datasets.labels.files import Rows, gt24
from datasets.preprocess import openpose
from datasets.preprocess.common import (
    INCOMPLETE,
    box_of_xywh,
    coco_keypoints,
    coco_picture,
    make_parser,
    read_coco,
    run,
    those_there,
)
from utils.skeleton import GT24_TO_COCO17

BODY = slice(5, 17)  # COCO's shoulders to ankles


def convert(annotations: Path, split: str, openpose_dir: Path | None = None) -> Rows:
    """Rows of one annotation file; split is "train" or "val"."""
    head, people = read_coco(annotations)
    rows = Rows(f"coco_2014_{split}.npz")
    rows.notes += head.notes
    for person in tqdm(people, desc=split, unit="person", disable=None):
        try:
            if not is_person(person, head, "an annotation"):
                rows.leave_out("of a category other than person")
                continue
            keypoints = coco_keypoints(person, head)
            center, scale = box_of_xywh(person["bbox"])
            picture = head.names.get(person["image_id"])
            labelled = not person.get("iscrowd") and person.get("num_keypoints", keypoints[:, 2].sum()) > 0
        except INCOMPLETE:
            rows.leave_out("with incomplete annotations", damaged=True)
            continue
        if picture is None:
            rows.leave_out("of pictures that the file does not list", damaged=True)
        elif split == "val" and not labelled:
            rows.leave_out("that are crowds or have no labelled keypoint")
        elif split == "train" and not keypoints[BODY, 2].all():
            rows.leave_out("without labels of all keypoints from shoulders to ankles")
        else:
            imgname = coco_picture(Path(picture).name, f"{split}2014")
            part = gt24(keypoints[:, :2], GT24_TO_COCO17, keypoints[:, 2])
            more = {"openpose": openpose.openpose_of(openpose_dir, imgname, part, scale)}
            rows.add(
                imgname=imgname, center=center, scale=scale, part=part, **(more if split == "train" else {})
            )
    return rows


def annotation_files(args: argparse.Namespace) -> dict[str, Path]:
    folder = args.source / "annotations"
    return {split: folder / f"person_keypoints_{split}2014.json" for split in ("train", "val")}


def files_of(args: argparse.Namespace) -> list[str]:
    """Names of the files that this conversion writes."""
    files = annotation_files(args)
    return [f"coco_2014_{split}.npz" for split in args.split or files if files[split].is_file()]


def convert_all(args: argparse.Namespace) -> Iterator[Rows]:
    for split, path in those_there(annotation_files(args), args.split).items():
        yield convert(path, split, args.openpose)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("coco", __doc__, "COCO's folder, with annotations/, train2014/ and val2014/")
    parser.add_argument("--split", nargs="+", choices=("train", "val"), help="only these")
    openpose.add_flag(parser)
    return run(parser, argv, convert_all, files_of)


if __name__ == "__main__":
    run_script(main)
