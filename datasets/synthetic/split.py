"""What the synthetic people hold out for evaluation: whole motion clips, backgrounds and texture seeds.

Textures and backgrounds come from numbered seeds, so that a seed names one image for good. Training never draws a
held-out clip, seed or family of backgrounds; evaluation draws held-out clips and seeds only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator

HELD_OUT_CLIPS = ("dance_b", "jump", "punch", "spinkick", "turn_left1", "walk_forward")
HELD_OUT_BACKGROUNDS = ("crowd", "cells", "stairs")

NUM_TEXTURE_SEEDS, NUM_BACKGROUND_SEEDS = 40_000, 400_000
# Seeds from here on belong to the evaluation split.
FIRST_HELD_OUT_TEXTURE, FIRST_HELD_OUT_BACKGROUND = 36_000, 360_000
# Of a folder of the user's own background images every tenth (sorted by name) belongs to evaluation.
HELD_OUT_IMAGE_STRIDE = 10

SPLITS = ("train", "eval")


@dataclass(frozen=True)
class Split:
    """The part of the material that one split may use."""

    name: str

    def __post_init__(self):
        if self.name not in SPLITS:
            raise ValueError(f"The split is '{self.name}' but must be one of {', '.join(SPLITS)}.")

    @property
    def number(self) -> int:
        """Number that enters the random seed."""
        return SPLITS.index(self.name)

    @property
    def held_out(self) -> bool:
        """Whether the split is held out from training."""
        return self.name == "eval"

    def clips(self, names: Sequence[str]) -> list[int]:
        """Positions of the motion clips that this split may use."""
        return [i for i, name in enumerate(names) if (name in HELD_OUT_CLIPS) == self.held_out]

    def backgrounds(self, families: Sequence[str]) -> tuple[str, ...]:
        """Families of procedural backgrounds to draw from, evenly.

        Evaluation shows its own families in about half of the images, the others by held-out seeds.
        """
        shared = tuple(name for name in families if name not in HELD_OUT_BACKGROUNDS)
        if not self.held_out:
            return shared
        return shared + HELD_OUT_BACKGROUNDS * round(len(shared) / len(HELD_OUT_BACKGROUNDS))

    def images(self, paths: list[Path]) -> list[Path]:
        """Those of a user's background images (sorted by name) that this split may use; all if there are few."""
        return [p for i, p in enumerate(paths) if (i % HELD_OUT_IMAGE_STRIDE == 0) == self.held_out] or paths

    def texture_seed(self, rng: Generator) -> int:
        """Draw the seed of one texture."""
        return self._draw(rng, FIRST_HELD_OUT_TEXTURE, NUM_TEXTURE_SEEDS)

    def background_seed(self, rng: Generator) -> int:
        """Draw the seed of one background."""
        return self._draw(rng, FIRST_HELD_OUT_BACKGROUND, NUM_BACKGROUND_SEEDS)

    def _draw(self, rng: Generator, first_held_out: int, count: int) -> int:
        low, high = (first_held_out, count) if self.held_out else (0, first_held_out)
        return int(rng.integers(low, high))
