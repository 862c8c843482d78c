"""Several data sets as one, drawn with given probabilities (method.md section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from datasets.augment import AugmentConfig
from datasets.base_dataset import BaseDataset
from datasets.registry import PathsConfig
from utils.densepose_uv import DATA_DIR
from utils.structures import Sample

IN_THE_WILD = ("lsp-orig", "mpii", "lspet", "coco")
MIXES: dict[str, tuple[str, ...]] = {
    "h36m_dp": ("h36m", "dp_coco"),
    "h36m_coco_itw": ("h36m", *IN_THE_WILD, "mpi-inf-3dhp"),
}


class MixedDataset(Dataset):
    """As long as its longest member. Item i comes from a member drawn from (seed, epoch, i), shorter ones repeat.

    Raises ValueError when the probabilities do not fit the members or do not add up to 1.
    """

    def __init__(self, members: Sequence[BaseDataset], probabilities: Sequence[float], seed: int = 0) -> None:
        self.members, self.seed, self.epoch = list(members), seed, 0
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        if not self.members or self.probabilities.shape != (len(self.members),):
            raise ValueError(
                f"{len(self.members)} data sets were given {self.probabilities.size} probabilities."
            )
        if not (self.probabilities.min() >= 0 and abs(self.probabilities.sum() - 1) < 1e-6):
            raise ValueError(f"Expected probabilities that add up to 1, got {list(probabilities)}.")
        if seed < 0:
            raise ValueError(f"The seed is {seed} but must not be negative.")

    def __len__(self) -> int:
        return max(map(len, self.members))

    def set_epoch(self, epoch: int) -> None:
        """Another epoch draws other members and augmentations."""
        self.epoch = epoch
        for member in self.members:
            member.set_epoch(epoch)

    def place(self, index: int) -> tuple[int, int, np.random.Generator]:
        """Which member gives item `index`, which of its items, and the generator of its augmentation."""
        if not 0 <= index < len(self):
            raise IndexError(f"Item {index} was asked for, the mix holds 0..{len(self) - 1}.")
        rng = np.random.default_rng((self.seed, self.epoch, index))
        member = int(np.searchsorted(np.cumsum(self.probabilities), rng.random()))
        member = min(member, len(self.members) - 1)  # the sum may miss 1 by a last bit
        return member, index % len(self.members[member]), rng

    def __getitem__(self, index: int) -> Sample:
        number, own, rng = self.place(index)
        member = self.members[number]
        # Drawn by the place in the mix: a short member's people repeat, their augmentations must not.
        return member.sample(own, member.draw(rng, own))


def mix_probabilities(name: str, lengths: Sequence[int]) -> list[float]:
    """Probabilities of a mix's members; the pictures in the wild share 0.6 by their numbers."""
    if name == "h36m_dp":
        return [0.5, 0.5]
    wild = lengths[1:-1]
    return [0.3, *(0.6 * length / sum(wild) for length in wild), 0.1]


def mix_of(
    name: str,
    data_dir: str | Path = DATA_DIR,
    paths: PathsConfig = PathsConfig(),  # noqa: B008 (frozen)
    *,
    crop_mode: str = "warp",
    ignore_3d: bool = False,
    augmentation: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> MixedDataset:
    """A training mix of 2020, `h36m_dp` or `h36m_coco_itw`. Raises ValueError for other names."""
    if name not in MIXES:
        raise ValueError(f"There is no training mix '{name}'; choose one of {', '.join(MIXES)}.")
    members = [
        BaseDataset(
            member, data_dir, paths,
            is_train=True, crop_mode=crop_mode, ignore_3d=ignore_3d, augmentation=augmentation, seed=seed,
        )
        for member in MIXES[name]
    ]  # fmt: skip
    return MixedDataset(members, mix_probabilities(name, [len(member) for member in members]), seed)
