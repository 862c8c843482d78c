"""Batches of samples for training, scoring and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.pictures import PictureError
from datasets.sampler import ResumableSampler
from datasets.synthetic import SyntheticPeople
from utils.evaluation import Unreadable
from utils.structures import Batch, Sample, collate_samples


def _quiet_worker(_: int) -> None:
    """Workers share the cores: one thread each."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def load_batches(
    people: SyntheticPeople, batch_size: int, num_workers: int, sampler: ResumableSampler | None = None
) -> DataLoader:
    """In order and whole; with a sampler in its order, without the short batch at the end."""
    return DataLoader(
        people,
        batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate_samples,
        drop_last=sampler is not None,
        worker_init_fn=_quiet_worker,
        # Otherwise every start of an epoch would draw from the training's own numbers.
        generator=torch.Generator(),
    )


def epoch_batches(
    people: SyntheticPeople, epoch: int, skip: int, batch_size: int, num_workers: int
) -> Iterator[Batch]:
    """The batches of an epoch from number `skip` on, shuffled by (seed, epoch) alone."""
    people.set_epoch(epoch)
    sampler = ResumableSampler(len(people), people.seed)
    sampler.start_at(epoch, skip * batch_size)
    yield from load_batches(people, batch_size, num_workers, sampler)


@dataclass(frozen=True)
class PlannedBatch:
    """One batch of an evaluation: what could be read of it, and what could not."""

    batch: Batch | None  # None when nothing could be read
    extras: tuple[Any, ...]  # of the samples that were read, what `extra` gave
    unreadable: tuple[Unreadable, ...]


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
) -> DataLoader:
    """`PlannedBatch`es in the order of `batches`, which hold the samples' numbers; `extra(index)` goes along."""
    cv2.setNumThreads(1)  # forked workers would wait for ever for threads that only this process has
    return DataLoader(
        _Readable(dataset, extra),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_collate_readable,
        worker_init_fn=_quiet_worker,
    )
