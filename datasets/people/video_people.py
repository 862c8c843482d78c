"""The people of a video, frame by frame: detected, tracked, cropped.

A track counts once its person was detected in a few frames (all, in a video that has no more). That must be known
when the first of them is drawn: frames wait here until some more were searched.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
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

MIN_SEEN = 3  # frames; a person found in fewer is taken for a mistake of the detector
LOOK_AHEAD = 4  # frames in which that must become clear


class VideoPeople:
    """Iterates over frames with their people.

    unused: counts of detections that are not among them, by reason; whole once the iteration has ended.
    """

    def __init__(self, frames: Iterator[Frame], find: Find, smooth: bool):
        """
        Args:
            find: detections of an RGB image.
            smooth: the squares that are cut out follow the boxes smoothly.
        """
        self._frames, self._find = frames, find
        self._smoother = SquareSmoother() if smooth else None
        self._tracker = Tracker()
        self._read = 0  # frames
        self._seen: Counter[int] = Counter()  # frames of each active track, by the tracker's number
        self._numbers: dict[int, int] = {}  # the tracker's to those of tracks that count
        self._count = 0  # of tracks that count
        self.empty_frames = 0  # without a detection
        self.unused = Unused()

    def __iter__(self) -> Iterator[TrackedFrame]:
        waiting: deque[tuple[Frame, list[tuple[int, Detection]]]] = deque()
        for frame in self._frames:
            self._read += 1
            waiting.append((frame, self._detect(frame)))
            if len(waiting) > LOOK_AHEAD:
                yield self._cut(*waiting.popleft())
                self._forget(self._tracker.active | {n for _, known in waiting for n, _ in known})
        for frame, known in waiting:
            yield self._cut(frame, known)
        self._forget(set())

    @property
    def min_seen(self) -> int:
        """Frames in which a person must be detected to count."""
        return min(MIN_SEEN, self._read)

    def _detect(self, frame: Frame) -> list[tuple[int, Detection]]:
        """The frame's detections with the tracker's numbers."""
        found = self._find(frame.pixels)
        self.empty_frames += not found
        numbers = self._tracker.update(found, frame.seconds, frame.pixels)
        known = [(n, person) for n, person in zip(numbers, found, strict=True) if n is not None]
        self._seen.update(n for n, _ in known)
        self.unused.add(f"detections with a score below {NEW_SCORE:g} that continue no track", len(found) - len(known))
        return known

    def _cut(self, frame: Frame, known: list[tuple[int, Detection]]) -> TrackedFrame:
        real = [(n, person) for n, person in known if self._seen[n] >= self.min_seen or person.is_whole]
        people = [self._person(frame, n, person) for n, person in sorted(real, key=lambda pair: pair[0])]
        visible = tuple(person for person in people if person is not None)
        self.unused.add("detections whose square slipped out of the frame", len(real) - len(visible))
        early = sum(1 for n, _ in known if n not in self._numbers)
        self.unused.add("detections of people who were not seen again soon enough to be sure of", early)
        return TrackedFrame(frame, visible)

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
