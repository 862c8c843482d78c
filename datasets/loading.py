"""Batches of samples for training, validation and evaluation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.sampler import Place, StepSampler
from utils.images import ImageError
from utils.structures import Batch, PlannedBatch, Sample, Unreadable, collate_samples


class WorkerError(ChildProcessError):
    """A process that loads data ended before its time."""


def load_batches(people: Dataset, batch_size: int, num_workers: int) -> DataLoader:
    """All samples in order, the last batch short."""
    generator = torch.Generator()  # otherwise every start would draw from the training's own numbers
    return DataLoader(
        people,
        batch_size,
        num_workers=num_workers,
        collate_fn=collate_samples,
        worker_init_fn=_init_worker,
        generator=generator,
    )


def training_batches(
    dataset: Dataset, sampler: StepSampler, num_workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches that a sampler names, from one set of workers that lives as long as the run.

    Args:
        dataset: takes a `Place`.
        pin_memory: for faster copies to a CUDA device.

    Raises:
        ImageError: a sample cannot be made.
        WorkerError: a worker died.
    """
    for batch, _, unreadable in _load(_Readable(dataset), sampler, num_workers, pin_memory):
        if unreadable:
            raise ImageError(unreadable[0].reason)
        yield batch


def load_planned(
    dataset: Dataset,
    batches: Sequence[Sequence[int]],
    num_workers: int,
    extra: Callable[[int], Any] | None = None,
) -> Iterator[PlannedBatch]:
    """Batches of an evaluation; samples that cannot be read are named instead.

    Args:
        batches: the samples' numbers.
        extra: what a scorer needs beside the sample of this number.

    Raises:
        WorkerError: a worker died.
    """
    for batch, extras, unreadable in _load(_Readable(dataset, extra), batches, num_workers):
        named = tuple(replace(bad, name=dataset.name_of(bad.index)) for bad in unreadable)
        yield PlannedBatch(batch, extras, named)


class _Readable(Dataset):
    """Samples with their extras; an image or label file that cannot be read becomes an `Unreadable`."""

    def __init__(self, dataset: Dataset, extra: Callable[[int], Any] | None = None):
        self.dataset, self.extra = dataset, extra

    def __getitem__(self, index: int | Place) -> tuple[Sample, Any] | Unreadable:
        try:
            return self.dataset[index], self.extra(index) if self.extra else None
        except (ImageError, OSError) as error:
            return Unreadable(index, "", str(error))


def _collate(items: list[tuple[Sample, Any] | Unreadable]) -> tuple[Batch | None, tuple, tuple[Unreadable, ...]]:
    """Batch, extras and the unreadable ones; a plain tuple, whose tensors torch can pin."""
    read = [item for item in items if not isinstance(item, Unreadable)]
    return (
        collate_samples([sample for sample, _ in read]) if read else None,
        tuple(extra for _, extra in read),
        tuple(item for item in items if isinstance(item, Unreadable)),
    )


def _init_worker(_: int) -> None:
    """Workers share the cores, one thread each, and leave Ctrl-C to the process that saves."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _load(dataset: Dataset, batches: Any, num_workers: int, pin_memory: bool = False) -> Iterator[tuple]:
    """Collated batches. Raises WorkerError when one of the processes dies."""
    cv2.setNumThreads(1)  # forked workers would wait for ever for threads that only this process has
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=_init_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
    iterator = iter(loader)
    if num_workers and threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        # torch would raise a worker's death in the middle of a step; the next look for a batch finds it, too.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        try:
            batch = next(iterator, None)
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
