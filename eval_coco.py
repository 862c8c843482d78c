"""COCO keypoint AP of body estimates, on val2014 or any folder of COCO form (docs/method.md 11.3).

python eval_coco.py --checkpoint data/pretrained_model/danet_model_h36m_dpcoco.pt
python eval_coco.py --ann_file annotations.json --img_root pictures

Written: the results JSON in <output_dir>/results, and protocol.json, errors.npz and report.html in
<output_dir>/coco_<set>_<regressor>. Exit code 0: all good; 2: some people could not be read; 1: nothing was scored.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.coco_dataset import COCODataset
from datasets.labels.coco import CocoFile, in_file_order, read_coco_file, truth_for_pycocotools
from datasets.loading import load_planned
from datasets.registry import PathsConfig
from datasets.transforms import image_points_to_crop
from models.evaluation.coco import STAT_NAMES, coco_results, keypoint_ap
from models.evaluation.images import body_over_crop, keypoints_over_crop
from models.evaluation.resumable import Results, RowStore, plan_batches, run_plan
from models.evaluation.scorers import KeypointScorer
from models.evaluation.setup import (
    EvaluationConfig,
    Subject,
    fingerprint_of,
    load_subject,
    run_evaluation,
    tell_left_out,
    tell_of_labels,
    versions,
)
from models.evaluation.summary import (
    Score,
    Summary,
    print_summary,
    protocol_tree,
    require_free_results,
    save_results,
    with_extremes,
    write_evaluation,
)
from utils.command_line import ALL_GOOD, SOME_SKIPPED
from utils.config import group, option, parse_config
from utils.geometry import BOX_MARGIN, BOX_UNIT, CROP_SIZE
from utils.images import to_bytes
from utils.io import DataFileError, require_free, require_writable, save_json_atomic
from utils.metrics import pck
from utils.renderer import MeshRenderer
from utils.report import histogram
from utils.runtime import Processes
from utils.skeleton import GT24_TO_COCO17, NUM_OPENPOSE
from utils.structures import PlannedBatch

log = logging.getLogger("eval_coco")

NEED = ("body", "regressor_extra")
LEGEND = "crop, predicted body, keypoints (predicted blue, true orange)"
ROWS = '[\n {\n  "image_id": '  # how the list of keypoints begins
PCK_SHARE = 0.1  # of the box's longer side


@dataclass(frozen=True)
class EvalCocoConfig(EvaluationConfig):
    """Settings of a COCO evaluation."""

    ann_file: str | None = option(None, "COCO keypoint annotations; default: val2014 of --data_dir")
    img_root: str | None = option(None, "folder of the annotations' pictures")
    detections: str | None = option(None, "COCO detections JSON: score these boxes, not the annotated ones")
    min_score: float = option(0.0, "detections below are left out")
    seed: int = option(0, "of --shuffle")
    paths: PathsConfig = group(PathsConfig)

    def __post_init__(self):
        super().__post_init__()
        if (self.ann_file is None) != (self.img_root is None):
            raise ValueError("--ann_file and --img_root belong together: give both, or none for val2014.")
        if self.detections and not self.ann_file:
            raise ValueError(
                "--detections needs the annotations it is scored against: --ann_file and --img_root."
            )


def open_dataset(cfg: EvalCocoConfig) -> tuple[COCODataset, CocoFile]:
    """People to evaluate, and the annotations they are scored against. Raises DataFileError for damaged ones."""
    if cfg.ann_file:
        dataset = COCODataset(
            cfg.ann_file, cfg.img_root, cfg.detections, crop_mode=cfg.crop_mode, min_score=cfg.min_score
        )
        return dataset, dataset.truth
    dataset = COCODataset.from_extras(cfg.data_dir, cfg.paths, crop_mode=cfg.crop_mode)
    ann_file = dataset.root / "annotations" / "person_keypoints_val2014.json"
    if not ann_file.is_file():
        raise FileNotFoundError(
            f"The annotations of val2014 are not at {ann_file}. They come in annotations_trainval2014.zip from "
            "cocodataset.org; or give others by --ann_file and --img_root."
        )
    truth = read_coco_file(ann_file)
    unknown = [image_id for image_id in dataset.image_ids if image_id not in truth.head.names]
    if unknown:
        raise DataFileError(
            f"{ann_file} does not know {len(unknown):,} of the {len(dataset.image_ids):,} images of {dataset.file}, "
            f"first the id {unknown[0]}. Give the annotations of these pictures."
        )
    return dataset, truth


def score_all(
    cfg: EvalCocoConfig, dataset: COCODataset, subject: Subject, store: RowStore, processes: Processes
) -> Results | None:
    """Rows of all people; None in all processes but the first."""
    scorer = KeypointScorer(subject.smpl)

    @torch.inference_mode()
    def score(planned: PlannedBatch) -> dict[str, np.ndarray]:
        batch = planned.batch.to(subject.device)
        return scorer(subject.regressor.predict(batch.image), batch)

    def load(batches: list[list[int]]):
        return load_planned(dataset, batches, cfg.workers)

    plan = plan_batches(len(dataset), cfg.batch_size, cfg.shuffle, cfg.seed)
    with logging_redirect_tqdm():
        return run_plan(plan, store, cfg.resume, processes, load, score)


def true_keypoints(dataset: COCODataset, index: int) -> np.ndarray:
    """COCO keypoints [17,3] of a person in picture pixels, with visibility; all unknown for a detection."""
    keypoints = dataset.labels.keypoints
    if keypoints is None:
        return np.zeros((17, 3))
    return keypoints[index, NUM_OPENPOSE:][list(GT24_TO_COCO17)]


def summarise(dataset: COCODataset, subject: Subject, results: Results, scores: dict[str, float]) -> Summary:
    """The ten numbers, PCK of each person and pictures of the best and worst."""
    true = np.stack([true_keypoints(dataset, i) for i in range(len(dataset))])
    size = dataset.labels.scale * BOX_UNIT / BOX_MARGIN
    found = pck(
        *map(torch.from_numpy, (results.rows["keypoints"], true[..., :2], true[..., 2] > 0, size)), PCK_SHARE
    )
    found = np.where(results.scored > 0, found.numpy(), np.nan)
    chart = histogram(f"PCK of people, within {PCK_SHARE:g} of the box's longer side", found)
    numbers = tuple(Score(name, scores[name]) for name in STAT_NAMES)
    return with_extremes(
        Summary(numbers, charts=(chart,)),
        -found,
        LEGEND,
        lambda index: f"{dataset.name_of(index)}: PCK {found[index]:.2f}",
        lambda index: strip_of(dataset, subject, results, index, true[index]),
    )


def strip_of(
    dataset: COCODataset, subject: Subject, results: Results, index: int, true: np.ndarray
) -> np.ndarray:
    """Crop, body over it, and both sets of keypoints, of one scored person."""
    sample = dataset[index]
    crop, center, scale = to_bytes(sample.image), sample.center.double().numpy(), float(sample.scale)
    vertices, cam = subject.posed(results.rows, index)
    strip = body_over_crop(crop, vertices, cam, MeshRenderer(subject.assets.body.faces))
    pred = image_points_to_crop(results.rows["keypoints"][index], center, scale)
    labels = np.concatenate([image_points_to_crop(true[:, :2], center, scale), true[:, 2:]], axis=1)
    return np.concatenate([strip, keypoints_over_crop(crop, pred, labels)], axis=1)


def evaluate(cfg: EvalCocoConfig, processes: Processes) -> int:
    """Score the set; the first process writes the results. Returns the exit code."""
    dataset, truth = open_dataset(cfg)
    labels_facts = tell_of_labels(
        log,
        notes=[f"{truth.head.path}: {note}" for note in truth.notes],
        suspicions=dict.fromkeys([*dataset.suspicions, *truth.suspicions]),
        left_out=dataset.left_out,
    )
    title = truth.head.path.stem.removeprefix("person_keypoints_")  # val2014
    folder = Path(cfg.output_dir) / f"coco_{title}_{cfg.regressor}"
    rows_file = Path(cfg.output_dir) / "results" / f"keypoints_{title}_results_{cfg.regressor}.json"
    require_free_results(folder, cfg.result_file, cfg.overwrite)
    require_free(rows_file, cfg.overwrite, ROWS)
    require_writable(rows_file.parent)
    subject = load_subject(cfg, NEED)
    names = [dataset.name_of(i) for i in range(len(dataset))]
    log.info("%s: %d people in %d images; %s", title, len(names), len(dataset.image_ids), subject.describe())
    settings = {
        name: str(getattr(cfg, name)) for name in ("batch_size", "shuffle", "seed", "crop_mode", "min_score")
    }
    files = [truth.head.path, *([Path(cfg.detections)] if cfg.detections else [])]
    pictures = (dataset.image_path(i) for i in range(len(dataset)))
    fingerprint = fingerprint_of(subject, {"set": title, **settings}, files, pictures)
    store = RowStore(folder / "unfinished", fingerprint, processes.rank)
    results = score_all(cfg, dataset, subject, store, processes)
    if results is None:
        return ALL_GOOD

    labels, scored = dataset.labels, results.scored.astype(bool)
    rows = coco_results(
        np.asarray(labels.image_id)[scored], results.of_scored("keypoints"), labels.score[scored],
        labels.center[scored], labels.scale[scored],
    )  # fmt: skip
    save_json_atomic(rows_file, in_file_order(rows, truth.head), cfg.overwrite)
    scores = keypoint_ap(truth_for_pycocotools(truth), rows, dataset.image_ids)
    summary = summarise(dataset, subject, results, scores)
    facts = {
        "protocol": "COCO keypoint AP by pycocotools, every keypoint with the score 1, no suppression",
        "boxes": f"detections of {cfg.detections}" if cfg.detections else dataset.rule,
        "images": f"{len(dataset.image_ids)}: those of the file; AP is over them",
        "crop mode": f"{cfg.crop_mode}, {CROP_SIZE} px, longer side of the box x {BOX_MARGIN}",
        **labels_facts,
        **subject.facts(),
        "versions": versions(),
    }
    tree = protocol_tree(f"coco {title}", results, summary, facts, fingerprint)
    write_evaluation(folder, f"COCO {title}: {cfg.regressor}", tree, results, summary, names, cfg.overwrite)
    if cfg.result_file:
        save_results(cfg.result_file, results, cfg.overwrite)
    store.clear()
    print_summary(summary, results, folder)
    tell_left_out(log, dataset.left_out)
    return SOME_SKIPPED if results.unreadable else ALL_GOOD


def main(argv: Sequence[str] | None = None) -> int:
    return run_evaluation(evaluate, parse_config(EvalCocoConfig, argv, __doc__.splitlines()[0]), log)


if __name__ == "__main__":
    run_script(main, on_stop="what was computed is kept, --resume continues.")
