"""Refinement of a video's people starts at their refined bodies of the frame before (docs/method.md 14.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.smoothing import MOST_TRACKS, Placed, to_crop, to_image
from utils.structures import SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float

# Refines some rows of a batch, from the bodies given or from the network's.
RefineRows = Callable[[Sequence[int], SMPLParams], SMPLParams]


@dataclass(frozen=True)
class _Placed:
    """A body, and where it is in the image."""

    body: SMPLParams  # of one person, [1, ...]
    origin: Float[np.ndarray, "2"]  # pixels
    pixels_per_metre: float


class TrackStarts:
    """The newest refined body of each track."""

    def __init__(self) -> None:
        self._newest: dict[int, _Placed] = {}  # by track, the one that was seen last at the end

    def __call__(self, refine: RefineRows, params: SMPLParams, people: Sequence[Placed]) -> SMPLParams:
        """The refined bodies of a batch.

        Args:
            refine: refines rows of the batch that belong to different people.
            params: of the network; row i belongs to `people[i]`.
            people: those of one track in the order of time.
        """
        refined = params.map(torch.clone)
        for rows in _rounds(people):
            before = [self._before(params[[row]], people[row]) for row in rows]
            names = ("cam", "betas", "rotmat")
            found = refine(rows, SMPLParams(*(torch.cat([getattr(b, n) for b in before]) for n in names)))
            for name in names:
                getattr(refined, name)[rows] = getattr(found, name)
            for number, row in enumerate(rows):
                self._remember(found[[number]], people[row])
        return refined

    def _before(self, params: SMPLParams, person: Placed) -> SMPLParams:
        """The track's newest body, seen in the person's crop; the network's where there is none."""
        newest = self._newest.get(person.track)
        if newest is None:
            return params
        cam = to_crop(newest.origin, newest.pixels_per_metre, person.center, person.scale)
        return SMPLParams(torch.from_numpy(cam)[None].to(params.cam), newest.body.betas, newest.body.rotmat)

    def _remember(self, body: SMPLParams, person: Placed) -> None:
        if not body.to_vector().isfinite().all():
            return
        place = to_image(body.cam[0].double().cpu().numpy(), person.center, person.scale)
        self._newest.pop(person.track, None)
        self._newest[person.track] = _Placed(body, *place)
        if len(self._newest) > MOST_TRACKS:
            del self._newest[next(iter(self._newest))]


def _rounds(people: Sequence[Placed]) -> list[list[int]]:
    """Rows of a batch in groups without two of one track, in the order of time."""
    rounds: defaultdict[int, list[int]] = defaultdict(list)
    seen: defaultdict[int, int] = defaultdict(int)
    for row, person in enumerate(people):
        rounds[seen[person.track]].append(row)
        seen[person.track] += 1
    return list(rounds.values())
