"""One-Euro smoothing of tracked people: the square that is cut out, and camera, shape and pose of the body in it.

The camera of a crop jumps whenever its square does. What is smoothed is what the full picture shows, the pixel of the
body's origin and the pixels per metre there, and then brought back to the crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import torch

from utils.geometry import BOX_UNIT
from utils.one_euro import OneEuro, RotationFilter, VectorFilter
from utils.structures import SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float

# Chosen on rendered people who walk, dance and kick (30 frames a second), by jitter, lag and error.
SQUARE = OneEuro(min_cutoff=1.5, beta=4.0)  # where the square is; speeds in its sides a second
PLACE = OneEuro(min_cutoff=3.0, beta=8.0)  # where the body is; the same
SIZE = OneEuro(min_cutoff=1.0, beta=2.0)  # of square and body; speeds in e-folds a second
SHAPE = OneEuro(min_cutoff=0.2, beta=0.0)
POSE = OneEuro(min_cutoff=1.5, beta=1.0)  # speeds in radians a second
MOST_TRACKS = 512  # at once; more than any detector finds people
Filter = TypeVar("Filter")


class Placed(Protocol):
    """What the smoothing of a body needs to know about its crop."""

    track: int
    seconds: float
    center: tuple[float, float]
    scale: float


class PlaceFilter:
    """Smooths a place in the picture and a size there."""

    def __init__(self, place: OneEuro, size: OneEuro):
        self._point, self._size = VectorFilter(place), VectorFilter(size)

    def __call__(
        self, point: Float[np.ndarray, "2"], size: float, seconds: float, unit: float
    ) -> tuple[Float[np.ndarray, "2"], float]:
        """point: pixels, its speed counts in `unit` pixels; size: positive, smoothed by its logarithm."""
        log_size = self._size(np.log([size]), seconds)
        return self._point(point, seconds, unit), float(np.exp(log_size[0]))


class TrackFilters(Generic[Filter]):
    """A filter for each track, made when it is first asked for; a long video has thousands of tracks, few at once."""

    def __init__(self, make: Callable[[], Filter]):
        self._make = make
        self._filters: dict[int, Filter] = {}  # by track, those that were asked for last at the end

    def __len__(self) -> int:
        return len(self._filters)

    def __getitem__(self, track: int) -> Filter:
        self._filters[track] = self._filters.pop(track) if track in self._filters else self._make()
        if len(self._filters) > MOST_TRACKS:
            del self._filters[next(iter(self._filters))]
        return self._filters[track]


class SquareSmoother:
    """Smooths the squares of all tracks."""

    def __init__(self, place: OneEuro = SQUARE, size: OneEuro = SIZE):
        self._filters = TrackFilters(lambda: PlaceFilter(place, size))

    def __call__(
        self, track: int, center: tuple[float, float], scale: float, seconds: float
    ) -> tuple[tuple[float, float], float]:
        """Middle (pixels) and scale (side / 200 px) of the track's square at that time."""
        point, scale = self._filters[track](np.array(center), scale, seconds, BOX_UNIT * scale)
        return (float(point[0]), float(point[1])), scale


class BodySmoother:
    """Smooths the bodies of all tracks."""

    def __init__(
        self, place: OneEuro = PLACE, size: OneEuro = SIZE, shape: OneEuro = SHAPE, pose: OneEuro = POSE
    ):
        self._places = TrackFilters(lambda: PlaceFilter(place, size))
        self._shapes = TrackFilters(lambda: VectorFilter(shape))
        self._poses = TrackFilters(lambda: RotationFilter(pose))

    def __call__(self, params: SMPLParams, people: Sequence[Placed]) -> SMPLParams:
        """The bodies of a batch, whose rows belong to `people`; those of one track in the order of time.

        Rows that are not finite stay as they are and leave no trace.
        """
        rows = [
            self._smooth(
                *(value.double().cpu().numpy() for value in (params.cam, params.betas, params.rotmat)), person
            )
            for params, person in zip((params[i] for i in range(len(people))), people, strict=True)
        ]
        cam, betas, rotmat = (
            torch.from_numpy(np.stack(values)).to(like)
            for values, like in zip(
                zip(*rows, strict=True), (params.cam, params.betas, params.rotmat), strict=True
            )
        )
        return SMPLParams(cam, betas, rotmat)

    def _smooth(
        self, cam: np.ndarray, betas: np.ndarray, rotmat: np.ndarray, person: Placed
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not (cam[0] > 0 and all(np.isfinite(values).all() for values in (cam, betas, rotmat))):
            return cam, betas, rotmat
        track, seconds = person.track, person.seconds
        origin, pixels_per_metre = to_picture(cam, person.center, person.scale)
        origin, pixels_per_metre = self._places[track](origin, pixels_per_metre, seconds, BOX_UNIT * person.scale)
        cam = to_crop(origin, pixels_per_metre, person.center, person.scale)
        return cam, self._shapes[track](betas, seconds), self._poses[track](rotmat, seconds)


def to_picture(
    cam: Float[np.ndarray, "3"], center: tuple[float, float], scale: float
) -> tuple[Float[np.ndarray, "2"], float]:
    """Pixel of the body's origin in the picture, and pixels per metre there, from the weak camera of a crop.

    In the words of `geometry.crop_to_full_weak`: the picture's middle + s' (tx', ty'), and s'.
    """
    pixels_per_metre = float(cam[0]) * scale * BOX_UNIT / 2
    return np.asarray(center) + pixels_per_metre * cam[1:], pixels_per_metre


def to_crop(
    origin: Float[np.ndarray, "2"], pixels_per_metre: float, center: tuple[float, float], scale: float
) -> Float[np.ndarray, "3"]:
    """Inverse of `to_picture`: the weak camera (s, tx, ty) of the crop."""
    shift = (origin - np.asarray(center)) / pixels_per_metre
    return np.array([pixels_per_metre / (scale * BOX_UNIT / 2), *shift])
