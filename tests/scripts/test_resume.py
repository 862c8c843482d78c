"""Killing training runs at any moment: what follows is bit for bit what an unbroken run would have made."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import torch
from forked_runs import flags

from models.training.checkpoints import find_latest
from utils.checkpoint import load_checkpoint

# An epoch and a half in stage one; a checkpoint at every step, and the moving average.
SCHEDULE = {"num_epochs": 2, "pretr_step": 3, "checkpoint_steps": 1, "keep": 2, "ema_decay": 0.9}
STEPS = 4


@pytest.fixture(scope="module")
def unbroken(runner, tmp_path_factory) -> dict:
    """The last checkpoint of an unbroken run without data workers."""
    folder = tmp_path_factory.mktemp("whole")
    assert runner.run(folder / "log", arguments(folder)) == 0
    return last(folder)


def arguments(folder: Path, workers: int = 0) -> list[str]:
    switches = ["--resume"] if checkpoint(folder) else []
    return flags(*switches, **SCHEDULE, log_dir=folder, num_workers=workers)


def checkpoint(folder: Path) -> Path | None:
    found = [path for run in (folder / "t").glob("log_*") if (path := find_latest(run / "checkpoints"))]
    return max(found, key=lambda path: path.stem, default=None)


def last(folder: Path) -> dict:
    path = checkpoint(folder)
    assert path.name == f"{STEPS:08d}.pt"
    return load_checkpoint(path)


def assert_equal(a, b, where: str = "checkpoint") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, list | tuple):
        assert_equal(dict(enumerate(a)), dict(enumerate(b)), where)
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, where


def finish_and_compare(runner, folder: Path, unbroken: dict) -> None:
    assert runner.run(folder / "log", arguments(folder)) == 0
    found = last(folder)
    for part in ("model", "optimizer", "average", "total_step_count"):
        assert_equal(found[part], unbroken[part], part)


def test_killed_at_random_moments(runner, unbroken, tmp_path):
    moments = random.Random(2)
    for _ in range(2):
        kill_after = moments.uniform(0.3, 1.5)
        code = runner.run(tmp_path / "log", arguments(tmp_path, workers=2), kill_after=kill_after)
        assert code in (0, -signal.SIGKILL)
    finish_and_compare(runner, tmp_path, unbroken)


@pytest.mark.parametrize("how", ["half", "torn"])
def test_killed_while_a_checkpoint_is_written(runner, unbroken, tmp_path, how):
    """Half of the temporary file, or half of the file under its final name is there."""
    assert runner.run(tmp_path / "log", arguments(tmp_path), die=how, die_at=3) == -signal.SIGKILL
    assert checkpoint(tmp_path).name == "00000002.pt"
    (folder,) = (tmp_path / "t").glob("log_*/checkpoints")
    names = {path.name for path in folder.iterdir()} - {"00000001.pt", "00000002.pt"}
    assert len(names) == 1 and ("00000003.pt" in names) == (how == "torn")
    finish_and_compare(runner, tmp_path, unbroken)
    assert ("cannot be continued" in (tmp_path / "log").read_text()) == (how == "torn")
    aside = {"00000003.pt.damaged"} if how == "torn" else set()
    assert {path.name for path in folder.iterdir()} == {"00000003.pt", "00000004.pt"} | aside


def test_a_signal_saves_and_ends(runner, unbroken, tmp_path):
    """The data worker gets it, too."""
    first = (str(tmp_path), "t/log_*/checkpoints/00000001.pt")
    args = arguments(tmp_path, workers=1)
    assert runner.run(tmp_path / "log", args, signal=int(signal.SIGTERM), when_exists=first) == 0
    log = (tmp_path / "log").read_text()
    assert "SIGTERM; --resume continues the run." in log and "Traceback" not in log
    assert "00000001" <= checkpoint(tmp_path).stem < f"{STEPS:08d}"
    finish_and_compare(runner, tmp_path, unbroken)
