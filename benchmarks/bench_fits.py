"""Speed of looking up fitted bodies: a batch at once against a loop over its samples, in the same run.

    python benchmarks/bench_fits.py

The loop does for each sample what the training of 2020 did: angle-axis to matrix, the turn, back through
`cv2.Rodrigues`, then the flip. The batch must be at least 4 times as fast.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from datasets.augment import change_pose
from datasets.fits import Fits, FitTable

TARGET = 4.0
PEOPLE = 10_000
ROUNDS, REPEATS = 21, 50


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(REPEATS):
        run()
    return (time.process_time() - start) / REPEATS


def main() -> None:
    parser = argparse.ArgumentParser(description="A batch of fits at once against a loop over its samples.")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng, size = np.random.default_rng(0), args.batch_size
    rotvec, betas = rng.normal(0, 0.6, (PEOPLE, 72)), rng.normal(0, 1, (PEOPLE, 10))
    table = FitTable(*(a.astype(np.float32) for a in (rotvec, betas)), np.ones(PEOPLE, dtype=bool), Path())
    fits = Fits({"h36m": table, "coco": table})
    names = tuple(rng.choice(["h36m", "coco"], size).tolist())
    index = torch.from_numpy(rng.integers(0, PEOPLE, size))
    rotation = torch.from_numpy(rng.uniform(-60, 60, size).astype(np.float32))
    flipped = torch.from_numpy(rng.random(size) < 0.5)

    batch = SimpleNamespace(
        dataset=names, index=index, rotation_deg=rotation, is_flipped=flipped, rotvec=torch.zeros(size, 72)
    )

    def at_once() -> torch.Tensor:
        return fits(batch).rotvec

    def in_a_loop() -> torch.Tensor:
        poses, shapes = [], []
        for name, own, degrees, flip in zip(names, index, rotation, flipped, strict=True):
            row = fits.tables[name]
            poses.append(torch.from_numpy(change_pose(row.rotvec[own], degrees.item(), bool(flip))).float())
            shapes.append(torch.from_numpy(row.betas[own]))
        torch.stack(shapes)
        return torch.stack(poses)

    difference = (at_once() - in_a_loop()).abs().max().item()
    pairs = [(seconds(at_once), seconds(in_a_loop)) for _ in range(args.rounds + 1)][1:]
    ours, loop = (1e6 * statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{size} fits at once: {ours:.0f} us, in a loop {loop:.0f} us: {loop / ours:.1f} times as fast")
    print(f"(at least {TARGET:.0f}; largest difference {difference:.1g})")


if __name__ == "__main__":
    main()
