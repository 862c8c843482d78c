"""The people of a video, frame by frame: detected, tracked, cropped.

The detector may look at every `stride`th frame only. A person whom it finds in two searched frames in a row has boxes
on the way between them; one whom it finds in a single one of them stays there in the frames that are nearer to it.

A track counts once its person was seen in a few frames (all, in a video that has no more). That must be known
when the first of them is drawn: frames wait here until some more were searched.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from datasets.people.tracking import NEW_SCORE, Tracker
from datasets.transforms import box_to_center_scale, crop_image
from utils.people import Detection, Frame, TrackedFrame, TrackedPerson
from utils.smoothing import SquareSmoother
from utils.unused import Unused

if TYPE_CHECKING:
    from jaxtyping import UInt8

    Find = Callable[[UInt8[np.ndarray, "H W 3"]], list[Detection]]

Known = dict[int, Detection]  # people of a frame by the tracker's numbers

MIN_SEEN = 3  # frames; a person found in fewer is taken for a mistake of the detector
LOOK_AHEAD = 4  # frames in which that must become clear
MAX_STRIDE = 10  # frames; a third of a second at 30 a second


@dataclass(frozen=True)
class _Waiting:
    """A frame whose people may not count yet."""

    frame: Frame
    known: Known
    is_searched: bool  # whether the detector looked


class VideoPeople:
    """Iterates over frames with their people.

    unused: counts of detections that are not among them, by reason; whole once the iteration has ended.
    """

    def __init__(self, frames: Iterable[Frame], find: Find, smooth: bool, stride: int = 1):
        """
        Args:
            find: detections of an RGB image.
            smooth: the squares that are cut out follow the boxes smoothly.
            stride: the detector looks at the first frame, every `stride`th after it, and the last one.
        """
        self._frames, self._find, self.stride = frames, find, stride
        self._smoother = SquareSmoother() if smooth else None
        self._tracker = Tracker()
        self._read = 0  # frames
        self._seen: Counter[int] = Counter()  # frames of each active track, by the tracker's number
        self._numbers: dict[int, int] = {}  # the tracker's to those of tracks that count
        self._count = 0  # of tracks that count
        self.searched_frames = 0
        self.empty_frames = 0  # searched, without a detection
        self.unused = Unused()

    def __iter__(self) -> Iterator[TrackedFrame]:
        waiting: deque[_Waiting] = deque()
        for found in self._follow():
            waiting.append(found)
            # A new person is shown up to half a stride before the first detection, and counts by the second one.
            if len(waiting) > max(LOOK_AHEAD, self.stride // 2 + 1):
                yield self._cut(waiting.popleft())
                self._forget(self._tracker.active | {n for each in waiting for n in each.known})
        for found in waiting:
            yield self._cut(found)
        self._forget(set())

    @property
    def min_seen(self) -> int:
        """Frames in which a person must be detected to count."""
        return min(MIN_SEEN, self._read)

    def _follow(self) -> Iterator[_Waiting]:
        """All frames with their people, found in the last one of each group."""
        before: Known = {}
        for frames in grouped(self._frames, self.stride):
            self._read += len(frames)
            known = self._detect(frames[-1])
            self._seen.update({n: len(frames) if n in before else 1 for n in known})
            for number, frame in enumerate(frames[:-1], start=1):
                yield _Waiting(frame, known_between(before, known, number / len(frames)), is_searched=False)
            yield _Waiting(frames[-1], known, is_searched=True)
            before = known

    def _detect(self, frame: Frame) -> Known:
        """The frame's detections by the tracker's numbers."""
        found = self._find(frame.pixels)
        self.searched_frames += 1
        self.empty_frames += not found
        numbers = self._tracker.update(found, frame.seconds, frame.pixels)
        known = {n: person for n, person in zip(numbers, found, strict=True) if n is not None}
        self.unused.add(f"detections with a score below {NEW_SCORE:g} that continue no track", len(found) - len(known))
        return known

    def _cut(self, found: _Waiting) -> TrackedFrame:
        known = found.known
        real = {n: person for n, person in known.items() if self._seen[n] >= self.min_seen or person.is_whole}
        people = [self._person(found.frame, n, person) for n, person in sorted(real.items())]
        visible = tuple(person for person in people if person is not None)
        if found.is_searched:
            self.unused.add("detections whose square slipped out of the frame", len(real) - len(visible))
            early = sum(1 for n in known if n not in self._numbers)
            self.unused.add("detections of people who were not seen again soon enough to be sure of", early)
        return TrackedFrame(found.frame, visible)

    def _forget(self, active: set[int]) -> None:
        """Drop the tracks that have ended, and count those that never counted."""
        for n in self._seen.keys() - active:
            del self._seen[n]
            if self._numbers.pop(n, None) is None:
                self.unused.add(f"people who were seen in fewer than {self.min_seen} frames")

    def _person(self, frame: Frame, number: int, found: Detection) -> TrackedPerson | None:
        if number not in self._numbers:
            self._numbers[number], self._count = self._count, self._count + 1
        track = self._numbers[number]
        center, scale = box_to_center_scale(found.box, found.margin)
        if self._smoother is not None:
            center, scale = self._smoother(track, center, scale, frame.seconds)
        try:
            crop = crop_image(frame.pixels, center, scale)
        except ValueError:  # the square slipped out of the frame
            return None
        return TrackedPerson(track, frame.seconds, found, crop, center, scale)


def grouped(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """The first frame, then groups of `size` frames; the last group may be smaller."""
    iterator = iter(frames)
    group = list(islice(iterator, 1))
    while group:
        yield group
        group = list(islice(iterator, size))


def known_between(before: Known, after: Known, share: float) -> Known:
    """The people of a frame between two searched ones, without score and keypoints.

    Args:
        before, after: the people of the searched frames.
        share: 0..1, of the way from one to the other. People of both have a box that is so far on the way, those of a
            single one the box that they have there, if it is the nearer one.
    """
    both, nearer = before.keys() & after.keys(), before if share < 0.5 else after
    found = {n: person.box for n, person in nearer.items()}
    for n in both:
        pairs = zip(before[n].box, after[n].box, strict=True)
        found[n] = tuple(start + share * (end - start) for start, end in pairs)
    return {n: replace(nearer[n], box=box, score=math.nan, keypoints=None) for n, box in found.items()}
