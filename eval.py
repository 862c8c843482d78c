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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from datasets.base_dataset import BaseDataset
from datasets.legacy_crop import uncrop_legacy
from datasets.loading import load_planned
from datasets.lsp_labels import LabelImages
from datasets.registry import PathsConfig
from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.transforms import crop_image
from models.evaluation.joints import (
    GENDER_NEED,
    J14,
    J17,
    JOINT_NEED,
    PosedBodies,
    StoredJoints,
    gendered_bodies,
    require_bodies,
)
from models.evaluation.parts import PART_NEED, PartLabels
from models.evaluation.protocol import Protocol
from models.evaluation.report import require_free_results
from models.evaluation.run import Evaluation, EvaluationConfig, run_evaluation
from models.inference.predictor import load_predictor
from utils.config import group, option, parse_config

SETS = {  # --dataset: what of the set is scored
    "h36m-p1": "all cameras of S9 and S11, every 5th frame",
    "h36m-p2": "frontal camera 60457274 of S9 and S11",
    "3dpw": "numbers of frames in use are 35,515 and 35,463: see samples",
    "mpi-inf-3dhp": "univ_annot3 of TS1-6; annot3 would give other numbers",
    "lsp": "person mask (2 classes) and six parts (7 classes), background included",
    "synthetic": "held-out rendered people; not comparable with real sets",
}


@dataclass(frozen=True)
class EvalConfig(EvaluationConfig):
    """Settings of an evaluation of bodies."""

    dataset: str = option("h36m-p2", "the set and its protocol", choices=tuple(SETS))
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


def prepare(cfg: EvalConfig) -> Evaluation:
    """The people of the set with the protocol and the network that they are scored by."""
    folder = Path(cfg.output_dir) / f"{cfg.dataset}_{cfg.regressor}"
    require_free_results(folder, cfg.result_file, cfg.overwrite)
    if cfg.dataset == "synthetic":
        people = SyntheticPeople(cfg.synthetic_size, split="eval", seed=cfg.seed)
        files, images, settings = [], [], {"synthetic_size": str(cfg.synthetic_size)}
    else:
        people = BaseDataset(cfg.dataset, cfg.data_dir, cfg.paths, is_train=False, crop_mode=cfg.crop_mode)
        files, images, settings = [people.file], map(people.image_path, range(len(people))), {}
    protocol = protocol_of(cfg, people)
    return Evaluation(
        name=cfg.dataset,
        folder=folder,
        people=people,
        protocol=protocol,
        load=lambda batches: load_planned(people, batches, cfg.workers, protocol.extra),
        settings={"dataset": cfg.dataset, **settings},
        files=files,
        images=images,
        facts={
            "protocol": SETS[cfg.dataset],
            **protocol.facts,
            "crop mode": f"{cfg.crop_mode}, 224 px, boxes as annotated",
        },
        suspicions=[*people.suspicions, *protocol.suspicions],
        check=cfg.check,
        log_freq=cfg.log_freq,
    )


def protocol_of(cfg: EvalConfig, people: BaseDataset | SyntheticPeople) -> Protocol:
    """The set's protocol, which holds the loaded network."""
    if cfg.dataset == "lsp":
        legacy_uncrop = uncrop_legacy if cfg.crop_mode == "legacy" else None
        predictor = load_predictor(cfg, PART_NEED)
        return PartLabels(predictor, LabelImages(people), cfg.data_dir, crop_image, legacy_uncrop)
    if cfg.dataset == "synthetic":
        predictor = load_predictor(cfg, JOINT_NEED)
        about = "pose and shape of the rendered body"
        return PosedBodies(predictor, J14, {-1: predictor.smpl}, about, lambda: rendered_labels(people))
    if cfg.dataset == "3dpw":
        require_bodies(people.labels.has_smpl, people.file)
        predictor = load_predictor(cfg, GENDER_NEED)
        return PosedBodies(predictor, J14, *gendered_bodies(predictor, cfg.data_dir), lambda: people.labels)
    joint_set, per_action = J17 if cfg.dataset == "mpi-inf-3dhp" else J14, cfg.dataset == "h36m-p2"
    predictor = load_predictor(cfg, JOINT_NEED)
    return StoredJoints(predictor, joint_set, people.labels.joints_3d, people.file, per_action)


def rendered_labels(people: SyntheticPeople) -> SimpleNamespace:
    """Pose, shape and joints of all rendered people, whose images do not matter here."""
    bodies = [people.render(index, Draw(labels_only=True)).body for index in range(len(people))]
    rotvec, betas, joints = (np.stack([getattr(b, n) for b in bodies]) for n in ("rotvec", "betas", "smpl_joints"))
    gender = np.full(len(bodies), -1)
    return SimpleNamespace(rotvec=rotvec.reshape(-1, 72), betas=betas, gender=gender, smpl_joints=joints)


def main(argv: Sequence[str] | None = None) -> int:
    return run_evaluation(prepare, parse_config(EvalConfig, argv, __doc__.splitlines()[0]))


if __name__ == "__main__":
    run_script(main, on_stop="what was computed is kept, --resume continues.")
