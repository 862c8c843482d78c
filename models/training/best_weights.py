"""The weights of a run that are best on held-out photographs, kept beside the last ones (docs/training.md)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from models.training.config import TrainingConfig
from models.training.state import TrainingState, export_weights
from utils.io import load_json, save_json_atomic

log = logging.getLogger(__name__)

CHOSEN_BY = ("photo_pck_body", "photo_iou_body")


def merit(scores: Mapping[str, float]) -> float:
    """What checkpoints are chosen by: the mean of PCK and IoU of the body; -inf where either is missing or NaN."""
    values = [scores.get(name, math.nan) for name in CHOSEN_BY]
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else -math.inf


def keep_if_best(
    folder: Path, state: TrainingState, cfg: TrainingConfig, body: str, scores: Mapping[str, float]
) -> bool:
    """Write <folder>/best_<model>.safetensors where the scores beat those of the file that is there.

    Step and scores lie in best_<model>.json beside it, so that a continued run goes on from them. Returns whether the
    weights were written.
    """
    path = folder / f"best_{cfg.model}.safetensors"
    if merit(scores) <= _merit_in(path.with_suffix(".json")):
        return False
    export_weights(path, state, cfg.model, cfg.net, body, dict(scores))
    save_json_atomic(path.with_suffix(".json"), {"step": state.step, "scores": dict(scores)})
    return True


def _merit_in(path: Path) -> float:
    if not path.is_file():
        return -math.inf
    try:
        return merit(load_json(path)["scores"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged and will be replaced: %s", path, error)
        return -math.inf
