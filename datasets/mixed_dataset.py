"""Several data sets as one, drawn with given probabilities (docs/method.md section 8.6).

    parse_mix("h36m_dp" | "h36m_coco_itw" | "synthetic" | "synthetic+h36m_dp" | "synthetic:0.7+coco:0.3") -> Mix
    datasets.training_data.build_mix(DataConfig(train_data=name, ...), data_dir) -> MixedDataset
    datasets.fits.load_fits(mix, data_dir, skip_missing=False) -> Fits, for `TargetBuilder(smpl, renderer, fits)`

`MixedDataset` is as long as its longest member; `sample(index, Draw(epoch, ...))` gives `Sample`s, which depend on
seed, index and the `Draw` alone. `description` says which members really run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from datasets.labelled_people import LabelledPeople
from datasets.registry import SPECS
from datasets.synthetic.dataset import Draw, SyntheticPeople
from utils.structures import Sample

SYNTHETIC = SyntheticPeople.name
IN_THE_WILD = ("lsp-orig", "mpii", "lspet", "coco")
LABELS = "labels"
LABELS_OR_FITS = "labels_or_fits"
MEMBERS = (SYNTHETIC, *(spec.name for spec in SPECS.values() if spec.train_file))
SHARES_MISS_ONE_BY = 0.01  # "0.333" three times is a third each


@dataclass(frozen=True)
class Mix:
    """Members of a mix and their probabilities, before missing members are left out."""

    name: str
    groups: tuple[tuple[tuple[str, ...], float], ...]  # members, and the probability that they share by their sizes
    bodies: str = LABELS_OR_FITS  # which count as known: `LABELS` of bodies, or also valid fits

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(member for group, _ in self.groups for member in group)

    def probabilities(self, lengths: Mapping[str, int]) -> dict[str, float]:
        """Probability of each member of `lengths`; what members that are left out would have had goes to all."""
        shares = {}
        for group, share in self.groups:
            present = {member: lengths[member] for member in group if member in lengths}
            shares |= {member: share * count / sum(present.values()) for member, count in present.items()}
        total = sum(shares.values())
        return {member: share / total for member, share in shares.items()}


MIXES = {
    mix.name: mix
    for mix in (
        # Training of 2020 on dense labels knew the bodies of Human3.6M alone.
        Mix("h36m_dp", ((("h36m",), 0.5), (("dp_coco",), 0.5)), LABELS),
        Mix("h36m_coco_itw", ((("h36m",), 0.3), (IN_THE_WILD, 0.6), (("mpi-inf-3dhp",), 0.1))),
    )
}


def parse_mix(name: str) -> Mix:
    """A mix of 2020, one data set, or several of both joined by "+", each with ":share" or all in equal shares.

    Raises ValueError for unknown or repeated members and for shares that do not add up to 1.
    """
    if name in MIXES:
        return MIXES[name]
    parts = [part.strip().partition(":") for part in name.split("+")]
    terms = [MIXES.get(term.strip()) or Mix(term, (((term.strip(),), 1.0),)) for term, _, _ in parts]
    members = [member for term in terms for member in term.members]
    unknown = next((member for member in members if member not in MEMBERS), None)
    if unknown is not None:
        raise ValueError(
            f"--train_data: there is no set '{unknown}'; choose {', '.join(MIXES)}, or one or more of "
            f"{', '.join(MEMBERS)} joined by '+'."
        )
    if len(set(members)) < len(members):
        raise ValueError(f"The mix '{name}' holds a data set twice; name each once, with a share like coco:0.3.")
    shares = _shares(name, [share for _, colon, share in parts if colon], len(parts))
    weighted = zip(terms, shares, strict=True)
    groups = tuple((group, share * within) for term, share in weighted for group, within in term.groups)
    fitted = any(term.bodies == LABELS_OR_FITS for term in terms if term.members != (SYNTHETIC,))
    return Mix(name, groups, LABELS_OR_FITS if fitted else LABELS)


def _shares(name: str, given: list[str], count: int) -> list[float]:
    if not given:
        return [1 / count] * count
    try:
        shares = [float(share) for share in given]
    except ValueError:
        shares = []
    positive = len(shares) == count and all(share > 0 for share in shares)
    if not (positive and abs(sum(shares) - 1) <= SHARES_MISS_ONE_BY):
        raise ValueError(
            f"The shares of the mix '{name}' cannot be used: give none, or to every member one above 0, so that "
            "they add up to 1, as in synthetic:0.7+coco:0.3."
        )
    return [share / sum(shares) for share in shares]


class MixedDataset(Dataset):
    """A mix of data sets, as long as the longest one; a member is drawn for each item by (seed, epoch, index)."""

    def __init__(
        self,
        members: Sequence[LabelledPeople | SyntheticPeople],
        probabilities: Sequence[float],
        seed: int = 0,
        *,
        bodies: str = LABELS_OR_FITS,
        name: str = "mix",
        left_out: Sequence[str] = (),
    ) -> None:
        """
        Args:
            bodies: which bodies count as known, see `Mix`.
            name, left_out: for the description.

        Raises:
            ValueError: the probabilities do not fit the members or do not add up to 1.
        """
        self.members, self.seed = list(members), seed
        self.bodies, self.name, self.left_out = bodies, name, tuple(left_out)
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        if not self.members or self.probabilities.shape != (len(self.members),):
            raise ValueError(f"{len(self.members)} data sets were given {self.probabilities.size} probabilities.")
        if not (self.probabilities.min() >= 0 and abs(self.probabilities.sum() - 1) < 1e-6):
            raise ValueError(f"Expected probabilities that add up to 1, got {list(probabilities)}.")

    def __len__(self) -> int:
        return max(map(len, self.members))

    @property
    def description(self) -> str:
        """The mix that really runs, in one line: probabilities and numbers of people."""
        parts = [
            f"{share:.1%} {member.name} ({len(member):,} people)"
            for member, share in zip(self.members, self.probabilities, strict=True)
        ]
        without = f"; without {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.name}: {', '.join(parts)}{without}"

    def place(self, index: int, epoch: int) -> tuple[int, int, np.random.Generator]:
        """Member of item `index` of an epoch, number of the item in it, and the generator of its augmentation."""
        if not 0 <= index < len(self):
            raise IndexError(f"Item {index} was asked for, the mix holds 0..{len(self) - 1}.")
        rng = np.random.default_rng((self.seed, epoch, index))
        member = int(np.searchsorted(np.cumsum(self.probabilities), rng.random()))
        member = min(member, len(self.members) - 1)  # the sum may miss 1 by a last bit
        return member, index % len(self.members[member]), rng

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index, Draw())

    def sample(self, index: int, draw: Draw) -> Sample:
        """Item `index` of the epoch of `draw`. Raises IndexError outside the mix, and what its member raises."""
        number, own, rng = self.place(index, draw.epoch)
        member = self.members[number]
        if isinstance(member, SyntheticPeople):
            return member.sample(own, draw)
        # Drawn by the place in the mix: a short member's people repeat, their augmentations must not.
        return member.sample(own, member.draw(rng, own))
