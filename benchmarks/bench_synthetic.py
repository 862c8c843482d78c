"""Speed of the synthetic people: samples made in the time of one resnet50 forward of a single image.

    python benchmarks/bench_synthetic.py

Both on one thread, in turns, in the same run; at least 6 samples are wanted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import torch

from datasets.synthetic.dataset import SyntheticPeople

TARGET = 6.0
SAMPLES_A_ROUND = 20


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description="Synthetic people against a resnet50 forward, one thread each."
    )
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    from torchvision.models import resnet50

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network, image = resnet50(weights=None).eval(), torch.zeros(1, 3, 224, 224)
    people = SyntheticPeople(SAMPLES_A_ROUND * (args.rounds + 1))
    for index in range(SAMPLES_A_ROUND):  # compiles what numba has not cached
        people[index]
    network(image)
    ours, theirs = [], []
    for number in range(1, args.rounds + 1):
        indices = range(number * SAMPLES_A_ROUND, (number + 1) * SAMPLES_A_ROUND)
        ours.append(cpu_seconds(lambda: [people[i] for i in indices]) / SAMPLES_A_ROUND)  # noqa: B023
        theirs.append(cpu_seconds(lambda: network(image)))
    sample, forward = statistics.mean(ours), statistics.median(theirs)
    print(
        f"sample {1e3 * sample:.1f} ms ({1 / sample:.0f} a second), resnet50 forward {1e3 * forward:.1f} ms"
    )
    print(f"{forward / sample:.2f} samples in one forward (at least {TARGET:.0f})")


if __name__ == "__main__":
    main()
