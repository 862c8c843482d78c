"""The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) for vectors and rotations (docs/method.md 12.4).

A first-order low-pass filter whose cutoff grows with the speed of what it follows: slow parts become smooth, fast parts
lag little. The speed is that of the whole vector, or the angle a second of each rotation, itself smoothed as a vector,
so that noise of changing direction does not count as speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from utils.geometry import nearest_rotations

if TYPE_CHECKING:
    from jaxtyping import Float

SPEED_CUTOFF = 1.0  # Hz; of the smoothed speed, as in the paper


@dataclass(frozen=True)
class OneEuro:
    """How much is smoothed: the cutoff is `min_cutoff + beta * speed` Hz. Raises ValueError for negative numbers."""

    min_cutoff: float  # Hz; of what stands still; infinity smooths nothing
    beta: float  # Hz for each unit a second

    def __post_init__(self):
        if not (self.min_cutoff > 0 and 0 <= self.beta < math.inf):
            raise ValueError(
                f"A One-Euro filter needs min_cutoff > 0 and a finite beta >= 0, got {self.min_cutoff} and {self.beta}."
            )

    def share(self, speed: Float[np.ndarray, "*N"], step: float) -> Float[np.ndarray, "*N"]:
        """The way from the filtered value to the new one that is gone in `step` seconds, 0..1."""
        return smoothing_share(self.min_cutoff + self.beta * speed, step)


def smoothing_share(cutoff: float | Float[np.ndarray, "*N"], step: float) -> Float[np.ndarray, "*N"]:
    """Share of the newest value in a low-pass filter of `cutoff` Hz after `step` seconds: 1 / (1 + tau / step)."""
    return 1.0 / (1.0 + 1.0 / (2 * math.pi * np.asarray(cutoff, np.float64) * step))


class VectorFilter:
    """Smooths one vector over time; called with each new value and its time."""

    def __init__(self, settings: OneEuro):
        self._settings = settings
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | float = 0.0
        self._time = 0.0

    def __call__(
        self, value: Float[np.ndarray, "N"], seconds: float, unit: float = 1.0
    ) -> Float[np.ndarray, "N"]:
        """The smoothed value. Speeds count in `unit` (a person's size, for places). Raises ValueError as `_step`."""
        value = np.asarray(value, np.float64)
        if self._value is None:
            self._value, self._time = value, seconds
            return value
        step = _step(self._time, seconds)
        change = (value - self._value) / step
        self._speed = self._speed + smoothing_share(SPEED_CUTOFF, step) * (change - self._speed)
        share = self._settings.share(np.linalg.norm(self._speed) / unit, step)
        self._value, self._time = self._value + share * (value - self._value), seconds
        return self._value


class RotationFilter:
    """Smooths N rotations over time, each at its own speed, along the shortest turn."""

    def __init__(self, settings: OneEuro):
        self._settings = settings
        self._value: Rotation | None = None
        self._speed: np.ndarray | float = 0.0
        self._time = 0.0

    def __call__(self, rotmat: Float[np.ndarray, "N 3 3"], seconds: float) -> Float[np.ndarray, "N 3 3"]:
        """The smoothed rotations; matrices that are none (reflections, too) become the nearest ones.

        Raises ValueError when time does not go on.
        """
        value = Rotation.from_matrix(nearest_rotations(rotmat))
        if self._value is None:
            self._value, self._time = value, seconds
            return value.as_matrix()
        step = _step(self._time, seconds)
        turn = (self._value.inv() * value).as_rotvec()
        self._speed = self._speed + smoothing_share(SPEED_CUTOFF, step) * (turn / step - self._speed)
        share = self._settings.share(np.linalg.norm(self._speed, axis=1), step)
        self._value, self._time = self._value * Rotation.from_rotvec(share[:, None] * turn), seconds
        return self._value.as_matrix()


def _step(before: float, now: float) -> float:
    if not now > before:
        raise ValueError(f"Filtered values must come in the order of time, got {now} s after {before} s.")
    return now - before
