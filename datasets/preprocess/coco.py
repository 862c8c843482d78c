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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.labels.coco import CocoHead, coco_head, entries_of, is_person, keypoints_of
from datasets.labels.files import Rows, gt24
from datasets.preprocess import openpose
from datasets.preprocess.common import INCOMPLETE, Planned, box_of_corners, existing_splits, run, split_flag
from utils.io import load_json
from utils.skeleton import GT24_TO_COCO17

SOURCE = "COCO's folder, with annotations/, train2014/ and val2014/"
BODY = slice(5, 17)  # COCO's shoulders to ankles


def read_coco(path: Path) -> tuple[CocoHead, list[dict[str, Any]]]:
    """Head of a file in COCO's form (see `CocoHead`), and its annotations unchanged."""
    content = load_json(path)
    return coco_head(content, path), entries_of(content, "annotations", path)


def box_of_xywh(xywh: Iterable[float]) -> tuple[np.ndarray, float]:
    """Centre [2] and scale of a box x, y, width, height; scale 0 for one without area.

    Raises ValueError or TypeError unless these are four numbers.
    """
    x, y, width, height = xywh
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (x, y, width, height)):
        raise TypeError("a box is four numbers")
    if not (width > 0 and height > 0):
        return np.array([x, y]), 0.0
    return box_of_corners(x, y, x + width, y + height)


def labelled_keypoints(annotation: dict[str, Any], head: CocoHead) -> np.ndarray:
    """COCO's 17 keypoints [17,3]: x, y and 1 where labelled (hidden or not), 0 where not."""
    keypoints = keypoints_of(annotation, head, "an annotation")
    keypoints[:, 2] = keypoints[:, 2] > 0
    return keypoints


def image_below(name: str, default: str) -> str:
    """Path below COCO's folder: COCO_val2014_*.jpg is in val2014, other names are in `default`."""
    words = name.split("_")
    return f"{words[1] if words[0] == 'COCO' and len(words) == 3 else default}/{name}"


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
            keypoints = labelled_keypoints(person, head)
            center, scale = box_of_xywh(person["bbox"])
            image = head.names.get(person["image_id"])
            counts = not person.get("iscrowd") and person.get("num_keypoints", keypoints[:, 2].sum()) > 0
        except INCOMPLETE:
            rows.leave_out("with incomplete annotations", damaged=True)
            continue
        if image is None:
            rows.leave_out("of images that the file does not list", damaged=True)
        elif split == "val" and not counts:
            rows.leave_out("that are crowds or have no labelled keypoint")
        elif split == "train" and not keypoints[BODY, 2].all():
            rows.leave_out("without labels of all keypoints from shoulders to ankles")
        else:
            imgname = image_below(Path(image).name, f"{split}2014")
            part = gt24(keypoints[:, :2], GT24_TO_COCO17, keypoints[:, 2])
            detected = openpose.keypoints_of(openpose_dir, imgname, part, scale)
            more = {"openpose": detected} if split == "train" else {}
            rows.add(imgname=imgname, center=center, scale=scale, part=part, **more)
    return rows


def plan(args: argparse.Namespace) -> Planned:
    """Files that the settings ask for, and what makes their rows."""
    paths = {
        split: args.source / f"annotations/person_keypoints_{split}2014.json" for split in ("train", "val")
    }
    paths = existing_splits(paths, args.split)
    names = [f"coco_2014_{split}.npz" for split in paths]
    return names, lambda: [convert(path, split, args.openpose) for split, path in paths.items()]


def main(argv: list[str] | None = None) -> int:
    return run(argv, "coco", __doc__, SOURCE, plan, split_flag("train", "val"), openpose.add_flag)


if __name__ == "__main__":
    run_script(main)
