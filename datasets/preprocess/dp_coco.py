"""DensePose-COCO 2014 -> dp_coco_2014_train.npz (training), dp_coco_2014_minival.npz.

    python -m datasets.preprocess.dp_coco --source data/coco --out data/dataset_extras

Reads annotations/densepose_coco_2014_{train,minival}.json (or densepose_{train,minival}2014.json, their names today)
below --source, or the files right in it; what of the two is there is converted. Kept are the people that have part
masks (dp_masks). Box: the annotated one times 1.2. smpl_2dkps are SMPL's 24 joints as far as COCO's keypoints give
them, with weight 0.5. dp_annot is the annotation itself (bbox, dp_x, dp_y, dp_I, dp_U, dp_V, dp_masks), the one field
that holds Python objects.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.labels.densepose import MASK_SIZE, NUM_MASKS, POINT_KEYS, annotation_names
from datasets.labels.files import Rows, gt24
from datasets.labels.values import MAX_PIXELS, first_implausible
from datasets.preprocess.coco import SOURCE, box_of_xywh, image_below, labelled_keypoints, read_coco
from datasets.preprocess.common import INCOMPLETE, Planned, existing_splits, run, split_flag
from utils.skeleton import GT24_TO_COCO17

SPLITS = {"train": "train2014", "minival": "val2014"}  # and where their images are
WEIGHT = 0.5

NOSE = 0
# SMPL joint <- COCO keypoint.
COPIED = {1: 11, 2: 12, 4: 13, 5: 14, 7: 15, 8: 16, 16: 5, 17: 6, 18: 7, 19: 8, 20: 9, 21: 10}
# SMPL joint <- middle of two SMPL joints, in the order in which they can be worked out.
MIDDLES = {0: (1, 2), 12: (16, 17), 6: (0, 12), 9: (0, 12), 3: (0, 6), 13: (9, 16), 14: (9, 17)}
ENDS = {10: 7, 11: 8, 22: 20, 23: 21}  # feet and hands <- ankles and wrists


def smpl_keypoints(coco: np.ndarray) -> np.ndarray:
    """COCO's keypoints [17,3] (labelled 0/1) -> SMPL's joints in the image [24,3], weight 0.5 or 0."""
    joints = np.zeros((24, 3))
    for joint, keypoint in COPIED.items():
        joints[joint] = coco[keypoint] * (1, 1, WEIGHT)
    for joint, (a, b) in MIDDLES.items():
        _set_middle(joints[joint], joints[a], joints[b])
    _set_middle(joints[15], joints[12], coco[NOSE])
    for joint, source in ENDS.items():
        if joints[source, 2] > 0:
            joints[joint] = joints[source]
    return joints


def _set_middle(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    if a[2] > 0 and b[2] > 0:
        out[:] = (*(a[:2] + b[:2]) / 2, WEIGHT)


def dense_annotation(person: Mapping[str, Any]) -> dict[str, Any]:
    """The item of `dp_annot`. Raises KeyError, TypeError or ValueError when it is incomplete."""
    annotation = {name: [float(v) for v in person[name]] for name in ("bbox", *POINT_KEYS)}
    numbers = np.concatenate([*annotation.values()])
    same_length = len({len(annotation[name]) for name in POINT_KEYS}) == 1
    if not same_length or first_implausible(numbers, MAX_PIXELS) is not None:
        raise ValueError("points of different or damaged lists")
    masks = person["dp_masks"]
    if not isinstance(masks, list) or len(masks) != NUM_MASKS or not all(map(_is_mask, masks)):
        raise ValueError(f"not {NUM_MASKS} masks")
    return annotation | {"dp_masks": masks}


def _is_mask(mask: Any) -> bool:
    if isinstance(mask, dict):
        return isinstance(mask.get("counts"), str) and mask.get("size") == [MASK_SIZE] * 2
    return mask == []


def convert(annotations: Path, split: str) -> Rows:
    """Rows of one annotation file; split is "train" or "minival"."""
    head, people = read_coco(annotations)
    rows = Rows(f"dp_coco_2014_{split}.npz")
    rows.notes += head.notes
    for person in tqdm(people, desc=split, unit="person", disable=None):
        if "dp_masks" not in person:
            rows.leave_out("without part masks")
            continue
        try:
            dense = dense_annotation(person)
            center, scale = box_of_xywh(person["bbox"])
            keypoints = labelled_keypoints(person, head)
            image_id, number = np.int64(int(person["image_id"])), np.int64(int(person["id"]))
        except INCOMPLETE:
            rows.leave_out("with incomplete annotations", damaged=True)
            continue
        if image_id not in head.names:
            rows.leave_out("of images that the file does not list", damaged=True)
            continue
        rows.add(
            imgname=image_below(Path(head.names[image_id]).name, SPLITS[split]),
            center=center,
            scale=scale,
            part=gt24(keypoints[:, :2], GT24_TO_COCO17, keypoints[:, 2]),
            smpl_2dkps=smpl_keypoints(keypoints),
            dp_annot=dense,
            im_id=image_id,
            id=number,
        )
    return rows


def plan(args: argparse.Namespace) -> Planned:
    """Files that the settings ask for, and what makes their rows."""
    folders = (args.source, args.source / "annotations")
    candidates = {
        split: [folder / name for folder in folders for name in annotation_names(split)] for split in SPLITS
    }
    names = {
        split: next((path for path in paths if path.is_file()), folders[1] / annotation_names(split)[0])
        for split, paths in candidates.items()
    }
    paths = existing_splits(names, args.split)
    files = [f"dp_coco_2014_{split}.npz" for split in paths]
    return files, lambda: [convert(path, split) for split, path in paths.items()]


def main(argv: list[str] | None = None) -> int:
    return run(argv, "dp_coco", __doc__, SOURCE, plan, split_flag(*SPLITS))


if __name__ == "__main__":
    run_script(main)
