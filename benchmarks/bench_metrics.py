"""Speed of PA-MPJPE on a batch, compared with a loop of single Procrustes fits in NumPy in the same run.

    python benchmarks/bench_metrics.py

Both score 64 samples of 14 joints in float64 on one thread. Short blocks of the two take turns, so that other
work on the machine meets both alike; medians are compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.metrics import pa_mpjpe  # noqa: E402

SAMPLES, JOINTS = 64, 14
BLOCK, WARM_UP = 30, 3
TARGET = 8.0


def single_error(source: np.ndarray, target: np.ndarray) -> float:
    """PA-MPJPE of one sample [J, 3] by a reflection-corrected singular value decomposition."""
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    u, singular, vt = np.linalg.svd(x.T @ y)
    sign = np.ones(3)
    sign[-1] = np.sign(np.linalg.det(u @ vt))
    scale = (singular * sign).sum() / (x**2).sum()
    return float(np.sqrt(((scale * x @ ((u * sign) @ vt) - y) ** 2).sum(axis=1)).mean())


def block(run: Callable[[], object]) -> list[float]:
    """Seconds of single calls, without the first ones of the block, which find cold caches."""
    times = []
    for _ in range(WARM_UP + BLOCK):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10, help=f"blocks of {BLOCK} calls each (default: 10)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    target = rng.normal(size=(SAMPLES, JOINTS, 3))
    source = target + 0.1 * rng.normal(size=target.shape)
    tensors = torch.from_numpy(source), torch.from_numpy(target)

    def loop() -> np.ndarray:
        return np.array([single_error(s, t) for s, t in zip(source, target, strict=True)])

    if np.abs(loop() - pa_mpjpe(*tensors).numpy()).max() > 1e-6:
        raise SystemExit("The batch and the loop differ; their times mean nothing.")
    contenders = {"loop of 64 in NumPy": loop, "one batch of 64": lambda: pa_mpjpe(*tensors)}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, run in contenders.items():
            times[name] += block(run)
    medians = [float(np.median(t)) for t in times.values()]
    for name, median in zip(times, medians, strict=True):
        print(f"{name:20s} median {1e3 * median:7.3f} ms   fastest {1e3 * min(times[name]):7.3f} ms")
    ratio = medians[0] / medians[1]
    print(
        f"{'loop / batch':20s} {ratio:.1f}   target at least {TARGET:.0f}   {'met' if ratio >= TARGET else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
