"""Multi-person tracking: Kalman prediction and Hungarian assignment.

Each track predicts its person's place (constant velocity); detections are assigned to tracks at the lowest total cost:
distance of keypoints (or of box centres) from the predicted ones in body sizes, change of size, and change of the
torso's colours. While people cross, one of them is often not detected: such a track waits and goes on by its velocity,
and position, size and colours decide which is which behind the crossing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from datasets.people.detector import MIN_SHARED, SURE, box_iou
from utils.people import Detection

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

# A track that was not seen for longer has ended, but not before some frames passed: a slow camera gives few a second.
MAX_LOST, MIN_MISSED = 1.0, 3  # s, frames
NEW_SCORE = 0.35  # a detection below continues tracks but starts none
MAX_COST = 1.0  # a detection that costs more is not the track's
SIZE_WEIGHT, COLOR_WEIGHT = 0.5, 0.5
CROWDED = 0.1  # IoU with another detection above which a torso may show the other's colours
CENTER_ERROR = 0.05  # body sizes; standard deviation of a detected box's centre
ACCELERATION = 0.5  # body sizes / s / sqrt(s); density of the random acceleration
START_SPEED = 1.0  # body sizes / s; standard deviation of a new track's velocity
TORSO = (5, 6, 11, 12)  # COCO's shoulders and hips
BINS = 6  # for each colour channel


class Tracker:
    """Gives detections the numbers 0, 1, ... of their tracks, frame after frame."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = 0

    @property
    def active(self) -> set[int]:
        """Numbers of the tracks that have not ended."""
        return {track.number for track in self._tracks}

    def update(
        self, people: Sequence[Detection], seconds: float, image: UInt8[np.ndarray, "H W 3"] | None = None
    ) -> list[int | None]:
        """Track number of each detection of the frame at `seconds`.

        Args:
            image: the RGB frame; without it colours do not count.

        Returns:
            A number for each detection; None for one that continues no track and is too unsure to start one.

        Raises:
            ValueError: the time is not later than that of the frame before.
        """
        self._tracks = [t for t in self._tracks if seconds - t.seen <= MAX_LOST or t.missed < MIN_MISSED]
        for track in self._tracks:
            track.predict(seconds)
        colors = [None if image is None else torso_colors(image, person) for person in people]
        alone = [all(box_iou(one.box, two.box) < CROWDED for two in people if two is not one) for one in people]
        numbers: list[int | None] = [None] * len(people)
        for track, i in self._assign(people, colors):
            track.update(people[i], colors[i] if alone[i] else None)
            numbers[i] = track.number
        for i, person in enumerate(people):
            if numbers[i] is None and not person.score < NEW_SCORE:  # NaN, without a detector, starts one
                self._tracks.append(_Track(self._count, person, seconds, colors[i]))
                numbers[i] = self._count
                self._count += 1
        return numbers

    def _assign(self, people: Sequence[Detection], colors: Sequence) -> list[tuple[_Track, int]]:
        if not people or not self._tracks:
            return []
        cost = np.array([[track.cost(*pair) for pair in zip(people, colors, strict=True)] for track in self._tracks])
        # A pair that costs more than the limit counts like no pair.
        pairs = zip(*linear_sum_assignment(np.minimum(cost, MAX_COST)), strict=True)
        return [(self._tracks[i], int(j)) for i, j in pairs if cost[i, j] < MAX_COST]


class _Track:
    """One person: a Kalman filter of the box's centre, and keypoints, size and colours as last seen."""

    def __init__(self, number: int, person: Detection, seconds: float, colors: np.ndarray | None):
        self.number = number
        self.seen = self._now = seconds
        self.missed = 0  # frames since then
        self._size = body_size(person)
        self._state = np.array([box_center(person), (0.0, 0.0)])  # place and velocity, pixels
        self._covariance = np.diag([CENTER_ERROR**2, START_SPEED**2])  # of each axis, in body sizes
        self._keypoints, self._keypoints_at = person.keypoints, self._state[0]
        self._colors = colors

    def predict(self, seconds: float) -> None:
        """Predict place and velocity at this time."""
        step = seconds - self._now
        if not step > 0:
            raise ValueError(f"Frames must come in the order of time, got {seconds} s after {self._now} s.")
        move = np.array([[1.0, step], [0.0, 1.0]])
        noise = ACCELERATION**2 * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
        self._state = move @ self._state
        self._covariance = move @ self._covariance @ move.T + noise
        self._now = seconds
        self.missed += 1

    def cost(self, person: Detection, colors: np.ndarray | None) -> float:
        """Cost of assigning a detection to this track: 0 for a perfect match, `MAX_COST` for the limit."""
        size = max(self._size, body_size(person))
        cost = self._distance(person) / size
        cost += SIZE_WEIGHT * abs(np.log(body_size(person) / self._size))
        if colors is not None and self._colors is not None:
            cost += COLOR_WEIGHT * color_distance(colors, self._colors)
        return float(cost)

    def _distance(self, person: Detection) -> float:
        """Median distance in pixels of the confident keypoints from the predicted ones, else of the box's centre."""
        if person.keypoints is not None and self._keypoints is not None:
            sure = (person.keypoints[:, 2] > SURE) & (self._keypoints[:, 2] > SURE)
            if sure.sum() >= MIN_SHARED:
                moved = self._keypoints[sure, :2] + (self._state[0] - self._keypoints_at)
                return float(np.median(np.linalg.norm(person.keypoints[sure, :2] - moved, axis=1)))
        return float(np.linalg.norm(box_center(person) - self._state[0]))

    def update(self, person: Detection, colors: np.ndarray | None) -> None:
        """Correct the prediction by a detection; colors: None where they may be another person's."""
        gain = self._covariance[:, 0] / (self._covariance[0, 0] + CENTER_ERROR**2)
        self._state = self._state + np.outer(gain, box_center(person) - self._state[0])
        self._covariance = self._covariance - np.outer(gain, self._covariance[0])
        self._size *= (body_size(person) / self._size) ** 0.3
        self._keypoints, self._keypoints_at = person.keypoints, box_center(person)
        if colors is not None:
            self._colors = colors if self._colors is None else 0.9 * self._colors + 0.1 * colors
        self.seen, self.missed = self._now, 0


def box_center(person: Detection) -> Float[np.ndarray, "2"]:
    """The box's centre, pixels."""
    x, y, width, height = person.box
    return np.array([x + width / 2, y + height / 2])


def body_size(person: Detection) -> float:
    """The box's longer side, pixels."""
    return max(*person.box[2:], 1.0)


def torso_colors(image: UInt8[np.ndarray, "H W 3"], person: Detection) -> Float[np.ndarray, "B"] | None:
    """Colour histogram [BINS ** 3] of shoulders to hips, or of the box's inner part; None outside the image."""
    x, y, width, height = person.box
    low, high = np.array([x + width * 0.3, y + height * 0.2]), np.array([x + width * 0.7, y + height * 0.5])
    if person.keypoints is not None and (person.keypoints[TORSO, 2] > SURE).all():
        corners = person.keypoints[TORSO, :2]
        low, high = corners.min(axis=0), corners.max(axis=0) + 1
    low, high = (np.clip(end, 0, image.shape[1::-1]).astype(int) for end in (low, high))
    patch = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    if patch.size == 0:
        return None
    counts = cv2.calcHist([patch], [0, 1, 2], None, [BINS] * 3, [0, 256] * 3).ravel()
    return counts / counts.sum()


def color_distance(one: Float[np.ndarray, "B"], two: Float[np.ndarray, "B"]) -> float:
    """Hellinger distance of two histograms, 0 (the same) to 1 (nothing shared)."""
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(one * two).sum())))
