"""Scores of weights on rendered people and on photographs, as one table.

    python benchmarks/score_weights.py                                   # the shipped weights, 500 rendered people
    python benchmarks/score_weights.py A.safetensors B.safetensors --photos DIR

Two columns for each weights file, as the network says and with --refine (photographs only), and one for the mean pose:
the rotation mean of the training poses, given the true root orientation and the mean shape, which a regressor must beat
to have understood anything. DIR holds eval_coco/ (person_keypoints.json and val2017/), eval_masks/ (photographs and
masks), and the held-out photographs with their
labels (train/, masks/, blazepose_labels.npz); what is not there is named and skipped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from datasets.coco_dataset import COCODataset
from datasets.held_out import read_held_out
from datasets.labels.coco import truth_for_pycocotools
from datasets.loading import load_batches, load_planned
from datasets.photographs import held_out_people, masked_people
from datasets.synthetic.dataset import Draw, SyntheticPeople
from models.evaluation.coco import Keypoints
from models.evaluation.photographs import PeopleInPhotographs
from models.evaluation.protocol import Protocol
from models.evaluation.run import score_people
from models.inference.predictor import InferenceConfig, Predictor, load_predictor
from models.targets import TargetBuilder
from models.training.validation import body_scores, mean_scores, score
from utils.body import OPEN_DIR, resolve_body
from utils.geometry import batch_rodrigues, nearest_rotations
from utils.io import require_free, save_json_atomic
from utils.structures import Batch

TRAINING_POSES = 2000
MILLIMETRES = ("mpjpe", "pa_mpjpe", "pve", "pa_mpjpe_true_maps")
MEAN_POSE = "mean pose"
REFINED = " refined"  # ending of a column
Scores = dict[str, float]


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


def coco_protocol(predictor: Predictor, people: COCODataset) -> Protocol:
    return Keypoints(predictor, people.labels, truth_for_pycocotools(people.truth), people.image_ids)


def photographs_protocol(predictor: Predictor, people: Any) -> Protocol:
    return PeopleInPhotographs(predictor, people.labels, people.true_mask)


def open_photographs(root: Path) -> Iterator[tuple[str, Any, Callable[[Predictor, Any], Protocol]]]:
    """Title, people and protocol of each set of photographs that is there; a line is printed for each that is not."""
    coco = root / "eval_coco"
    sets = (
        ("COCO", lambda: COCODataset(coco / "person_keypoints.json", coco / "val2017"), coco_protocol),
        ("masks", lambda: masked_people(root / "eval_masks"), photographs_protocol),
        ("held out", lambda: held_out_people(root, read_held_out()), photographs_protocol),
    )
    for title, people, protocol in sets:
        try:
            opened = people()
        except (OSError, ValueError) as error:
            print(f"without {title}: {error}")
            continue
        yield f"{title} ({len(opened)})", opened, protocol


def score_photographs(predictor: Predictor, people: Any, protocol: Protocol, workers: int) -> Scores:
    """Scores of a set of photographs by name."""
    summary, _ = score_people(
        protocol, people, lambda plan: tqdm(load_planned(people, plan, workers, protocol.extra), leave=False)
    )
    return {one.name: one.value for one in summary.scores}


def score_rendered(predictor: Predictor, build_targets: TargetBuilder, args: argparse.Namespace) -> Scores:
    """Scores on held-out rendered people by name."""
    people = SyntheticPeople(args.count, split="eval", seed=args.seed)
    return score(predictor.network, batches(people, args.workers), build_targets)


def print_table(table: dict[str, dict[str, Scores]]) -> None:
    """table: {set: {column: {score: value}}}; millimetres for distances."""
    columns = list(dict.fromkeys(column for scores in table.values() for column in scores))
    width = max(10, *map(len, columns)) + 2
    print(f"{'':32}" + "".join(f"{column:>{width}}" for column in columns))
    for title, scores in table.items():
        print(title)
        for name in dict.fromkeys(name for column in scores.values() for name in column):
            unit, scale, digits = (" mm", 1000, 1) if name in MILLIMETRES else ("", 1, 3)
            cells = [scores.get(column, {}).get(name) for column in columns]
            shown = ("-" if cell is None else f"{cell * scale:.{digits}f}" for cell in cells)
            print(f"  {name + unit:30}" + "".join(f"{cell:>{width}}" for cell in shown))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", type=Path, default=[OPEN_DIR / "danet_s.safetensors"])
    parser.add_argument("--photos", type=Path, default=OPEN_DIR.parent / "photos", metavar="DIR")
    parser.add_argument("--count", type=int, default=500, help="held-out rendered people; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the held-out rendered people")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the scores here too")
    args = parser.parse_args()
    if args.json:
        require_free(args.json, overwrite=False)

    are_unlike = len({path.stem for path in args.weights}) == len(args.weights)
    names = [path.stem if are_unlike else str(path) for path in args.weights]
    predictors = {
        name + ending: load_predictor(
            InferenceConfig(checkpoint=str(path), body="open", refine=bool(ending), backend="torch")
        )
        for name, path in zip(names, args.weights, strict=True)
        for ending in ("", REFINED)
    }
    table: dict[str, dict[str, Scores]] = {}
    for title, people, protocol in open_photographs(args.photos.expanduser()):
        table[title] = {
            name: score_photographs(predictor, people, protocol(predictor, people), args.workers)
            for name, predictor in predictors.items()
        }
    if args.count:
        build_targets = TargetBuilder.of_body(resolve_body("open"))
        found = {name: score_rendered(predictors[name], build_targets, args) for name in names}
        labels = SyntheticPeople(args.count, split="eval", seed=args.seed, draw=Draw(labels_only=True))
        pose = mean_training_pose(args.workers)
        found[MEAN_POSE] = score_fixed_pose(pose, batches(labels, args.workers), build_targets)
        table[f"rendered people ({args.count})"] = found
    if not table:
        raise SystemExit("Nothing was scored: no set of photographs is there, and --count is 0.")
    print_table(table)
    if args.json:
        save_json_atomic(args.json, table, replace=False)


if __name__ == "__main__":
    main()
