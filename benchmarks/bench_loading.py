"""Samples a second from the data workers, beside what a training step takes.

    python benchmarks/bench_loading.py                                  # synthetic people, the compact network
    python benchmarks/bench_loading.py --train_data h36m_dp --model danet --data_dir data

Workers and training share the cores here; on a GPU the network needs more, so count the workers from its own speed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from bench_training import seconds, step_of

from datasets.loading import training_batches
from datasets.sampler import StepSampler
from datasets.training_data import DataConfig, TrainingData, build_mix
from models.danet import PRESETS
from models.training.stages import Stage
from utils.body import DATA_DIR


def samples_per_second(data: TrainingData, batch_size: int, workers: int, batches: int) -> float:
    """In the long run: start-up and the first batch, with its compilation, are not counted."""
    epochs = math.ceil((batches + 1) * batch_size / len(data)) + 1
    loaded = training_batches(data, StepSampler(len(data), batch_size, epochs), workers)
    for _ in range(max(1, workers)):
        next(loaded)
    start = time.perf_counter()
    for _ in range(batches):
        next(loaded)
    return batches * batch_size / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Data loading beside the model's need.")
    parser.add_argument("--train_data", default="synthetic")
    parser.add_argument("--data_dir", default=str(DATA_DIR))
    parser.add_argument("--model", choices=tuple(PRESETS), default="danet_s")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=12)
    args = parser.parse_args()
    cfg = DataConfig(train_data=args.train_data, synthetic_size=4096)
    data = TrainingData(build_mix(cfg, args.data_dir))
    print(data.mix.description)
    speeds = {}
    for workers in args.workers:
        speeds[workers] = samples_per_second(data, args.batch_size, workers, args.batches)
        each = f", {speeds[workers] / workers:.1f} a worker" if workers else ""
        print(f"{workers} workers: {speeds[workers]:.1f} samples/s{each}")
    step = step_of(args.model, args.batch_size, amp=False)
    per_worker = max(speed / max(workers, 1) for workers, speed in speeds.items())
    for stage in (Stage.IUV, Stage.JOINT):
        step(stage)
        need = args.batch_size / min(seconds(lambda: step(stage)) for _ in range(3))  # noqa: B023
        print(
            f"{args.model} stage {stage.name} on {torch.get_num_threads()} threads takes {need:.1f} samples/s: "
            f"{math.ceil(need / per_worker)} workers keep it busy"
        )


if __name__ == "__main__":
    main()
