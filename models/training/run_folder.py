"""Folders of training runs: the folder of a new or continued run, and the record of its starts."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.training.checkpoints import newest_step, tidy_checkpoints
from utils.io import ROOT, atomic_write, load_json, save_json_atomic
from utils.runtime import Processes, make_run_folder


def require_free(log_dir: str | Path, name: str, timestamp: str) -> None:
    """Raise ValueError where a new run would get the folder of one that has checkpoints."""
    folder = Path(log_dir) / name / f"log_{timestamp}"
    if timestamp and newest_step(folder / "checkpoints") >= 0:
        raise ValueError(
            f"{folder} holds the checkpoints of another run. Continue it with --resume, or give another --timestamp."
        )


def open_run(
    processes: Processes,
    run: tuple[str, str, str],
    continued: Path | None,
    settings: str,
    step: int,
    facts: Mapping[str, Any],
) -> tuple[Path, dict[str, Any]]:
    """The folder of the run that checkpoint `continued` belongs to, tidied up, else a new one; and `note_start`'s.

    Only the first process writes.

    Args:
        run: log_dir, name and timestamp of a new one.
    """
    folder, start = Path(), {}
    if processes.is_first:
        if continued:
            tidy_checkpoints(continued)
            folder = continued.parent.parent
        else:
            require_free(*run)
            folder = make_run_folder(*run)
        start = note_start(folder, settings, step, facts)
    return Path(processes.share(str(folder))), start


# ------------------------------------------------------------------------------------------------------- starts


def note_start(folder: Path, settings: str, step: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """Write what a run that starts or continues is made of; returns number and time of this start.

    `config.yaml`: its settings; `data.json`: the data that it uses; `git.json`: for each start and continuation,
    when it was, from which step, with which code, and its number among those of all runs beside this one.
    """
    with atomic_write(folder / "config.yaml", "w") as file:
        file.write(settings)
    beside = [start for other in folder.parent.glob("log_*") for start in read_starts(other)]
    start = {
        "number": 1 + max((start["number"] for start in beside), default=0),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    save_json_atomic(folder / "data.json", data)
    noted = start | {"step": step} | git_state() | versions
    save_json_atomic(folder / "git.json", [*read_starts(folder), noted])
    return start


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """The starts of a run in its `git.json`; none where it is missing or damaged."""
    try:
        return readable_starts(load_json(folder / "git.json"))
    except (OSError, ValueError):
        return []


def readable_starts(starts: Any) -> list[dict[str, Any]]:
    """Those of a file's starts that have a number and a time."""

    def is_start(value: Any) -> bool:
        number = value.get("number") if isinstance(value, dict) else None
        return type(number) is int and 0 <= number < 2**53 and isinstance(value.get("time"), str)

    return [start for start in starts if is_start(start)] if isinstance(starts, list) else []


def git_state() -> dict[str, Any]:
    """The commit of the code and whether it was changed since; empty without git or a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    commit, _, dirty = text.strip().partition("-")
    return {"commit": commit, "dirty": bool(dirty)}
