"""The steps of a body: where it is, which points of its feet stand, and the path on which these stay where they are.

The path is near what the camera saw (less so along its rays: depths are the least steady), has little acceleration, and
keeps standing feet in place, on the ground (docs/method.md 12.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_closing, binary_opening
from scipy.sparse import bsr_matrix, coo_matrix, diags, identity, kron, vstack
from scipy.sparse.linalg import spsolve

from utils.skeleton import JOINT_NAMES
from utils.structures import BodyModel, Regressor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from scipy.sparse import spmatrix

FOOT_POINTS = tuple(f"{side}_{point}" for side in ("left", "right") for point in ("big_toe", "small_toe", "heel"))
FOOT_JOINTS = [JOINT_NAMES.index(f"op_{name}") for name in FOOT_POINTS]
DOWN = np.array([0.0, 1.0, 0.0])

# Chosen on rendered people, by slide and jitter (benchmarks/bench_world.py).
SLOWEST_STEP = 0.6  # m/s; a point of a foot that is faster does not stand
NEAR_LOWEST, NEAR_GROUND = 0.06, 0.12  # metres
SPEED_WINDOW, SHORTEST = 0.4, 0.1  # seconds over which a speed is taken; that a foot stands at least
# Standard deviations: across and along the camera's ray (metres), of the path's acceleration (m/s^2), of the way of a
# standing point from frame to frame and of its height (metres).
ACROSS, ALONG, ACCELERATION, SLIP, HEIGHT = 0.02, 0.15, 3.0, 0.005, 0.005


@dataclass(frozen=True)
class Steps:
    """Places and feet of a body, in each frame from the first to the last; in the camera's frame or a level one."""

    places: Float[np.ndarray, "N 3"]  # of the pelvis, metres from the camera
    feet: Float[np.ndarray, "N 6 3"]  # FOOT_POINTS from the pelvis, metres
    is_seen: Bool[np.ndarray, "N"]  # others are filled in
    rate: float  # frames a second


def unit(vectors: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """The vectors divided by their lengths."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def steps_of(
    joints: Float[np.ndarray, "T 49 3"],
    pelvis: Float[np.ndarray, "T 3"],
    cam_t: Float[np.ndarray, "T 3"],
    frame_ids: Int[np.ndarray, "T"],
    rate: float,
) -> Steps:
    """Places and feet of a track, in the camera's frame; what it left out lies on the line between its neighbours.

    Args:
        joints, pelvis: from the body's origin, metres.
        cam_t: of the body's origin, metres.
        rate: frames a second.
    """
    every = np.arange(frame_ids[0], frame_ids[-1] + 1)
    feet = (joints[:, FOOT_JOINTS] - pelvis[:, None]).reshape(len(frame_ids), -1)
    rows = np.concatenate([pelvis + cam_t, feet], axis=1, dtype=np.float64)
    filled = np.stack([np.interp(every, frame_ids, column) for column in rows.T], axis=1)
    seen = np.isin(every, frame_ids)
    return Steps(filled[:, :3], filled[:, 3:].reshape(-1, len(FOOT_POINTS), 3), seen, rate)


def levelled(steps: Steps, turn: Float[np.ndarray, "3 3"], soles: Float[np.ndarray, "6"]) -> Steps:
    """The steps of the camera's frame in a level one, the points of the feet lowered to the soles.

    Args:
        turn: from one frame to the other.
        soles: how far each of FOOT_POINTS is above the sole of a standing body, metres.
    """
    return Steps(steps.places @ turn.T, steps.feet @ turn.T + soles[:, None] * DOWN, steps.is_seen, steps.rate)


def soles_of(body: BodyModel, surface: Regressor) -> Float[np.ndarray, "6"]:
    """How far each of FOOT_POINTS is above the mean body's lowest vertex at rest, metres; surface: its regressor."""
    rows = [surface.names.index(name) for name in FOOT_POINTS]
    return surface.matrix[rows] @ body.v_template[:, 1] - body.v_template[:, 1].min()


def resting_points(points: Float[np.ndarray, "N 6 3"], rate: float) -> Bool[np.ndarray, "N 6"]:
    """Which points of the feet move slowly and are about as low as the lowest one of their frame.

    Args:
        points: in a level frame, metres.
        rate: frames a second.
    """
    window = min(2 * round(SPEED_WINDOW * rate / 2) + 1, len(points) - (len(points) + 1) % 2)
    if window < 3:
        return np.zeros(points.shape[:2], bool)
    from scipy.signal import savgol_filter  # takes a second to import, and few runs need it

    speed = savgol_filter(points, window, 2 if window > 3 else 1, deriv=1, delta=1 / rate, axis=0)
    low = points[..., 1] > points[..., 1].max(axis=1, keepdims=True) - NEAR_LOWEST
    return low & (np.linalg.norm(speed, axis=-1) < SLOWEST_STEP)


def find_contacts(steps: Steps, places: Float[np.ndarray, "N 3"]) -> tuple[Bool[np.ndarray, "N 6"], float | None]:
    """Which points stand in each frame, and how far the ground is below the camera (None where nothing stands).

    Args:
        steps: in a level frame.
        places: smooth places of the pelvis.
    """
    points = places[:, None] + steps.feet
    rests = resting_points(points, steps.rate)
    if not rests.any():
        return rests, None
    ground = float(np.median(points[..., 1][rests]))
    stands = rests & (np.abs(points[..., 1] - ground) < NEAR_GROUND)
    length = np.ones((max(2, round(SHORTEST * steps.rate)), 1), bool)
    # the first and last frame count as if they went on
    padded = np.pad(stands, ((len(length), len(length)), (0, 0)), mode="edge")
    return binary_opening(binary_closing(padded, length), length)[len(length) : -len(length)], ground


def solve_places(
    steps: Steps, contacts: Bool[np.ndarray, "N 6"] | None = None, ground: float = 0.0
) -> Float[np.ndarray, "N 3"]:
    """The path that is near the places seen, has little acceleration, and keeps standing feet still on the ground.

    The least-squares solution of linear equations, each divided by its standard deviation.

    Args:
        steps: in a level frame.
        contacts: which points stand; None: of none is it known.
        ground: its depth below the camera, metres.
    """
    count = len(steps.places)
    equations = [_seen(steps)]
    if count > 2:
        second = diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(count - 2, count)) * (steps.rate**2 / ACCELERATION)
        equations.append((kron(second, identity(3)), np.zeros(3 * (count - 2))))
    if contacts is not None and contacts.any():
        equations += [_on_ground(steps, contacts, ground)]
        equations += [_still(steps, contacts)] if (contacts[1:] & contacts[:-1]).any() else []
    matrix = vstack([left for left, _ in equations]).tocsr()
    right = np.concatenate([right for _, right in equations])
    return spsolve((matrix.T @ matrix).tocsc(), matrix.T @ right).reshape(count, 3)


def _seen(steps: Steps) -> tuple[spmatrix, np.ndarray]:
    """Places are where the camera saw them."""
    frames = np.flatnonzero(steps.is_seen)
    ray = unit(steps.places[frames])
    along = ray[:, :, None] * ray[:, None]
    blocks = (np.eye(3) - along) / ACROSS + along / ALONG
    shape = (3 * len(frames), 3 * len(steps.places))
    left = bsr_matrix((blocks, frames, np.arange(len(frames) + 1)), shape=shape)
    return left, (blocks @ steps.places[frames][..., None]).reshape(-1)


def _still(steps: Steps, contacts: np.ndarray) -> tuple[spmatrix, np.ndarray]:
    """A point that stands in two frames is at one place in both."""
    frames, points = np.nonzero(contacts[1:] & contacts[:-1])
    rows = np.arange(len(frames))
    ones = np.ones(len(frames)) / SLIP
    place = (np.concatenate([rows, rows]), np.concatenate([frames + 1, frames]))
    left = coo_matrix((np.concatenate([ones, -ones]), place), shape=(len(frames), len(steps.places)))
    right = (steps.feet[frames, points] - steps.feet[frames + 1, points]) / SLIP
    return kron(left, identity(3)), right.reshape(-1)


def _on_ground(steps: Steps, contacts: np.ndarray, ground: float) -> tuple[spmatrix, np.ndarray]:
    """A point that stands is on the ground."""
    frames, points = np.nonzero(contacts)
    place = (np.arange(len(frames)), 3 * frames + 1)
    left = coo_matrix((np.ones(len(frames)) / HEIGHT, place), shape=(len(frames), 3 * len(steps.places)))
    return left, (ground - steps.feet[frames, points, 1]) / HEIGHT
