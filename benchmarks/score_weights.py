"""Scores of a weights file on held-out synthetic people, beside the mean pose.

    python benchmarks/score_weights.py                  # the shipped weights, 500 people

The mean pose is the rotation mean of the training poses, given the true root orientation and the mean shape: what a
regressor must beat to have understood anything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from datasets.loading import load_batches
from datasets.synthetic.dataset import Draw, SyntheticPeople
from models import build_danet
from models.danet import PRESETS, preset
from models.targets import TargetBuilder
from models.training.validation import body_scores, mean_scores, score
from utils.body import OPEN_DIR, resolve_body
from utils.checkpoint import load_danet
from utils.geometry import batch_rodrigues, nearest_rotations
from utils.io import require_free, save_json_atomic
from utils.structures import Batch

TRAINING_POSES = 2000
MILLIMETRES = ("mpjpe", "pa_mpjpe", "pve")


def batches(people: SyntheticPeople, workers: int) -> Iterator[Batch]:
    yield from tqdm(load_batches(people, 16, workers), unit="batch", leave=False)


def mean_training_pose(workers: int) -> torch.Tensor:
    people = SyntheticPeople(TRAINING_POSES, split="train", draw=Draw(labels_only=True))
    rotvec = torch.cat([batch.rotvec for batch in batches(people, workers)])
    rotmats = batch_rodrigues(rotvec.reshape(-1, 3)).view(-1, 24, 3, 3)
    return torch.from_numpy(nearest_rotations(rotmats.mean(dim=0).numpy())).float()


def score_fixed_pose(
    pose: torch.Tensor, batches: Iterator[Batch], build_targets: TargetBuilder
) -> dict[str, float]:
    """Body scores of one pose [24,3,3] and the mean shape, given the true root orientation."""
    smpl = build_targets.smpl

    def scores(batch: Batch) -> dict[str, torch.Tensor]:
        targets = build_targets(batch)
        rotmat = pose.expand(len(batch), -1, -1, -1).clone()
        rotmat[:, 0] = targets.rotmat[:, 0]
        fixed = smpl(rotmat, torch.zeros_like(targets.betas))
        return body_scores(fixed, smpl(targets.rotmat, targets.betas))

    return mean_scores(scores(batch) for batch in batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=OPEN_DIR / "danet_s.safetensors")
    parser.add_argument("--model", choices=tuple(PRESETS), default="danet_s")
    parser.add_argument("--count", type=int, default=500, help="held-out people")
    parser.add_argument("--seed", type=int, default=0, help="of the held-out people")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the scores here too")
    args = parser.parse_args()
    if args.json:
        require_free(args.json, overwrite=False)

    build_targets = TargetBuilder.of_body(resolve_body("open"))
    model = build_danet(preset(args.model))
    print(load_danet(model, args.checkpoint))
    people = SyntheticPeople(args.count, split="eval", seed=args.seed)
    scores = {"network": score(model.prepare_for_inference(), batches(people, args.workers), build_targets)}
    labels = SyntheticPeople(args.count, split="eval", seed=args.seed, draw=Draw(labels_only=True))
    pose = mean_training_pose(args.workers)
    scores["mean pose"] = score_fixed_pose(pose, batches(labels, args.workers), build_targets)
    for name, value in scores["network"].items():
        scale, unit = (1000, " mm") if name in MILLIMETRES else (1, "")
        beside = scores["mean pose"].get(name)
        note = f"   mean pose {beside * scale:.1f}{unit}" if beside is not None else ""
        print(f"{name:16} {value * scale:8.3f}{unit}{note}")
    if args.json:
        save_json_atomic(args.json, scores, replace=False)


if __name__ == "__main__":
    main()
