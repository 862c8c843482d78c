"""One-Euro smoothing (Casiez, Roussel, Vogel: CHI 2012) of vectors, rotations and tracked bodies (docs/method.md 12.4).

A first-order low-pass filter whose cutoff grows with the speed of what it follows: slow parts become smooth, fast parts
lag little. The speed is that of the whole vector, or the angle a second of each rotation, itself smoothed as a vector,
so that noise of changing direction does not count as speed.

The camera of a crop jumps whenever its square does. What is smoothed is what the full image shows, the pixel of the
body's origin and the pixels per metre there, and then brought back to the crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from utils.geometry import BOX_UNIT, nearest_rotations
from utils.structures import SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float

SPEED_CUTOFF = 1.0  # Hz; of the smoothed speed, as in the paper
MOST_TRACKS = 512  # at once; more than any detector finds people


# -------------------------------------------------------------------------------------------- filters


@dataclass(frozen=True)
class OneEuro:
    """Settings of a filter: the cutoff is `min_cutoff + beta * speed` Hz. Raises ValueError for negative numbers."""

    min_cutoff: float  # Hz; of what stands still; infinity smooths nothing
    beta: float  # Hz for each unit a second

    def __post_init__(self):
        if not (self.min_cutoff > 0 and 0 <= self.beta < math.inf):
            raise ValueError(
                f"A One-Euro filter needs min_cutoff > 0 and a finite beta >= 0, got {self.min_cutoff} and {self.beta}."
            )


# Chosen on rendered people who walk, dance and kick (30 frames a second), by jitter, lag and error.
SQUARE = OneEuro(min_cutoff=1.5, beta=4.0)  # where the square is; speeds in its sides a second
PLACE = OneEuro(min_cutoff=3.0, beta=8.0)  # where the body is; the same
SIZE = OneEuro(min_cutoff=1.0, beta=2.0)  # of square and body; speeds in e-folds a second
SHAPE = OneEuro(min_cutoff=0.2, beta=0.0)
POSE = OneEuro(min_cutoff=1.5, beta=1.0)  # speeds in radians a second


def smoothing_factor(cutoff: float | Float[np.ndarray, "*N"], step: float) -> Float[np.ndarray, "*N"]:
    """Weight alpha of the new value in a low-pass filter, `step` seconds after the last one: 1 / (1 + tau / step)."""
    return 1.0 / (1.0 + 1.0 / (2 * math.pi * np.asarray(cutoff, np.float64) * step))


class _Filter:
    """Base of both filters: the smoothed value, its smoothed speed, and the time of the newest value."""

    def __init__(self, settings: OneEuro):
        self._settings = settings
        self._value: Any = None
        self._speed: np.ndarray | float = 0.0
        self._time = 0.0

    def _alpha(self, change: np.ndarray, seconds: float, unit: float = 1.0) -> np.ndarray:
        """The smoothing factor for a new value that differs by `change` [*N, D] from the smoothed one."""
        if not seconds > self._time:
            raise ValueError(
                f"Filtered values must come in the order of time, got {seconds} s after {self._time} s."
            )
        step, self._time = seconds - self._time, seconds
        self._speed = self._speed + smoothing_factor(SPEED_CUTOFF, step) * (change / step - self._speed)
        speed = np.linalg.norm(self._speed, axis=-1) / unit
        return smoothing_factor(self._settings.min_cutoff + self._settings.beta * speed, step)


class VectorFilter(_Filter):
    """Smooths one vector over time; called with each new value and its time."""

    def __call__(
        self, value: Float[np.ndarray, "N"], seconds: float, unit: float = 1.0
    ) -> Float[np.ndarray, "N"]:
        """The smoothed value.

        Args:
            value: of any unit.
            seconds: its time. Raises ValueError unless it is later than the last.
            unit: speeds count in it (a person's size, for places).
        """
        value = np.asarray(value, np.float64)
        if self._value is None:
            self._value, self._time = value, seconds
            return value
        change = value - self._value
        self._value = self._value + self._alpha(change, seconds, unit) * change
        return self._value


class RotationFilter(_Filter):
    """Smooths N rotations over time, each at its own speed, along the shortest turn."""

    def __call__(self, rotmat: Float[np.ndarray, "N 3 3"], seconds: float) -> Float[np.ndarray, "N 3 3"]:
        """The smoothed rotations; other matrices (reflections, too) are replaced by the nearest rotations.

        Raises ValueError unless `seconds` is later than the last.
        """
        value = Rotation.from_matrix(nearest_rotations(rotmat))
        if self._value is None:
            self._value, self._time = value, seconds
            return value.as_matrix()
        turn = (self._value.inv() * value).as_rotvec()
        self._value = self._value * Rotation.from_rotvec(self._alpha(turn, seconds)[:, None] * turn)
        return self._value.as_matrix()


class PlaceFilter:
    """Smooths a place in the image and a size there."""

    def __init__(self, place: OneEuro, size: OneEuro):
        self._point, self._size = VectorFilter(place), VectorFilter(size)

    def __call__(
        self, point: Float[np.ndarray, "2"], size: float, seconds: float, unit: float
    ) -> tuple[Float[np.ndarray, "2"], float]:
        """point: pixels, its speed counts in `unit` pixels; size: positive, smoothed by its logarithm."""
        log_size = self._size(np.log([size]), seconds)
        return self._point(point, seconds, unit), float(np.exp(log_size[0]))


# --------------------------------------------------------------------------------------------- tracks

Filter = TypeVar("Filter")


class Placed(Protocol):
    """Track, time and crop of a body that is smoothed."""

    track: int
    seconds: float
    center: tuple[float, float]  # pixels
    scale: float  # side / 200 px


class TrackFilters(Generic[Filter]):
    """A filter for each track, made when it is first asked for; a long video has thousands of tracks, few at once."""

    def __init__(self, make: Callable[[], Filter]):
        self._make = make
        self._filters: dict[int, Filter] = {}  # by track, the one that was asked for last at the end

    def __len__(self) -> int:
        return len(self._filters)

    def __getitem__(self, track: int) -> Filter:
        self._filters[track] = self._filters.pop(track) if track in self._filters else self._make()
        if len(self._filters) > MOST_TRACKS:
            del self._filters[next(iter(self._filters))]
        return self._filters[track]


class SquareSmoother:
    """Smooths the squares of all tracks that crops are cut by."""

    def __init__(self) -> None:
        self._filters = TrackFilters(lambda: PlaceFilter(SQUARE, SIZE))

    def __call__(
        self, track: int, center: tuple[float, float], scale: float, seconds: float
    ) -> tuple[tuple[float, float], float]:
        """Middle (pixels) and scale (side / 200 px) of the track's square at that time."""
        point, scale = self._filters[track](np.array(center), scale, seconds, BOX_UNIT * scale)
        return (float(point[0]), float(point[1])), scale


class BodySmoother:
    """Smooths camera, shape and pose of the bodies of all tracks."""

    def __init__(self) -> None:
        self._places = TrackFilters(lambda: PlaceFilter(PLACE, SIZE))
        self._shapes = TrackFilters(lambda: VectorFilter(SHAPE))
        self._poses = TrackFilters(lambda: RotationFilter(POSE))

    def __call__(self, params: SMPLParams, people: Sequence[Placed]) -> SMPLParams:
        """The smoothed bodies of a batch.

        Args:
            params: row i belongs to `people[i]`. Rows that are not finite stay as they are and leave no trace.
            people: those of one track in the order of time.
        """
        fields = (params.cam, params.betas, params.rotmat)
        arrays = [values.double().cpu().numpy() for values in fields]
        rows = [self._smooth(*(values[i] for values in arrays), person) for i, person in enumerate(people)]
        smoothed = (torch.from_numpy(np.stack(values)) for values in zip(*rows, strict=True))
        return SMPLParams(*(values.to(like) for values, like in zip(smoothed, fields, strict=True)))

    def _smooth(
        self, cam: np.ndarray, betas: np.ndarray, rotmat: np.ndarray, person: Placed
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not (cam[0] > 0 and all(np.isfinite(values).all() for values in (cam, betas, rotmat))):
            return cam, betas, rotmat
        track, seconds = person.track, person.seconds
        origin, pixels_per_metre = to_image(cam, person.center, person.scale)
        unit = BOX_UNIT * person.scale
        origin, pixels_per_metre = self._places[track](origin, pixels_per_metre, seconds, unit)
        cam = to_crop(origin, pixels_per_metre, person.center, person.scale)
        return cam, self._shapes[track](betas, seconds), self._poses[track](rotmat, seconds)


def to_image(
    cam: Float[np.ndarray, "3"], center: tuple[float, float], scale: float
) -> tuple[Float[np.ndarray, "2"], float]:
    """Pixel of the body's origin in the image, and pixels per metre there, from the weak camera of a crop.

    In the terms of `geometry.crop_to_full_weak`: the image's middle + s' (tx', ty'), and s'.
    """
    pixels_per_metre = float(cam[0]) * scale * BOX_UNIT / 2
    return np.asarray(center) + pixels_per_metre * cam[1:], pixels_per_metre


def to_crop(
    origin: Float[np.ndarray, "2"], pixels_per_metre: float, center: tuple[float, float], scale: float
) -> Float[np.ndarray, "3"]:
    """Inverse of `to_image`: the weak camera (s, tx, ty) of the crop."""
    shift = (origin - np.asarray(center)) / pixels_per_metre
    return np.array([pixels_per_metre / (scale * BOX_UNIT / 2), *shift])
