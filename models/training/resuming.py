"""Continuing a run: its newest usable checkpoint; everything in it is checked before anything is changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.training.checkpoints import (
    STEP_FILE,
    Accept,
    OtherRunError,
    find_latest,
    load_unchanged,
    newest_step,
)
from models.training.run_folder import read_starts, readable_starts
from models.training.state import TrainingState
from utils.io import DataFileError
from utils.runtime import Processes
from utils.wording import shown

log = logging.getLogger(__name__)

# Settings that give the steps of a run their meaning; a continued run must have the same.
MEANING = {"model", "batch_size", "train_data", "synthetic_size", "shuffle_train", "seed"}
# Fields of `DaNetConfig` that may change: they alter training, not the weights' shapes.
NOT_SIZES = {"vis_threshold", "center_jitter", "scale_jitter", "partdrop_rate", "detach_maps"}


def restore_state(
    state: TrainingState, processes: Processes, accept: Accept, checkpoint: str, run: tuple[str, str, str]
) -> Path:
    """Give `state` the content of a checkpoint, the same in all processes; returns the file's path.

    Args:
        accept: raises what is wrong with a checkpoint, as `require_continuable` does.
        checkpoint: the file; "" for the newest one of a run that `accept` takes.
        run: log_dir, name and timestamp, see `newest_checkpoint`.
    """
    path = Path(checkpoint)
    if not checkpoint:
        path = Path(processes.share(str(newest_checkpoint(*run, accept) if processes.is_first else "")))
    saved = load_unchanged(path)
    accept(path, saved)
    state.restore(saved)
    log.info("Continuing %s", path)
    return path


def newest_checkpoint(log_dir: str, name: str, timestamp: str = "", accept: Accept | None = None) -> Path:
    """The newest usable checkpoint of the run of this name (and timestamp, if given) that was started last.

    Raises:
        FileNotFoundError: when no run has a usable checkpoint.
        OtherRunError: see `find_latest`.
    """
    runs = [path for path in (Path(log_dir) / name).glob(f"log_{timestamp or '*'}") if path.is_dir()]
    runs.sort(key=_last_start, reverse=True)
    for run in runs:
        if path := find_latest(run / "checkpoints", accept):
            others = ", ".join(other.name for other in runs if other != run) or "none"
            log.info("Continuing %s of %s, which was started last. Other runs: %s.", path.name, run, others)
            return path
        log.warning("%s has no checkpoint that can be continued.", run)
    which = f"named '{name}'" + (f" with the timestamp '{timestamp}'" if timestamp else "")
    undamaged = "undamaged " if any(newest_step(run / "checkpoints") >= 0 for run in runs) else ""
    raise FileNotFoundError(
        f"--resume: no {undamaged}checkpoint of a run {which} in {log_dir}. Start it without --resume."
    )


def _last_start(run: Path) -> tuple[int, str, int, str]:
    """Sort key of a run: number and time of its last start, newest step, name. Numbers hold where clocks are wrong."""
    starts = read_starts(run)
    if not starts and (newest := find_latest(run / "checkpoints")):  # a checkpoint tells of its start, too
        starts = readable_starts([load_unchanged(newest).get("start")])
    number, when = max(((s["number"], s["time"]) for s in starts), default=(0, ""))
    return number, when, newest_step(run / "checkpoints"), run.name


def require_continuable(
    path: Path, saved: Mapping[str, Any], state: TrainingState, settings: dict[str, Any], epoch_size: int
) -> None:
    """Raise unless `state` can continue a checkpoint to the last number.

    Args:
        saved: content of the file `path`.
        settings: those of now, as `to_dict` gives them.
        epoch_size: samples in an epoch of the data of now.

    Raises:
        DataFileError: for a damaged checkpoint.
        OtherRunError: for a good one of a run with other settings.
    """
    config = saved.get("config")
    if not isinstance(config, Mapping) or not isinstance(config.get("net"), Mapping):
        raise DataFileError(
            f"{path} holds weights, but no training of ours that could be continued. Start a run from it with "
            "--pretrained_checkpoint."
        )
    require_same_run(path, saved, settings, epoch_size)  # first: it names the setting that other shapes come from
    require_state(path, saved, state)


def require_same_run(path: Path, saved: Mapping[str, Any], settings: dict[str, Any], epoch_size: int) -> None:
    """Raise OtherRunError when continuing would mean another network or count steps in another way."""
    before, now = _flat(saved["config"]), _flat(settings)
    names = (MEANING & before.keys()) | (_flat({"net": saved["config"]["net"]}).keys() - NOT_SIZES)
    # As text: what a file holds may not be comparable at all.
    changed = sorted(name for name in names if repr(before[name]) != repr(now.get(name)))
    if changed:
        raise OtherRunError(
            f"--resume: the run of {path} has other values of {', '.join(changed)}. Give the same ones, or "
            "start a new --name."
        )
    size = saved.get("epoch_size", epoch_size)
    if type(size) is not int or size != epoch_size:
        raise OtherRunError(
            f"--resume: an epoch of the saved run has {shown(size)} people, the data now have "
            f"{epoch_size}. Give back the same files, or start a new --name with --pretrained_checkpoint."
        )


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name; groups are flattened, because they have moved between versions."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {str(name): value}
    return flat


def require_state(path: Path, saved: Mapping[str, Any], state: TrainingState) -> None:
    """Raise DataFileError, naming file and entry, unless `state.restore(saved)` will work."""
    parameters = [p.detach() for group in state.optimizer.param_groups for p in group["params"]]
    optimizer = saved.get("optimizer")
    moments = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    numbers = moments if isinstance(moments, Mapping) else ()  # of the parameters that were trained
    known = [n for n in range(len(parameters)) if n in numbers]
    like = state.to_dict() | {
        "optimizer": {
            n: {"step": torch.zeros(()), "exp_avg": parameters[n], "exp_avg_sq": parameters[n]} for n in known
        }
    }
    if state.average is None or saved.get("average") is None:
        del like["average"]
    entry = _differing({name: saved.get(name) for name in like} | {"optimizer": moments}, like)
    if entry is not None:
        raise DataFileError(f"{path}: '{entry}' is not what a training of this network has there.")
    if STEP_FILE.fullmatch(path.name) and int(path.stem) != saved["total_step_count"]:
        raise DataFileError(f"{path}: 'total_step_count' is not the step of the file's name.")


def _differing(value: Any, like: Any, entry: str = "") -> str | None:
    """The first entry of which keys, shapes or the kind of finite numbers differ from those of `like`."""
    if isinstance(like, Mapping):
        if not isinstance(value, Mapping) or value.keys() != like.keys():
            return entry
        inner = (_differing(value[key], part, f"{entry}.{key}".lstrip(".")) for key, part in like.items())
        return next((found for found in inner if found is not None), None)
    if not isinstance(like, Tensor):  # a count
        return None if type(value) is int and 0 <= value < 2**62 else entry
    dense = isinstance(value, Tensor) and not (value.is_nested or value.is_meta or value.is_sparse)
    same = dense and value.shape == like.shape and value.dtype == like.dtype
    return None if same and torch.isfinite(value).all() else entry
