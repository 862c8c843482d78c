"""One training step of each stage, as a ratio to resnet50's forward pass on one image in the same run.

    python benchmarks/bench_training.py           # default network, batch 2, 2 threads, median of 3

Rendering the targets is not counted: forward pass, losses, backward pass and Adam are.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from datasets.synthetic.dataset import SyntheticPeople
from models import build_danet
from models.danet import PRESETS, preset
from models.targets import TargetBuilder
from models.training.stages import Stage
from models.training.state import make_optimizer
from models.training.step import SupervisedNetwork, add_gradients
from utils.body import resolve_body
from utils.runtime import keep_freed_memory
from utils.structures import collate_samples

TARGETS = {
    Stage.IUV: 22.0,
    Stage.JOINT: 33.0,
}  # for the default network at batch 2; the 2020 code took 28 and 41


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def step_of(name: str, batch_size: int, amp: bool) -> Callable[[Stage], None]:
    """A function that makes one training step of a stage on the same batch."""
    torch.manual_seed(0)
    model = build_danet(preset(name)).to(memory_format=torch.channels_last).train()
    build_targets = TargetBuilder.of_body(resolve_body("open"))
    network = SupervisedNetwork(model, build_targets.smpl, amp=amp)
    optimizer = make_optimizer(model, 1e-5, 1.0)
    people = SyntheticPeople(batch_size)
    batch = collate_samples([people[index] for index in range(batch_size)])
    targets = build_targets(batch)

    def step(stage: Stage) -> None:
        optimizer.zero_grad(set_to_none=True)
        add_gradients(network, lambda _: targets, [batch], stage, 0, Path("not_finite.pt"))
        optimizer.step()

    return step


def main() -> None:
    from torchvision.models import resnet50

    parser = argparse.ArgumentParser(description="One training step beside a forward pass of resnet50.")
    parser.add_argument("--model", choices=tuple(PRESETS), default="danet")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--amp", action="store_true", help="bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    step = step_of(args.model, args.batch_size, args.amp)
    reference, image = resnet50(weights=None).eval(), torch.randn(1, 3, 224, 224)

    @torch.inference_mode()
    def forward() -> None:
        reference(image)

    for stage in Stage:
        step(stage), forward()
        rounds = [
            (seconds(lambda: step(stage)), statistics.median(seconds(forward) for _ in range(5)))  # noqa: B023
            for _ in range(args.rounds)
        ]
        ours, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
        is_published = (args.model, args.batch_size) == ("danet", 2) and stage in TARGETS
        goal = f"  (at most {TARGETS[stage]:.0f})" if is_published else ""
        print(
            f"{args.model} stage {stage.name}, batch {args.batch_size}: {ours:.2f} s, resnet50 {theirs:.3f} s, "
            f"ratio {ours / theirs:.1f}{goal}, {args.batch_size / ours:.1f} samples a second"
        )


if __name__ == "__main__":
    main()
