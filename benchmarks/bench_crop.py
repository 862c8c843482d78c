"""Speed of the crop: the anti-aliased warp against the crop of 2020, on an image of 1000 x 1000.

    python benchmarks/bench_crop.py

Both on one thread, in turns, in the same run; the whole image must be cropped at least 3 times as fast.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from datasets.legacy_crop import crop_legacy
from datasets.transforms import crop_image

TARGET = 3.0
SIZE = 1000
CASES = (("whole image", 1.0, 0.0), ("whole, turned by 20 degrees", 1.0, 20.0), ("four fifths", 0.8, 0.0),
         ("half", 0.5, 0.0))  # fmt: skip


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="The warp against the crop of 2020, one thread.")
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    for name, share, rotation in CASES:
        box = (image, (SIZE / 2, SIZE / 2), share * SIZE / 200, rotation)
        pairs = [
            (cpu_seconds(lambda: crop_image(*box)), cpu_seconds(lambda: crop_legacy(*box)))  # noqa: B023
            for _ in range(args.rounds + 1)
        ][1:]
        ours, theirs = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"{name}: {ours:.1f} ms, 2020 {theirs:.1f} ms: {theirs / ours:.1f} times as fast")
    print(f"(the whole image: at least {TARGET:.0f})")


if __name__ == "__main__":
    main()
