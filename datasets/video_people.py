"""The people of a video, frame by frame: found, numbered by track, cut out.

A track counts once its person was seen in a few frames, and that should be known when the first of them is drawn:
frames wait here until some more were looked at.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datasets.detector import Detection
from datasets.tracking import Tracker
from datasets.transforms import box_to_center_scale, crop_picture
from datasets.video import Frame
from datasets.video_smoothing import SquareSmoother

if TYPE_CHECKING:
    from jaxtyping import UInt8

    Find = Callable[[UInt8[np.ndarray, "H W 3"]], list[Detection]]

MIN_SEEN = 3  # frames; whom a detector finds in fewer is taken for a mistake of it
LOOK_AHEAD = 4  # frames in which that must become clear


@dataclass(frozen=True)
class TrackedPerson:
    """One person of one frame."""

    track: int  # 0, 1, ... in the order of appearance
    seconds: float  # of the frame
    found: Detection
    crop: np.ndarray  # [224, 224, 3] RGB uint8
    center: tuple[float, float]  # of the crop's square, frame pixels
    scale: float  # side of the square / 200 px


@dataclass(frozen=True)
class TrackedFrame:
    """A frame and the people in it."""

    frame: Frame
    people: tuple[TrackedPerson, ...]


class VideoPeople:
    """Iterates over frames with their people. smooth: the squares that are cut out follow the boxes smoothly."""

    def __init__(self, frames: Iterator[Frame], find: Find, smooth: bool):
        self._frames, self._find = frames, find
        self._smoother = SquareSmoother() if smooth else None
        self._tracker = Tracker()
        self._seen: Counter[int] = Counter()  # by the tracker's number
        self._numbers: dict[int, int] = {}  # the tracker's to those of tracks that count

    def __iter__(self) -> Iterator[TrackedFrame]:
        waiting: deque[tuple[Frame, list[tuple[int, Detection]]]] = deque()
        for frame in self._frames:
            found = self._find(frame.pixels)
            numbers = self._tracker.update(found, frame.seconds, frame.pixels)
            known = [(n, person) for n, person in zip(numbers, found, strict=True) if n is not None]
            self._seen.update(n for n, _ in known)
            waiting.append((frame, known))
            if len(waiting) > LOOK_AHEAD:
                yield self._cut(*waiting.popleft())
        for frame, known in waiting:
            yield self._cut(frame, known)

    def _cut(self, frame: Frame, known: list[tuple[int, Detection]]) -> TrackedFrame:
        real = [(n, person) for n, person in known if self._seen[n] >= MIN_SEEN or person.is_whole]
        people = [self._person(frame, n, person) for n, person in sorted(real, key=lambda pair: pair[0])]
        return TrackedFrame(frame, tuple(person for person in people if person is not None))

    def _person(self, frame: Frame, number: int, found: Detection) -> TrackedPerson | None:
        track = self._numbers.setdefault(number, len(self._numbers))
        center, scale = box_to_center_scale(found.box, found.margin)
        if self._smoother is not None:
            center, scale = self._smoother(track, center, scale, frame.seconds)
        try:
            crop = crop_picture(frame.pixels, center, scale)
        except ValueError:  # a square that slipped out of the frame shows nobody
            return None
        return TrackedPerson(track, frame.seconds, found, crop, center, scale)
