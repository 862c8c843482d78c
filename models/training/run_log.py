"""What a training run shows while it runs: scalars and images in TensorBoard, its progress and pace."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tensorboardX import SummaryWriter
from tqdm import tqdm

from utils.config import option, require_range

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")


@dataclass(frozen=True)
class WatchConfig:
    """Intervals at which a run logs scalars, images and scores, and saves."""

    summary_steps: int = option(100, "steps between scalars")
    vis_interval: int = option(1000, "steps between images")
    checkpoint_steps: int = option(10000, "steps between checkpoints")
    keep: int = option(3, "checkpoints kept")
    test_steps: int = option(1000, "steps between scores on held-out people; 0: none")
    test_size: int = option(64, "held-out people scored each time")
    eval_pve: bool = option(False, "accepted; the surface error (PVE) is always among those scores")

    def __post_init__(self) -> None:
        require_range(self, 1, 1e9, "summary_steps", "vis_interval", "checkpoint_steps", "keep", "test_size")
        require_range(self, 0, 1e9, "test_steps")


def format_scores(scores: Mapping[str, float]) -> str:
    """Names and values, three digits each."""
    return ", ".join(f"{name} {float(value):.3g}" for name, value in scores.items())


class Pace:
    """Samples a second, and the share of time spent waiting for data, since they were last asked for."""

    def __init__(self) -> None:
        self._start, self._waited, self._samples = time.perf_counter(), 0.0, 0

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The same batches; the time each takes to come counts as waiting."""
        iterator = iter(batches)
        while True:
            before = time.perf_counter()
            batch = next(iterator, None)
            self._waited += time.perf_counter() - before
            if batch is None:
                return
            yield batch

    def add(self, samples: int) -> None:
        """Count the samples of a step."""
        self._samples += samples

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose time does not count."""
        before = time.perf_counter()
        yield
        self._start += time.perf_counter() - before

    def take(self) -> dict[str, float]:
        """Samples a second and share of waiting, 0..1; counting starts anew."""
        now = time.perf_counter()
        spent, waited, samples = max(now - self._start, 1e-9), self._waited, self._samples
        self._start, self._waited, self._samples = now, 0.0, 0
        return {"samples_per_second": samples / spent, "waiting_for_data": waited / spent}


class RunLog:
    """TensorBoard and a progress bar over samples; with `quiet` (all processes but the first) neither.

    Close it at the end (`contextlib.closing`).
    """

    def __init__(self, folder: Path, total_samples: int, done_samples: int, quiet: bool = False):
        self._writer = None if quiet else SummaryWriter(str(folder / "tb_summary"))
        self._progress = tqdm(total=total_samples, initial=done_samples, unit="samples", disable=quiet)

    def close(self) -> None:
        """Close the progress bar and the log."""
        self._progress.close()
        if self._writer:
            self._writer.close()

    def advance(self, samples: int) -> None:
        """Move the progress bar."""
        self._progress.update(samples)

    def show(self, values: Mapping[str, float | Tensor]) -> None:
        """Write values beside the progress bar."""
        self._progress.set_postfix({n.removeprefix("loss_"): f"{float(v):.3g}" for n, v in values.items()})

    def scalars(self, prefix: str, values: Mapping[str, float | Tensor], step: int) -> None:
        """Add `<prefix><name>` for each value; losses bring their own `loss_`, which is not doubled."""
        for name, value in values.items():
            if self._writer:
                self._writer.add_scalar(prefix + name.removeprefix("loss_"), float(value), step)

    def images(self, images: Mapping[str, Tensor], step: int) -> None:
        """Add RGB images [3,H,W] in 0..1."""
        for name, image in images.items():
            if self._writer:
                self._writer.add_image(name, image, step)
