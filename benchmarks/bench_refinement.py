"""Time of refinement, as a ratio to the network's for the same people in the same run.

python benchmarks/bench_refinement.py        # danet_s, 2 threads, batches of 1 and 8
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from datasets.people.crops import People
from models import InferenceConfig, load_predictor
from models.fitting.refinement import Refiner, bounded
from utils.images import network_input

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictor = load_predictor(InferenceConfig(body="open", device="cpu"))
    refiner = Refiner(predictor.smpl, predictor.assets.atlas)
    crops = [
        person.crop for n in range(1, 5) for person in People(EXAMPLES / f"rendered_{n}.jpg", detector="none")
    ]
    for batch in (1, 8):
        images = network_input((crops * batch)[:batch])
        output = predictor.network(images)
        refine = partial(refiner, output.iuv, bounded(output.smpl.params))
        run_network = partial(predictor.network, images)
        refine()
        pairs = [(seconds(refine), seconds(run_network)) for _ in range(args.rounds)]
        ours, network = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"batch {batch}: refinement {1000 * ours:.1f} ms, network {1000 * network:.1f} ms, "
            f"ratio {ours / network:.2f} (at most 1)"
        )


if __name__ == "__main__":
    main()
