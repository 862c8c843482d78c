"""Batches of samples for training, scoring and evaluation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.people.images import PictureError
from datasets.sampler import Place, StepSampler
from utils.structures import Batch, PlannedBatch, Sample, Unreadable, collate_samples


def _quiet_worker(_: int) -> None:
    """Workers share the cores, one thread each, and leave Ctrl-C to the process that saves."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def load_batches(people: Dataset, batch_size: int, num_workers: int) -> DataLoader:
    """All samples, in order, the last batch short."""
    return DataLoader(
        people,
        batch_size,
        num_workers=num_workers,
        collate_fn=collate_samples,
        worker_init_fn=_quiet_worker,
        # Otherwise every start would draw from the training's own numbers.
        generator=torch.Generator(),
    )


class WorkerError(ChildProcessError):
    """A process that loads data ended before its time."""


@dataclass(frozen=True)
class _Refusal:
    """Why a sample could not be made; it travels from the worker in place of the batch."""

    reason: str


class _Told(Dataset):
    """Samples of a data set; one that cannot be made becomes a sentence instead of a worker's traceback."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, place: Place) -> Sample | _Refusal:
        try:
            return self.dataset[place]
        except (PictureError, OSError) as error:
            return _Refusal(str(error))


def _collate_told(items: list[Sample | _Refusal]) -> Batch | _Refusal:
    refused = [item for item in items if isinstance(item, _Refusal)]
    return refused[0] if refused else collate_samples(items)


def training_batches(
    dataset: Dataset, sampler: StepSampler, num_workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches that a sampler names, from one set of workers that lives as long as the run.

    `dataset` takes a `Place`. Raises PictureError for a sample that cannot be made, WorkerError when a worker dies.
    """
    cv2.setNumThreads(1)  # forked workers would wait for ever for threads that only this process has
    loader = DataLoader(
        _Told(dataset),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_collate_told,
        worker_init_fn=_quiet_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
    for batch in _loaded(loader):
        if isinstance(batch, _Refusal):
            raise PictureError(batch.reason)
        yield batch


def _loaded(loader: DataLoader) -> Iterator[Any]:
    """What a loader gives. Raises WorkerError when one of its processes dies."""
    batches = iter(loader)
    in_main = threading.current_thread() is threading.main_thread()
    if loader.num_workers and in_main and hasattr(signal, "SIGCHLD"):
        # torch would raise a worker's death in the middle of a step; the next look for a batch finds it, too.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        try:
            batch = next(batches, None)
        except (RuntimeError, EOFError, ConnectionError) as error:  # its connection may close before it is missed
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise WorkerError(
                f"A data worker ended before its time ({reason}). Was memory short? Fewer --num_workers need less; "
                "--resume continues the run."
            ) from error
        if batch is None:
            return
        yield batch


class _Readable(Dataset):
    """Samples with their extras; a picture or label file that cannot be read is named instead of raising."""

    def __init__(self, dataset: Dataset, extra: Callable[[int], Any] | None):
        self.dataset, self.extra = dataset, extra

    def __getitem__(self, index: int) -> tuple[Sample, Any] | Unreadable:
        try:
            return self.dataset[index], self.extra(index) if self.extra else None
        except (PictureError, OSError) as error:
            return Unreadable(index, self.dataset.name_of(index), str(error))


def _collate_readable(items: list[tuple[Sample, Any] | Unreadable]) -> PlannedBatch:
    read = [item for item in items if not isinstance(item, Unreadable)]
    return PlannedBatch(
        collate_samples([sample for sample, _ in read]) if read else None,
        tuple(extra for _, extra in read),
        tuple(item for item in items if isinstance(item, Unreadable)),
    )


def load_planned(
    dataset: Dataset,
    batches: Sequence[Sequence[int]],
    num_workers: int,
    extra: Callable[[int], Any] | None = None,
) -> Iterator[PlannedBatch]:
    """`PlannedBatch`es in the order of `batches`, which hold the samples' numbers; `extra(index)` goes along.

    Raises WorkerError when a worker dies.
    """
    cv2.setNumThreads(1)  # forked workers would wait for ever for threads that only this process has
    loader = DataLoader(
        _Readable(dataset, extra),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_collate_readable,
        worker_init_fn=_quiet_worker,
    )
    yield from _loaded(loader)
