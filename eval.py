"""Scores on Human3.6M (P1, P2), 3DPW, LSP, MPI-INF-3DHP, rendered people or photographs (docs/method.md 11).

python eval.py --checkpoint data/pretrained_model/danet_model_h36m_itw.pt --dataset h36m-p2
python eval.py --dataset masks --masks_root DIR
torchrun --nproc_per_node 2 eval.py --dataset synthetic

Written to <output_dir>/<dataset>_<regressor>: protocol.json (what was compared how, and the scores), errors.npz (each
sample's numbers) and report.html. Exit code 0: all good; 2: some samples could not be read; 1: nothing was scored.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from datasets.base_dataset import BaseDataset
from datasets.held_out import read_held_out
from datasets.labels.photos import PHOTO_LABELS
from datasets.legacy_crop import uncrop_legacy
from datasets.loading import load_planned
from datasets.lsp_labels import LabelImages
from datasets.photographs import Photographs, held_out_people, masked_people
from datasets.registry import PathsConfig, image_root
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
from models.evaluation.photographs import PeopleInPhotographs
from models.evaluation.protocol import Protocol
from models.evaluation.report import require_free_results
from models.evaluation.run import Evaluation, EvaluationConfig, evaluate
from models.inference.predictor import load_predictor
from utils.config import group, option, parse_config
from utils.runtime import joined_processes, report_error, setup_logging

log = logging.getLogger("eval")

SETS = {  # --dataset: what of the set is scored
    "h36m-p1": "all cameras of S9 and S11, every 5th frame",
    "h36m-p2": "frontal camera 60457274 of S9 and S11",
    "3dpw": "numbers of frames in use are 35,515 and 35,463: see samples",
    "mpi-inf-3dhp": "univ_annot3 of TS1-6; annot3 would give other numbers",
    "lsp": "person mask (2 classes) and six parts (7 classes), background included",
    "synthetic": "held-out rendered people; not comparable with real sets",
    "masks": "person masks beside photographs, boxes of the masks widened by 1.2",
    "photos": "held-out photographs against pseudo-labels, boxes of points and masks widened by 1.2",
}
PHOTOGRAPHS = ("masks", "photos")
People = BaseDataset | SyntheticPeople | Photographs


@dataclass(frozen=True)
class EvalConfig(EvaluationConfig):
    """Settings of an evaluation of bodies."""

    dataset: str = option("h36m-p2", "the set and its protocol", choices=tuple(SETS))
    log_freq: int = option(50, "batches between scores on the way")
    check: bool = option(False, "certify the ground truth before scoring; stop when it fails")
    synthetic_size: int = option(500, "rendered people of --dataset synthetic")
    masks_root: str = option("", "folder of photographs and masks of the same names (.png) for --dataset masks")
    photos_held_out: str = option("", "file of the names for --dataset photos; default: data/open/photos_held_out.txt")
    seed: int = option(0, "of the rendered people and of --shuffle")
    paths: PathsConfig = group(PathsConfig)

    def __post_init__(self):
        super().__post_init__()
        for name in ("log_freq", "synthetic_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.check and self.dataset in PHOTOGRAPHS:
            raise ValueError(f"--check certifies joints and bodies; --dataset {self.dataset} has none: leave it out.")
        if self.dataset == "masks" and not self.masks_root:
            raise ValueError("--dataset masks needs --masks_root: a folder of photographs and masks.")


def prepare(cfg: EvalConfig) -> Evaluation:
    """The people of the set with the protocol and the network that they are scored by."""
    folder = Path(cfg.output_dir) / f"{cfg.dataset}_{cfg.regressor}"
    require_free_results(folder, cfg.result_file, cfg.overwrite)
    people, files, settings = open_people(cfg)
    paths_of = (() if cfg.dataset == "synthetic" else (people.image_path,)) + (
        (people.mask_path,) if cfg.dataset in PHOTOGRAPHS else ()
    )
    protocol = protocol_of(cfg, people)
    return Evaluation(
        name=cfg.dataset,
        folder=folder,
        people=people,
        protocol=protocol,
        load=lambda batches: load_planned(people, batches, cfg.workers, protocol.extra),
        settings={"dataset": cfg.dataset, **settings},
        files=files,
        images=[path_of(index) for path_of in paths_of for index in range(len(people))],
        facts={
            "protocol": SETS[cfg.dataset],
            **protocol.facts,
            "crop mode": f"{cfg.crop_mode}, 224 px, boxes as annotated",
        },
        suspicions=[*people.suspicions, *protocol.suspicions],
        check=None if cfg.dataset in PHOTOGRAPHS else cfg.check,
        log_freq=cfg.log_freq,
    )


def open_people(cfg: EvalConfig) -> tuple[People, list[Path], dict[str, str]]:
    """The people of the set, the files of their labels, and the settings that choose them."""
    if cfg.dataset == "synthetic":
        size = {"synthetic_size": str(cfg.synthetic_size)}
        return SyntheticPeople(cfg.synthetic_size, split="eval", seed=cfg.seed), [], size
    if cfg.dataset == "masks":
        return masked_people(cfg.masks_root, cfg.crop_mode), [], {}
    if cfg.dataset == "photos":
        root, names = image_root("photos_root", cfg.data_dir, cfg.paths), read_held_out(cfg.photos_held_out)
        return held_out_people(root, names, cfg.crop_mode), [root / PHOTO_LABELS], {"held out": " ".join(names)}
    people = BaseDataset(cfg.dataset, cfg.data_dir, cfg.paths, is_train=False, crop_mode=cfg.crop_mode)
    return people, [people.file], {}


def protocol_of(cfg: EvalConfig, people: People) -> Protocol:
    """The set's protocol, which holds the loaded network."""
    if cfg.dataset in PHOTOGRAPHS:
        return PeopleInPhotographs(load_predictor(cfg), people.labels, people.true_mask)
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
    config = parse_config(EvalConfig, argv, __doc__.splitlines()[0])
    try:
        with joined_processes() as processes:
            setup_logging(level=logging.INFO if processes.is_first else logging.WARNING)
            task = prepare(config)
            return evaluate(config, task, processes)
    except (ValueError, OSError, ImportError) as error:
        return report_error(log, error)


if __name__ == "__main__":
    run_script(main, on_stop="what was computed is kept, --resume continues.")
