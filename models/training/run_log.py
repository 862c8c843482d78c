"""What a training run tells about itself: scalars and pictures, its pace, and the code it ran."""

from __future__ import annotations

import contextlib
import logging
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from tensorboardX import SummaryWriter
from tqdm import tqdm

from utils.config import option
from utils.io import ROOT, atomic_write, load_json, save_json_atomic

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True)
class WatchConfig:
    """How often a run tells about itself and saves."""

    summary_steps: int = option(100, "steps between scalars")
    vis_interval: int = option(1000, "steps between pictures")
    checkpoint_steps: int = option(10000, "steps between checkpoints")
    keep: int = option(3, "checkpoints kept")
    test_steps: int = option(1000, "steps between scores on held-out people; 0: none")
    test_size: int = option(64, "held-out people scored each time")
    eval_pve: bool = option(False, "accepted; the surface error (PVE) is always among those scores")

    def __post_init__(self) -> None:
        require_positive(self, "summary_steps", "vis_interval", "checkpoint_steps", "keep", "test_size")
        if self.test_steps < 0:
            raise ValueError(f"--test_steps must be at least 0 (none), got {self.test_steps}.")

    # `step` is the number of the step just done; what tells of a run comes first in an interval, as in 2020.
    def scalars_due(self, step: int) -> bool:
        return (step - 1) % self.summary_steps == 0

    def pictures_due(self, step: int) -> bool:
        return (step - 1) % self.vis_interval == 0

    def test_due(self, step: int) -> bool:
        return self.test_steps > 0 and step % self.test_steps == 0

    def checkpoint_due(self, step: int) -> bool:
        return step % self.checkpoint_steps == 0


def require_positive(config: Any, *names: str) -> None:
    """Raise ValueError for a setting below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(config, name)}.")


def in_words(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


class Pace:
    """Samples a second, and the share of time spent waiting for data, since they were last asked for."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.restart()

    def restart(self) -> None:
        self.start, self.waited, self.samples = self.clock(), 0.0, 0

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The same batches; the time each takes to come counts as waiting."""
        iterator = iter(batches)
        while True:
            before = self.clock()
            batch = next(iterator, None)
            self.waited += self.clock() - before
            if batch is None:
                return
            yield batch

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count."""
        before = self.clock()
        yield
        self.start += self.clock() - before

    def take(self) -> dict[str, float]:
        """The two numbers; counting starts anew."""
        spent = max(self.clock() - self.start, 1e-9)
        result = {"samples_per_second": self.samples / spent, "waiting_for_data": self.waited / spent}
        self.restart()
        return result


class RunLog:
    """TensorBoard and a progress bar; with `quiet` (all processes but the first) nothing is written."""

    def __init__(self, folder: Path, total_samples: int, done_samples: int, quiet: bool = False):
        self.writer = None if quiet else SummaryWriter(str(folder / "tb_summary"))
        self.progress = tqdm(total=total_samples, initial=done_samples, unit="samples", disable=quiet)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.close()
        if self.writer:
            self.writer.close()

    def advance(self, samples: int) -> None:
        self.progress.update(samples)

    def scalars(self, prefix: str, values: Mapping[str, float | Tensor], step: int) -> None:
        """`<prefix><name>` for each value; losses bring their own `loss_`, which is not doubled."""
        for name, value in values.items():
            if self.writer:
                self.writer.add_scalar(prefix + name.removeprefix("loss_"), float(value), step)

    def show(self, values: Mapping[str, float | Tensor]) -> None:
        """Beside the progress bar."""
        self.progress.set_postfix({n.removeprefix("loss_"): f"{float(v):.3g}" for n, v in values.items()})

    def pictures(self, pictures: Mapping[str, Tensor], step: int) -> None:
        for name, picture in pictures.items():
            if self.writer:
                self.writer.add_image(name, picture, step)


def git_state(folder: Path = ROOT) -> dict[str, Any]:
    """The commit of the code and whether it was changed since; empty without git or a repository."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.rstrip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no").splitlines()
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(changed),
            "changed": [c[3:] for c in changed],
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """The starts and continuations of a run that its `git.json` tells of, as far as they can be understood."""
    try:
        noted = load_json(folder / "git.json")
    except (OSError, ValueError):  # none, or of a disk that was full
        return []
    return understood(noted if isinstance(noted, list) else [])


def understood(starts: Iterable[Any]) -> list[dict[str, Any]]:
    """Those of the starts that are some, with a number (0: unknown) and a time ("": unknown)."""
    found = []
    for start in starts:
        if isinstance(start, dict):
            number, when = start.get("number"), start.get("time")
            known = type(number) is int and 0 <= number < 2**53
            found.append(
                start | {"number": number if known else 0, "time": when if isinstance(when, str) else ""}
            )
    return found


def note_start(folder: Path, settings: str, step: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """Write what a run that starts or continues is made of; returns number and time of this start.

    `config.yaml`: its settings; `data.json`: the mix that really runs; `git.json`: for each start and continuation,
    when it was, from which step, with which code, and its number among those of all runs beside this one.
    """
    with atomic_write(folder / "config.yaml", "w") as file:
        file.write(settings)
    beside = [start for other in folder.parent.glob("log_*") for start in read_starts(other)]
    number = 1 + max((start["number"] for start in beside), default=0)
    start = {"number": number, "time": time.strftime("%Y-%m-%d %H:%M:%S"), "step": step, **git_state()}
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    save_json_atomic(folder / "data.json", data)
    save_json_atomic(folder / "git.json", [*read_starts(folder), start | versions])
    return {"number": number, "time": start["time"]}
