"""The order of samples, as a function of (seed, epoch) alone, and a start anywhere inside it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class ResumableSampler(Sampler[int]):
    """One permutation an epoch; `start_at` skips what an interrupted epoch has already seen."""

    def __init__(self, size: int, seed: int = 0, shuffle: bool = True):
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self.epoch = self.skip = 0

    def start_at(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch, and how many of its samples are left out at the front."""
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self.size - self.skip

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(self.skip, self.size))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist()[self.skip :])
