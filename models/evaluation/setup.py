"""What the evaluation scripts share: their common settings, body and network, and what a run is identified by."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from models.danet import PRESETS, DaNetConfig
from models.evaluation.scorers import JointRegressor
from models.inference.predictor import REGRESSORS, PretrainedRegressor, load_regressor
from models.inference.weights import network_of, warn_of_another_body
from models.smpl import SMPL
from utils.body import BODY_CHOICES, OPEN_DIR, SMPL_ID, BodyAssets, find_smpl_file, resolve_body
from utils.checkpoint import weights_id
from utils.config import group, option
from utils.geometry import CROP_MODES, batch_rodrigues
from utils.runtime import Processes, choose_device, joined_processes, report_error, setup_logging


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of every evaluation."""

    checkpoint: str | None = option(None, "weights (.pt or .safetensors); default: the shipped ones")
    regressor: str = option("danet", "the network's kind", choices=REGRESSORS)
    model: str | None = option(None, "the network of the weights; default: seen from them", choices=PRESETS)
    batch_size: int = option(16, "people at a time")
    num_workers: int | None = option(None, "processes that read pictures; default: one a core, at most 8")
    shuffle: bool = option(False, "score the samples in a random order")
    result_file: str | None = option(None, "also write joints, poses, shapes and cameras to this .npz")
    output_dir: str = option("./output", "where results are written")
    overwrite: bool = option(False, "replace the results of an earlier evaluation; without it they are kept")
    body: str = option("auto", "official files, the open body, or the first if there", choices=BODY_CHOICES)
    data_dir: str = option(str(OPEN_DIR.parent), "folder of the data sets and licensed files")
    crop_mode: str = option("warp", "exact crops without aliasing, or those of 2020", choices=CROP_MODES)
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    resume: bool = option(False, "continue an interrupted evaluation of the same settings")
    network: DaNetConfig = group(DaNetConfig, preset_by=("model", "checkpoint"), preset=network_of)

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.num_workers is not None and self.num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {self.num_workers}.")
        if self.regressor == "danet" and self.checkpoint is None and self.model not in (None, "danet_s"):
            raise ValueError(f"No weights for '{self.model}' ship with the project; give --checkpoint FILE.")

    @property
    def workers(self) -> int:
        return min(8, os.cpu_count() or 1) if self.num_workers is None else self.num_workers


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a network, and the body that it poses."""

    regressor: PretrainedRegressor
    assets: BodyAssets
    smpl: SMPL
    device: torch.device

    def describe(self) -> str:
        """One line that says which body, atlas and weights are in use."""
        return self.assets.log_line(str(self.regressor.weights))

    def posed(self, rows: Mapping[str, np.ndarray], index: int) -> tuple[Tensor, Tensor]:
        """Vertices [V,3] and camera [3] of a scored sample, from its rows."""
        rotvec = torch.from_numpy(rows["pose"][index].reshape(24, 3))
        betas = torch.from_numpy(rows["betas"][index])[None]
        with torch.inference_mode():
            posed = self.smpl(batch_rodrigues(rotvec)[None].to(self.device), betas.to(self.device))
        return posed.vertices[0].cpu(), torch.from_numpy(rows["camera"][index])

    def facts(self) -> dict[str, str]:
        """Which network, weights and body, as text."""
        return {
            "regressor": self.regressor.name,
            "weights": str(self.regressor.weights),
            "weights_id": self.regressor.weights.weights_id,
            "body": self.assets.source,
        }


def load_subject(cfg: EvaluationConfig, need: Iterable[str]) -> Subject:
    """Network and body of a run; `need` are the keys of `utils.body.LICENSED_FILES` that it cannot do without."""
    device = choose_device(cfg.device)
    assets = resolve_body(cfg.body, cfg.data_dir, need)
    regressor = load_regressor(cfg.regressor, cfg.checkpoint, cfg.network, cfg.data_dir, device)
    warn_of_another_body(regressor.weights.meta.get("body"), assets.body.model_id)
    smpl = SMPL(assets.body, assets.extra, assets.surface).to(device)
    return Subject(regressor, assets, smpl, device)


def gendered_bodies(subject: Subject, data_dir: str) -> tuple[dict[int, tuple[SMPL, JointRegressor]], str]:
    """Bodies of the true persons by gender (0 male, 1 female), and a sentence about them.

    The open body is one for all. Raises FileNotFoundError when an official body of a gender is missing; `resolve_body`
    has said so before when it was asked for both.
    """
    assets = subject.assets
    if assets.body.model_id != SMPL_ID:
        one = (subject.smpl, JointRegressor(subject.smpl, assets.h36m).to(subject.device))
        return {0: one, 1: one, -1: one}, f"the body '{assets.body.model_id}' for every gender"
    bodies = {}
    for code, gender in enumerate(("male", "female")):
        smpl = SMPL(find_smpl_file(gender, data_dir), assets.extra, assets.surface).to(subject.device)
        bodies[code] = (smpl, JointRegressor(smpl, assets.h36m).to(subject.device))
    return bodies, "SMPL_MALE and SMPL_FEMALE by the annotated gender"


def run_evaluation(
    evaluate: Callable[[Any, Processes], int], cfg: EvaluationConfig, log: logging.Logger
) -> int:
    """Join the other processes, evaluate, and answer what is wrong with one sentence. Returns the exit code."""
    try:
        with joined_processes() as processes:
            setup_logging(level=logging.INFO if processes.is_first else logging.WARNING)
            return evaluate(cfg, processes)
    except (ValueError, OSError, ImportError) as error:
        return report_error(log, error)


# -------------------------------------------------------------------------------------------- about the labels


def tell_of_labels(
    log: logging.Logger, notes: Iterable[str], suspicions: Iterable[str], left_out: Mapping[str, int]
) -> dict[str, Any]:
    """Log what was assumed of the labels and what is odd with them; the facts about them for protocol.json."""
    facts = {"labels": [*notes], "suspicions": [*suspicions], "left out": dict(left_out)}
    for sentence in facts["labels"]:
        log.info("%s", sentence)
    for sentence in facts["suspicions"]:
        log.warning("Suspicion: %s", sentence)
    return facts


def tell_left_out(log: logging.Logger, left_out: Mapping[str, int]) -> None:
    """The last line of a run: what of the labels was not used, and why."""
    if left_out:
        log.info("Not used: %s.", ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()))


# -------------------------------------------------------------------------------------------------- fingerprint


def fingerprint_of(
    subject: Subject, settings: dict[str, str], files: Iterable[Path], pictures: Iterable[Path]
) -> dict:
    """What a run computes, as plain text by name: settings, weights, body, annotation files and pictures.

    Files enter with their content, pictures (there may be a hundred thousand) with their names and sizes.
    """
    listing = hashlib.sha256()
    for path in pictures:
        size = path.stat().st_size if path.is_file() else -1
        listing.update(f"{path.name}\0{size}\n".encode())
    body = hashlib.sha256()
    for array in (subject.assets.body.v_template, subject.assets.body.shapedirs, subject.assets.body.weights):
        body.update(np.ascontiguousarray(array).tobytes())
    return {
        **settings,
        "regressor": subject.regressor.name,
        "weights": subject.regressor.weights.weights_id,
        "body": f"{subject.assets.body.model_id} {body.hexdigest()[:12]}",
        "pictures": listing.hexdigest()[:12],
        **{f"file {path.name}": weights_id(path) for path in files},
    }


def versions() -> dict[str, str]:
    """What computed the numbers."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
