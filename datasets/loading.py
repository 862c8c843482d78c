"""Batches of synthetic people for training and scoring."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from datasets.sampler import ResumableSampler
from datasets.synthetic import SyntheticPeople
from utils.structures import Batch, collate_samples


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
        worker_init_fn=lambda _: torch.set_num_threads(1),
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
