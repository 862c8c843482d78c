"""The skeleton of eval.py and eval_coco.py: from a set and its protocol to scores, report and exit code."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from models.evaluation.protocol import Protocol, format_scores
from models.evaluation.report import Summary, extremes, print_summary, write_results
from models.evaluation.resumable import Results, RowStore, plan_batches, run_plan, score_batches
from models.inference.predictor import REGRESSORS, InferenceConfig
from utils.body import OPEN_DIR
from utils.checkpoint import weights_id
from utils.command_line import ALL_GOOD, SOME_SKIPPED
from utils.config import option
from utils.geometry import CROP_MODES
from utils.images import to_bytes
from utils.runtime import Processes
from utils.structures import PlannedBatch

if TYPE_CHECKING:
    from jaxtyping import UInt8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationConfig(InferenceConfig):
    """Settings of every evaluation."""

    regressor: str = option("danet", "the network's kind", choices=REGRESSORS)
    batch_size: int = option(16, "people at a time")
    num_workers: int | None = option(None, "processes that read images; default: one a core, at most 8")
    shuffle: bool = option(False, "score the samples in a random order")
    seed: int = option(0, "of --shuffle")
    result_file: str | None = option(None, "also write joints, poses, shapes and cameras to this .npz")
    output_dir: str = option("./output", "where results are written")
    overwrite: bool = option(False, "replace the results of an earlier evaluation; without it they are kept")
    data_dir: str = option(str(OPEN_DIR.parent), "folder of the data sets and licensed files")
    crop_mode: str = option("warp", "exact crops without aliasing, or those of 2020", choices=CROP_MODES)
    resume: bool = option(False, "continue an interrupted evaluation of the same settings")

    def __post_init__(self):
        super().__post_init__()
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.num_workers is not None and self.num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {self.num_workers}.")

    @property
    def workers(self) -> int:
        """Number of processes that read images."""
        return min(8, os.cpu_count() or 1) if self.num_workers is None else self.num_workers


@dataclass(frozen=True)
class Evaluation:
    """A set of people and how they are scored, as a script hands it to the skeleton.

    Args:
        name: of the set.
        folder: where the results go.
        people: data set of `Sample`s with `name_of(index)`; its `left_out` counts unused labels by reason.
        load: numbers of the people in each batch -> what could be read of them.
        settings: those beside the common ones that change numbers.
        files, images: what the numbers depend on; files enter the fingerprint with their content, images (there may
            be a hundred thousand) with their names and sizes.
        facts: what is scored and how, in words.
        notes, suspicions: sentences about what was assumed of the labels, and about unusual ones.
        check: whether to check the ground truth first; None where the protocol has no check.
        log_freq: batches between scores on the way; 0 for none.
        save: writes what the script itself makes of the results.
    """

    name: str
    folder: Path
    people: Any
    protocol: Protocol
    load: Callable[[list[list[int]]], Iterable[PlannedBatch]]
    settings: dict[str, str]
    files: Sequence[Path]
    images: Iterable[Path]
    facts: dict[str, Any]
    notes: Sequence[str] = ()
    suspicions: Sequence[str] = ()
    check: bool | None = None
    log_freq: int = 0
    save: Callable[[Results], None] = lambda results: None


def evaluate(config: EvaluationConfig, task: Evaluation, processes: Processes) -> int:
    """Score all people; the first process writes the results. Returns the exit code."""
    predictor, names = task.protocol.predictor, [task.people.name_of(index) for index in range(len(task.people))]
    log.info("%s: %d people; %s", task.name, len(names), predictor.describe())
    for note in task.notes:
        log.info("%s", note)
    for suspicion in task.suspicions:
        log.warning("Suspicion: %s", suspicion)
    checked = check_truth(task) if processes.is_first else {}
    fingerprint = fingerprint_of(config, task)
    store = RowStore(task.folder / "unfinished", fingerprint, processes.rank)
    results = score_all(config, task, store, processes)
    if results is None:
        return ALL_GOOD

    task.save(results)
    summary = task.protocol.summary(results, names)
    galleries = extremes(
        summary.errors,
        task.protocol.legend,
        lambda index: (f"{names[index]}: {task.protocol.caption(results, index)}", strip_of(task, results, index)),
    )
    facts = {
        "dataset": task.name,
        **task.facts,
        "labels": [*task.notes],
        "suspicions": [*task.suspicions],
        "left out": dict(task.people.left_out),
        "regressor": predictor.regressor,
        "refined": predictor.facts["refined"],
        "backend": predictor.facts["backend"],
        "weights": str(predictor.weights),
        "weights_id": predictor.weights.weights_id,
        "body": predictor.assets.source,
        **checked,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                     "opencv": cv2.__version__, "machine": f"{platform.system()} {platform.machine()}"},
        "fingerprint of the inputs": fingerprint,
    }  # fmt: skip
    write_results(task.folder, config.result_file, config.overwrite, facts, names, results, summary, galleries)
    store.clear()
    for item in results.unreadable:
        log.error("Not scored: %s: %s", item.name, item.reason)
    print_summary(summary)
    print(f"{results.scored.sum()} of {len(names)} samples scored; report: {task.folder / 'report.html'}")
    if task.people.left_out:
        unused = (f"{count:,} {reason}" for reason, count in task.people.left_out.items())
        log.info("Not used: %s.", ", ".join(unused))
    return SOME_SKIPPED if results.unreadable else ALL_GOOD


def check_truth(task: Evaluation) -> dict[str, Any]:
    """Result of the check of the ground truth, for the facts. Raises ValueError when it did not pass."""
    if not task.check:
        return {} if task.check is None else {"certificate": "not asked for (--check)"}
    certificate = task.protocol.check()
    log.info("Ground truth %s. %s", "certified" if certificate.passed else "REFUSED", " ".join(certificate.findings))
    if not certificate.passed:
        raise ValueError("The ground truth did not pass --check, so nothing was scored against it.")
    return {"certificate": list(certificate.findings)}


def score_all(
    config: EvaluationConfig, task: Evaluation, store: RowStore, processes: Processes
) -> Results | None:
    """Rows of all people; None in all processes but the first."""
    protocol, so_far = task.protocol, []

    def score(planned: PlannedBatch) -> dict[str, np.ndarray]:
        return rows_of(protocol, planned)

    def progress(count: int, rows: dict[str, np.ndarray]) -> None:
        so_far.append({name: rows[name] for name in protocol.averaged if name in rows})
        if task.log_freq and count % task.log_freq == 0 and rows:
            joined = {name: np.concatenate([part[name] for part in so_far if part]) for name in so_far[-1]}
            log.info("After %d batches: %s", count, format_scores(protocol.scores(joined)))

    plan = plan_batches(len(task.people), config.batch_size, config.shuffle, config.seed)
    with logging_redirect_tqdm():
        return run_plan(plan, store, config.resume, processes, task.load, score, progress)


@torch.inference_mode()
def rows_of(protocol: Protocol, planned: PlannedBatch) -> dict[str, np.ndarray]:
    """The rows of what could be read of a batch."""
    batch = planned.batch.to(protocol.predictor.device)
    return protocol.score(protocol.predict(batch), batch, planned.extras)


def score_people(
    protocol: Protocol, people: Any, load: Callable[[list[list[int]]], Iterable[PlannedBatch]], batch_size: int = 16
) -> tuple[Summary, Results]:
    """Scores of all people, and what they are made of; nothing is written. Raises ValueError when none can be read."""
    batches = load(plan_batches(len(people), batch_size))
    results = score_batches(batches, len(people), lambda planned: rows_of(protocol, planned))
    return protocol.summary(results, [people.name_of(index) for index in range(len(people))]), results


def strip_of(task: Evaluation, results: Results, index: int) -> UInt8[np.ndarray, "224 W 3"]:
    """Image of a scored person: crop, predicted body over it, prediction beside truth."""
    crop, protocol = to_bytes(task.people[index].image), task.protocol
    return np.concatenate(
        [crop, protocol.overlay(results, index, crop), protocol.compare(results, index, crop)], axis=1
    )


def fingerprint_of(config: EvaluationConfig, task: Evaluation) -> dict[str, str]:
    """Inputs of a run, as text by name: settings, weights, body, annotation files and images."""
    common = {name: str(getattr(config, name)) for name in ("batch_size", "shuffle", "crop_mode", "seed")}
    images, body = hashlib.sha256(), hashlib.sha256()
    for path in task.images:
        size = path.stat().st_size if path.is_file() else -1
        images.update(f"{path.name}\0{size}\n".encode())
    predictor = task.protocol.predictor
    model = predictor.assets.body
    for array in (model.v_template, model.shapedirs, model.weights):
        body.update(np.ascontiguousarray(array).tobytes())
    return {
        **common,
        **task.settings,
        "regressor": predictor.regressor,
        "refined": predictor.facts["refined"],
        "backend": predictor.facts["backend"],
        "weights": predictor.weights.weights_id,
        "body": f"{model.model_id} {body.hexdigest()[:12]}",
        "images": images.hexdigest()[:12],
        **{f"file {path.name}": weights_id(path) for path in task.files},
    }
