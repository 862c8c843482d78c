"""Scores of body estimates on Human3.6M (P1, P2), 3DPW, LSP, MPI-INF-3DHP or rendered people (docs/method.md 11).

python eval.py --checkpoint data/pretrained_model/danet_model_h36m_itw.pt --dataset h36m-p2
torchrun --nproc_per_node 2 eval.py --dataset synthetic

Written to <output_dir>/<dataset>_<regressor>: protocol.json (what was compared how, and the scores), errors.npz (each
sample's numbers) and report.html. Exit code 0: all good; 2: some samples could not be read; 1: nothing was scored.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.base_dataset import BaseDataset
from datasets.legacy_crop import uncrop_legacy
from datasets.loading import load_planned
from datasets.lsp_labels import LabelPictures
from datasets.registry import PathsConfig
from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.transforms import crop_image
from models.evaluation.ground_truth_check import (
    Certificate,
    check_labels,
    check_posed,
    check_stored,
    suspect_posed,
    suspect_stored,
)
from models.evaluation.images import body_over_crop, label_pair, stick_figures
from models.evaluation.protocols import PROTOCOLS, Protocol
from models.evaluation.resumable import Results, RowStore, plan_batches, run_plan
from models.evaluation.scorers import (
    JOINT_SETS,
    JointRegressor,
    JointScorer,
    PartScorer,
    PosedTruth,
    Scorer,
    StoredTruth,
)
from models.evaluation.setup import (
    EvaluationConfig,
    Subject,
    fingerprint_of,
    gendered_bodies,
    load_subject,
    run_evaluation,
    tell_left_out,
    tell_of_labels,
    versions,
)
from models.evaluation.summary import (
    Summary,
    joint_scores,
    part_scores,
    print_summary,
    protocol_tree,
    require_free_results,
    save_results,
    summarise_joints,
    summarise_parts,
    with_extremes,
    write_evaluation,
)
from utils.command_line import ALL_GOOD, SOME_SKIPPED
from utils.config import group, option, parse_config
from utils.geometry import CROP_SIZE
from utils.images import to_bytes
from utils.metrics import accuracy
from utils.renderer import MeshRenderer
from utils.renderer.lsp_parts import PartRenderer, face_classes, uncrop
from utils.runtime import Processes
from utils.structures import PlannedBatch

log = logging.getLogger("eval")

NEED = ("body", "regressor_extra", "regressor_h36m")
SYNTHETIC = "synthetic"
RUNNING = ("mpjpe", "pa_mpjpe", "pve", "mask_counts", "part_counts")  # rows that scores are made of
LEGENDS = {
    "joints": "crop, predicted body, skeletons from the front and the side (predicted blue, true orange)",
    "parts": "crop, predicted body, predicted parts, true parts",
}
FAR_PLANE_2020 = 100.0  # metres


@dataclass(frozen=True)
class EvalConfig(EvaluationConfig):
    """Settings of an evaluation of bodies."""

    dataset: str = option("h36m-p2", "the set and its protocol", choices=tuple(PROTOCOLS))
    log_freq: int = option(50, "batches between scores on the way")
    check: bool = option(False, "certify the ground truth before scoring; stop when it fails")
    synthetic_size: int = option(500, "rendered people of --dataset synthetic")
    seed: int = option(0, "of the rendered people and of --shuffle")
    paths: PathsConfig = group(PathsConfig)

    def __post_init__(self):
        super().__post_init__()
        for name in ("log_freq", "synthetic_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Setup:
    """A protocol with everything it needs: samples, scorer, facts for the protocol file."""

    protocol: Protocol
    dataset: BaseDataset | SyntheticPeople
    scorer: Scorer
    subject: Subject
    facts: dict[str, str]
    true_parts: LabelPictures | None = None  # of the LSP protocol


def prepare(cfg: EvalConfig) -> Setup:
    """Read annotations, body and weights, and choose the scorer. Raises ValueError and OSError with a sentence."""
    protocol = PROTOCOLS[cfg.dataset]
    if cfg.dataset == SYNTHETIC:
        dataset = SyntheticPeople(cfg.synthetic_size, split="eval", seed=cfg.seed)
    else:
        dataset = BaseDataset(cfg.dataset, cfg.data_dir, cfg.paths, is_train=False, crop_mode=cfg.crop_mode)
    genders = ("body_male", "body_female") if cfg.dataset == "3dpw" else ()
    subject = load_subject(cfg, (*NEED, *genders) if protocol.truth != "parts" else NEED[:2])
    if protocol.truth == "parts":
        classes, source = face_classes(subject.assets.body, cfg.data_dir)
        legacy = cfg.crop_mode == "legacy"  # then the far plane of 2020 stands too
        renderer = PartRenderer(subject.assets.body.faces, classes, FAR_PLANE_2020 if legacy else math.inf)
        to_picture = uncrop_legacy if legacy else uncrop
        scorer = PartScorer(subject.smpl, renderer, to_picture)
        facts = {"truth": "mask and part pictures", "root": protocol.root, "part classes": source}
        return Setup(protocol, dataset, scorer, subject, facts, LabelPictures(dataset))
    joint_set = JOINT_SETS[protocol.joint_set]
    regress = JointRegressor(subject.smpl, subject.assets.h36m).to(subject.device)
    if protocol.truth == "stored":
        truth, about = StoredTruth(joint_set), "joints stored in the annotation file (S)"
    elif cfg.dataset == SYNTHETIC:
        truth = PosedTruth(joint_set, {-1: (subject.smpl, regress)})
        about = "pose and shape of the rendered body"
    else:
        bodies, about = gendered_bodies(subject, cfg.data_dir)
        truth = PosedTruth(joint_set, bodies)
    facts = {
        "truth": about,
        "root": protocol.root,
        "joint set": f"{joint_set.name}: {', '.join(joint_set.joint_names)}",
        "PA-MPJPE": "after the best similarity (rotation, scale, shift; no reflection) of each sample",
    }
    return Setup(protocol, dataset, JointScorer(subject.smpl, regress, joint_set, truth), subject, facts)


def suspicions(setup: Setup) -> list[str]:
    """What is odd in the labels. Raises ValueError where a score against them would mean nothing."""
    dataset, truth = setup.dataset, setup.protocol.truth
    if isinstance(dataset, SyntheticPeople) or truth == "parts":
        return [*dataset.suspicions]
    if truth == "posed":
        return [*dataset.suspicions, *suspect_posed(dataset.labels.has_smpl, dataset.file)]
    joint_set = JOINT_SETS[setup.protocol.joint_set]
    return [*dataset.suspicions, *suspect_stored(dataset.labels.joints_3d, joint_set, dataset.file)]


def check_truth(setup: Setup, cfg: EvalConfig) -> Certificate:
    """Certify the ground truth of the set."""
    dataset = setup.dataset
    if setup.protocol.truth == "parts":
        return check_labels(setup.true_parts.with_photographs())
    if cfg.dataset == SYNTHETIC:
        bodies = [dataset.render(i, Draw(labels_only=True)).body for i in range(len(dataset))]
        fields = ("rotvec", "betas", "smpl_joints")
        rotvec, betas, joints = (np.stack([getattr(b, name) for b in bodies]) for name in fields)
        return check_posed(rotvec.reshape(-1, 72), betas, np.full(len(bodies), -1), joints, setup.scorer.truth.bodies)
    labels = dataset.labels
    if setup.protocol.truth == "stored":
        return check_stored(labels.joints_3d, JOINT_SETS[setup.protocol.joint_set])
    bodies = setup.scorer.truth.bodies
    return check_posed(labels.rotvec, labels.betas, labels.gender, labels.smpl_joints, bodies)


# ------------------------------------------------------------------------------------------------------ the run


def score_all(setup: Setup, cfg: EvalConfig, store: RowStore, processes: Processes) -> Results | None:
    """Rows of all samples; None in all processes but the first."""
    device, so_far = setup.subject.device, []

    @torch.inference_mode()
    def score(planned: PlannedBatch) -> dict[str, np.ndarray]:
        batch = planned.batch.to(device)
        return setup.scorer(setup.subject.regressor.predict(batch.image), batch, planned.extras)

    def tell(count: int, rows: dict[str, np.ndarray]) -> None:
        so_far.append({name: value for name, value in rows.items() if name in RUNNING})
        if count % cfg.log_freq == 0 and rows:
            summed = {name: np.concatenate([r[name] for r in so_far if r]) for name in so_far[-1]}
            log.info("After %d batches: %s", count, in_words(setup.protocol, summed))

    def load(batches: list[list[int]]):
        return load_planned(setup.dataset, batches, cfg.workers, setup.true_parts)

    plan = plan_batches(len(setup.dataset), cfg.batch_size, cfg.shuffle, cfg.seed)
    with logging_redirect_tqdm():
        return run_plan(plan, store, cfg.resume, processes, load, score, tell)


def in_words(protocol: Protocol, rows: dict[str, np.ndarray]) -> str:
    """Scores of some rows, for people."""
    scores = part_scores if protocol.truth == "parts" else joint_scores
    return ", ".join(f"{score.name} {score}" for score in scores(rows))


def summarise(setup: Setup, results: Results, names: Sequence[str]) -> Summary:
    """Scores, charts and pictures of the best and worst samples."""
    if setup.protocol.truth == "parts":
        summary = summarise_parts(results)
        errors = np.where(results.scored > 0, [1 - accuracy(c) for c in results.rows["part_counts"]], np.nan)
    else:
        joint_names = JOINT_SETS[setup.protocol.joint_set].joint_names
        summary = summarise_joints(results, joint_names, names, setup.protocol.per_action)
        errors = results.rows["pa_mpjpe"]

    def caption(index: int) -> str:
        row = {n: results.rows[n][index : index + 1] for n in RUNNING if n in results.rows}
        return f"{names[index]}: {in_words(setup.protocol, row)}"

    legend = LEGENDS["parts" if setup.protocol.truth == "parts" else "joints"]
    return with_extremes(summary, errors, legend, caption, lambda index: strip_of(setup, results, index))


def strip_of(setup: Setup, results: Results, index: int) -> np.ndarray:
    """Crop, body over it, and prediction beside truth, of one scored sample."""
    crop = to_bytes(setup.dataset[index].image)
    vertices, cam = setup.subject.posed(results.rows, index)
    strip = body_over_crop(crop, vertices, cam, MeshRenderer(setup.subject.assets.body.faces))
    if setup.protocol.truth == "parts":
        true = setup.true_parts(index)
        labels = setup.scorer.renderer(vertices[None], cam[None])[0].numpy()
        found = setup.scorer.to_picture(labels, true.center, true.scale, true.parts.shape)
        beside = label_pair(found, true.parts, lambda picture: crop_image(picture, true.center, true.scale))
    else:
        regressed = results.rows["pred_joints"][index]
        pred = (regressed - regressed[0])[list(JOINT_SETS[setup.protocol.joint_set].regressed)]
        beside = stick_figures(pred, results.rows["true_joints"][index])
    return np.concatenate([strip, beside], axis=1)


def evaluate(cfg: EvalConfig, processes: Processes) -> int:
    """Score the set; the first process writes the results. Returns the exit code."""
    folder = Path(cfg.output_dir) / f"{cfg.dataset}_{cfg.regressor}"
    require_free_results(folder, cfg.result_file, cfg.overwrite)
    setup = prepare(cfg)
    names = [setup.dataset.name_of(i) for i in range(len(setup.dataset))]
    log.info("%s: %d samples; %s", cfg.dataset, len(names), setup.subject.describe())
    about_labels = tell_of_labels(log, [], suspicions(setup), setup.dataset.left_out)
    certificate = check_truth(setup, cfg) if cfg.check and processes.is_first else None
    if certificate:
        verdict = "certified" if certificate.passed else "REFUSED"
        log.info("Ground truth %s. %s", verdict, " ".join(certificate.findings))
        if not certificate.passed:
            raise ValueError("The ground truth did not pass --check, so nothing was scored against it.")

    fingerprint = fingerprint_of(setup.subject, settings_of(cfg), *input_files(setup.dataset))
    store = RowStore(folder / "unfinished", fingerprint, processes.rank)
    results = score_all(setup, cfg, store, processes)
    if results is None:
        return ALL_GOOD
    summary = summarise(setup, results, names)
    facts = {
        "protocol": setup.protocol.note,
        **setup.facts,
        "crop mode": f"{cfg.crop_mode}, {CROP_SIZE} px, boxes as annotated",
        **about_labels,
        **setup.subject.facts(),
        "certificate": list(certificate.findings) if certificate else "not asked for (--check)",
        "versions": versions(),
    }
    tree = protocol_tree(cfg.dataset, results, summary, facts, fingerprint)
    write_evaluation(folder, f"{cfg.dataset}: {cfg.regressor}", tree, results, summary, names, cfg.overwrite)
    if cfg.result_file:
        save_results(cfg.result_file, results, cfg.overwrite)
    store.clear()
    print_summary(summary, results, folder)
    tell_left_out(log, setup.dataset.left_out)
    return SOME_SKIPPED if results.unreadable else ALL_GOOD


def settings_of(cfg: EvalConfig) -> dict[str, str]:
    """The settings that change numbers."""
    names = ["dataset", "batch_size", "shuffle", "crop_mode", "seed"]
    names += ["synthetic_size"] if cfg.dataset == SYNTHETIC else []
    return {name: str(getattr(cfg, name)) for name in names}


def input_files(dataset: BaseDataset | SyntheticPeople) -> tuple[list[Path], list[Path]]:
    """Annotation files and pictures that the numbers depend on."""
    if isinstance(dataset, SyntheticPeople):
        return [], []
    return [dataset.file], [dataset.image_path(i) for i in range(len(dataset))]


def main(argv: Sequence[str] | None = None) -> int:
    return run_evaluation(evaluate, parse_config(EvalConfig, argv, __doc__.splitlines()[0]), log)


if __name__ == "__main__":
    run_script(main, on_stop="what was computed is kept, --resume continues.")
