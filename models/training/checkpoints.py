"""The checkpoints of a training run, <step>.pt: written, found again, and the old ones deleted (docs/method.md 9)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from models.training.state import TrainingState
from utils.checkpoint import CHECKSUM, content_sum, load_checkpoint, save_checkpoint
from utils.io import DataFileError
from utils.io.temporary import remove_leftovers
from utils.wording import shorten

log = logging.getLogger(__name__)

STEP_FILE = re.compile(r"([0-9]{8,})\.pt")
Accept = Callable[[Path, dict[str, Any]], None]  # path and content; raises what is wrong with them


class OtherRunError(ValueError):
    """A good checkpoint, but of a run with other settings."""


def write_checkpoint(
    folder: Path,
    state: TrainingState,
    settings: dict[str, Any],
    epoch_size: int,
    batch_size: int,
    start: dict[str, Any],
) -> Path:
    """Write a run's state with its settings as <step>.pt, whole or not at all; the path.

    Args:
        epoch_size: samples in an epoch.
        start: number and time of the run's start, as `note_start` gives them.

    Raises:
        FloatingPointError: for weights that are not finite.
        OSError: where the disk refuses; earlier checkpoints are untouched.
    """
    path = folder / f"{state.step:08d}.pt"
    epoch, batch_index = divmod(state.step, epoch_size // batch_size)
    # The names of 2020; the order of samples follows from epoch and seed, so no permutation is stored.
    place = {"epoch": epoch, "batch_idx": batch_index, "batch_size": batch_size, "dataset_perm": None}
    content = state.to_dict() | place | {"epoch_size": epoch_size, "config": settings, "start": start}
    bad = [n for n, v in content["model"].items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if bad:
        raise FloatingPointError(
            f"{len(bad)} tensors of the weights are not finite at step {state.step}, the first is {bad[0]}: no "
            "checkpoint was written. Lower --base_lr, or --resume from the checkpoint before."
        )
    save_checkpoint(path, content)
    log.info("Saved %s", path)
    return path


def load_unchanged(path: str | os.PathLike) -> dict[str, Any]:
    """Content of a checkpoint as it was written.

    Raises:
        DataFileError: where the content does not have its checksum (files of before checksums have none).
        OSError, ValueError: see `load_checkpoint`.
    """
    content = load_checkpoint(path)
    expected = content.pop(CHECKSUM, None)
    if expected is not None and expected != content_sum(content):
        raise DataFileError(f"{path} is damaged: its content is not what was written (checksum).")
    return content


def find_latest(folder: str | os.PathLike, accept: Accept | None = None) -> Path | None:
    """The newest checkpoint in a folder that can be continued; newer ones are named in a warning.

    Raises:
        OtherRunError: raised by `accept`, where no checkpoint can be continued.
    """
    other_run = None
    for path in _newest_first(folder):
        problem = _problem_of(path, accept)
        if problem is None:
            return path
        is_other = isinstance(problem, OtherRunError)  # a sentence of ours; other errors may be of any length
        other_run = other_run or (problem if is_other else None)
        reason = str(problem) if is_other else shorten(problem) or type(problem).__name__
        log.warning("%s cannot be continued; trying the checkpoint before it. (%s)", path, reason)
    if other_run:
        raise other_run
    return None


def prune_checkpoints(
    folder: str | os.PathLike, keep: int, trusted: Collection[Path] = ()
) -> list[Path]:
    """Delete what is older than the newest `keep` readable checkpoints; returns what was deleted.

    Damaged ones do not count, so that the last good one is never deleted. Raises ValueError for keep < 1.

    Args:
        trusted: written by this process, so that they need not be read again.
    """
    if keep < 1:
        raise ValueError(f"At least one checkpoint must be kept, got keep={keep}.")
    good, old = 0, []
    for path in _newest_first(folder):
        if good == keep:
            old.append(path)
        elif path not in trusted and (problem := _problem_of(path)):
            log.warning("%s does not count among the checkpoints kept: %s", path, shorten(problem))
        else:
            good += 1
    old = [path for path in reversed(old) if path.is_file()]
    for path in old:
        path.unlink()
    return old


def tidy_checkpoints(newest: Path) -> None:
    """Clean up after a crash: remove half-written files, rename damaged checkpoints after `newest` to *.damaged."""
    for folder in (newest.parent, newest.parent.parent):
        remove_leftovers(folder)
    for path in _newest_first(newest.parent):
        if int(path.stem) > int(newest.stem):
            names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in range(10_000))
            path.rename(next(name for name in names if not name.exists() and not name.is_symlink()))


def newest_step(folder: Path) -> int:
    """Highest step of the checkpoints in a folder, by their names; -1 without any."""
    return max((int(path.stem) for path in _newest_first(folder)), default=-1)


def _problem_of(path: Path, accept: Accept | None = None) -> Exception | None:
    try:
        content = load_unchanged(path)
        if accept:
            accept(path, content)
    except Exception as error:  # whatever a damaged file makes of its reader must not stop the search
        return error
    return None


def _newest_first(folder: str | os.PathLike) -> list[Path]:
    folder = Path(folder)
    found = [p for p in folder.iterdir() if STEP_FILE.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.stem), reverse=True)
