"""Killing training runs at any moment: what follows is bit for bit what an unbroken run would have made."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import torch
from forked_runs import Runner, flags

from models.training.checkpoints import find_latest
from utils.checkpoint import load_checkpoint

# An epoch and a half in stage one; scalars, checkpoints and the moving average at every step.
SCHEDULE = {"num_epochs": 3, "pretr_step": 3, "checkpoint_steps": 1, "keep": 2, "ema_decay": 0.9}
STEPS = 6


@pytest.fixture(scope="module")
def runner():
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def unbroken(runner, tmp_path_factory):
    """The last checkpoint of an unbroken run with a seed and no data workers."""
    known = {}

    def of(seed: int) -> dict:
        if seed not in known:
            folder = tmp_path_factory.mktemp(f"whole{seed}")
            assert runner.run(folder / "log", arguments(folder, seed)) == 0
            known[seed] = last(folder)
        return known[seed]

    return of


def arguments(folder: Path, seed: int, workers: int = 0) -> list[str]:
    switches = ["--resume"] if checkpoint(folder) else []
    return flags(*switches, **SCHEDULE, log_dir=folder, seed=seed, num_workers=workers)


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
        assert len(a) == len(b), where
        for number, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}[{number}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_training(a: dict, b: dict) -> None:
    for part in ("model", "optimizer", "average", "total_step_count"):
        assert_equal(a[part], b[part], part)


@pytest.mark.parametrize(("seed", "workers"), [(0, 0), (1, 2), (2, 0)])
def test_killed_at_random_moments(runner, unbroken, tmp_path, seed, workers):
    moments, kills = random.Random(seed), 0
    for _ in range(2):
        code = runner.run(
            tmp_path / "log", arguments(tmp_path, seed, workers), kill_after=moments.uniform(0.3, 1.5)
        )
        kills += code == -signal.SIGKILL
        if code == 0:
            break
    assert kills
    assert runner.run(tmp_path / "log", arguments(tmp_path, seed, workers)) == 0
    assert_same_training(last(tmp_path), unbroken(seed))


@pytest.mark.parametrize("how", ["half", "whole", "torn"])
def test_killed_while_a_checkpoint_is_written(runner, unbroken, tmp_path, how):
    args = arguments(tmp_path, 0)
    assert runner.run(tmp_path / "log", args, die=how, die_at=4) == -signal.SIGKILL
    assert checkpoint(tmp_path).name == "00000003.pt"
    (folder,) = (tmp_path / "t").glob("log_*/checkpoints")
    names = {path.name for path in folder.iterdir()} - {"00000002.pt", "00000003.pt"}
    assert len(names) == 1 and ("00000004.pt" in names) == (how == "torn")
    assert runner.run(tmp_path / "log", arguments(tmp_path, 0)) == 0
    assert_same_training(last(tmp_path), unbroken(0))
    assert ("cannot be continued" in (tmp_path / "log").read_text()) == (how == "torn")
    left = {path.name for path in folder.iterdir()}
    assert left == {"00000005.pt", "00000006.pt"} | ({"00000004.pt.damaged"} if how == "torn" else set())


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 0)]
)
def test_a_signal_saves_and_ends(runner, unbroken, tmp_path, number, workers):
    first = (str(tmp_path), "t/log_*/checkpoints/00000001.pt")
    args = arguments(tmp_path, 0, workers)
    code = runner.run(tmp_path / "log", args, signal=int(number), when_exists=first)
    assert code == 0
    said = (tmp_path / "log").read_text()
    assert f"{number.name}; --resume continues the run." in said and "Traceback" not in said
    assert "00000001" <= checkpoint(tmp_path).stem < f"{STEPS:08d}"
    assert runner.run(tmp_path / "log", arguments(tmp_path, 0)) == 0
    assert_same_training(last(tmp_path), unbroken(0))
