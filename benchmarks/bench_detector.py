"""Recall and precision of the person detector at IoU 0.5 on COCO-style annotations, and its time an image.

    python benchmarks/bench_detector.py --ann_file annotations.json --img_root pictures

Without arguments there is nothing to score: only the time on two shipped photographs is printed. People with
`iscrowd` 1 are neither to be found nor wrong when found: a detection that lies in such a region for more than half
of its area is left out. Detections are matched to people by falling score, each person once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datasets.people.boxes import PERSON  # noqa: E402
from datasets.people.detector import MIN_SCORE, MoveNet, box_iou  # noqa: E402
from utils.images import read_image  # noqa: E402
from utils.io import load_json  # noqa: E402
from utils.people import Box, Detection  # noqa: E402

MIN_IOU = 0.5
EXAMPLES = ("astronaut.jpg", "grace_hopper.jpg")
REPEATS = 10


def in_crowd(box: Box, crowds: Sequence[Box]) -> bool:
    """Whether more than half of a box lies in one of the crowd boxes."""
    for x, y, width, height in crowds:
        shared_width = min(box[0] + box[2], x + width) - max(box[0], x)
        shared_height = min(box[1] + box[3], y + height) - max(box[1], y)
        if max(shared_width, 0) * max(shared_height, 0) > 0.5 * box[2] * box[3]:
            return True
    return False


def count_matches(
    found: Sequence[Detection], people: Sequence[Box], crowds: Sequence[Box]
) -> tuple[int, int]:
    """(people that are found, detections that count)."""
    left, matched, counted = list(people), 0, 0
    for person in sorted(found, key=lambda p: -p.score):
        best = max(left, key=lambda box: box_iou(person.box, box), default=None)
        if best is not None and box_iou(person.box, best) >= MIN_IOU:
            left.remove(best)
            matched += 1
        elif in_crowd(person.box, crowds):
            continue
        counted += 1
    return matched, counted


def score(finder: MoveNet, ann_file: str, img_root: str) -> str:
    """One line: recall, precision and time an image."""
    content = load_json(Path(ann_file))
    boxes: dict[tuple[int, bool], list[Box]] = {}
    for entry in content["annotations"]:
        if entry.get("category_id", PERSON) == PERSON:
            boxes.setdefault((entry["image_id"], bool(entry.get("iscrowd", 0))), []).append(
                tuple(entry["bbox"])
            )
    matched = counted = 0
    seconds = []
    for image in content["images"]:
        pixels = read_image(Path(img_root) / image["file_name"])
        start = time.perf_counter()
        found = finder.detect(pixels)
        seconds.append(time.perf_counter() - start)
        of_image = count_matches(
            found, boxes.get((image["id"], False), []), boxes.get((image["id"], True), [])
        )
        matched, counted = matched + of_image[0], counted + of_image[1]
    people = sum(len(found) for (_, crowd), found in boxes.items() if not crowd)
    return (
        f"recall {matched / max(people, 1):.3f} ({matched} of {people}), precision {matched / max(counted, 1):.3f} "
        f"({matched} of {counted}), {len(content['images'])} images, median {np.median(seconds) * 1e3:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--ann_file", help="COCO-style annotations with person boxes")
    parser.add_argument("--img_root", default=".", help="folder of their images")
    parser.add_argument("--min_score", type=float, default=MIN_SCORE, help=f"default: {MIN_SCORE}")
    args = parser.parse_args()
    for name, tiled in (("one pass", False), ("with tiles", True)):
        finder = MoveNet(min_score=args.min_score, tiled=tiled)
        if args.ann_file:
            print(f"{name}: {score(finder, args.ann_file, args.img_root)}")
            continue
        for example in EXAMPLES:
            pixels = read_image(ROOT / "examples" / example)
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                finder.detect(pixels)
                seconds.append(time.perf_counter() - start)
            print(
                f"{name}: {example} {pixels.shape[1]} x {pixels.shape[0]}, {np.median(seconds) * 1e3:.0f} ms"
            )


if __name__ == "__main__":
    main()
