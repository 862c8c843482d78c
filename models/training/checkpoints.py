"""The checkpoints of a training run, NNNNNNNN.pt by step: the newest that can be continued, and which are kept."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.checkpoint import CHECKSUM, content_sum, load_checkpoint
from utils.io import DataFileError
from utils.wording import shorten

log = logging.getLogger(__name__)

STEP_FILE = re.compile(r"([0-9]{8,})\.pt")
Accept = Callable[[Path, dict[str, Any]], None]


def load_unchanged(path: str | os.PathLike) -> dict[str, Any]:
    """`load_checkpoint` of a file that `save_checkpoint` wrote, as it was written.

    Raises DataFileError where the content does not have its checksum (older files have none), and what
    `load_checkpoint` raises.
    """
    content = load_checkpoint(path)
    expected = content.pop(CHECKSUM, None)
    if expected is not None and expected != content_sum(content):
        raise DataFileError(f"{path} is damaged: its content is not what was written (checksum).")
    return content


def find_latest(folder: str | os.PathLike, accept: Accept | None = None) -> Path | None:
    """The newest NNNNNNNN.pt of a run that can be read completely; newer ones are skipped with a warning.

    accept: is shown each path and content, the newest first, and raises to have the file skipped. A ValueError that is
    no DataFileError says that the file is good, but of a run with other settings: it is raised if no older one will do.
    """
    foreign = None
    for path in _newest_first(folder):
        try:
            reason = why_unusable(path, accept)
        except ValueError as error:
            foreign, reason = foreign or error, shorten(error)
        if reason is None:
            return path
        log.warning("%s cannot be continued; trying the checkpoint before it. (%s)", path, reason)
    if foreign:
        raise foreign
    return None


def why_unusable(path: Path, accept: Accept | None = None) -> str | None:
    """Why a checkpoint cannot be continued, None where it can. accept: see `find_latest`; raises its ValueError."""
    try:
        content = load_unchanged(path)
    except Exception as error:  # whatever a damaged file makes of its reader must not stop the search
        return shorten(error) or type(error).__name__
    try:
        if accept:
            accept(path, content)
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, DataFileError):
            raise  # the file is good, but of a run with other settings
        return shorten(error) or type(error).__name__
    return None


def prune_checkpoints(folder: str | os.PathLike, keep: int) -> list[Path]:
    """Delete what is older than the newest `keep` readable checkpoints of a run; returns what was deleted.

    Damaged ones do not count, so that the last good one is never deleted. Raises ValueError for keep < 1.
    """
    if keep < 1:
        raise ValueError(f"At least one checkpoint must be kept, got keep={keep}.")
    good, old = 0, []
    for path in _newest_first(folder):
        if good == keep:
            old.append(path)
        elif reason := why_unusable(path):
            log.warning("%s does not count among the checkpoints kept: %s", path, reason)
        else:
            good += 1
    old = [path for path in reversed(old) if path.is_file()]
    for path in old:
        path.unlink()
    return old


def _newest_first(folder: str | os.PathLike) -> list[Path]:
    folder = Path(folder)
    found = [p for p in folder.iterdir() if STEP_FILE.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.stem), reverse=True)
