"""Which samples each step of a training run takes, as a function of (seed, epoch) alone, from any step on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class Place(NamedTuple):
    """A sample of a run. It names its epoch, so that data workers live as long as the run."""

    epoch: int
    index: int


@dataclass(frozen=True)
class Share:
    """The part of every batch that one process computes: `count` processes split it, each in `parts` parts."""

    rank: int = 0
    count: int = 1
    parts: int = 1

    def of(self, batch: list[int]) -> Iterator[list[int]]:
        """This process's parts of a batch, in the order in which they are computed."""
        size = len(batch) // (self.count * self.parts)
        for part in range(self.parts):
            start = (part * self.count + self.rank) * size
            yield batch[start : start + size]


def order_of(epoch: int, size: int, seed: int, shuffle: bool) -> list[int]:
    """All samples of an epoch, in one permutation when shuffled."""
    if not shuffle:
        return list(range(size))
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(size, generator=generator).tolist()


def steps_per_epoch(size: int, batch_size: int, share: Share = Share()) -> int:  # noqa: B008 (frozen)
    """Whole batches in an epoch of `size` people.

    Raises ValueError when a batch cannot be split into equal shares, or is larger than an epoch.
    """
    shares = share.count * share.parts
    if batch_size % shares:
        raise ValueError(
            f"A batch of {batch_size} cannot be split evenly: {share.count} processes times --accumulate "
            f"{share.parts} are {shares} shares. Give a --batch_size that is a multiple of it."
        )
    if size < batch_size:
        raise ValueError(
            f"The training data hold {size} people, less than one batch of {batch_size}: give a smaller --batch_size."
        )
    return size // batch_size


class StepSampler(Sampler[list[Place]]):
    """Places of the samples of steps `first_step` to the end of the last epoch, `share.parts` lists a step.

    An epoch is as many whole batches as fit; what is left over is dropped, other samples in each epoch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        epochs: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        first_step: int = 0,
        share: Share = Share(),  # noqa: B008 (frozen)
    ):
        """Raises ValueError as `steps_per_epoch` does."""
        self.size, self.batch_size, self.epochs = size, batch_size, epochs
        self.seed, self.shuffle, self.first_step, self.share = seed, shuffle, first_step, share
        self.steps_per_epoch = steps_per_epoch(size, batch_size, share)

    def __len__(self) -> int:
        return max(0, self.epochs * self.steps_per_epoch - self.first_step) * self.share.parts

    def __iter__(self) -> Iterator[list[Place]]:
        first_epoch, skip = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = order_of(epoch, self.size, self.seed, self.shuffle)
            for number in range(skip if epoch == first_epoch else 0, self.steps_per_epoch):
                batch = order[number * self.batch_size : (number + 1) * self.batch_size]
                for part in self.share.of(batch):
                    yield [Place(epoch, index) for index in part]
