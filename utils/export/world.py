"""The world before a camera that stands still, from the people in it: level, a ground, feet that stand still.

People who stand say where up is, their standing feet where the ground is (docs/method.md 12.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utils.export.steps import (
    DOWN,
    FOOT_POINTS,
    Steps,
    find_contacts,
    levelled,
    resting_points,
    solve_places,
    unit,
)
from utils.skeleton import SMPL_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

PELVIS, NECK, ANKLES = (
    SMPL_JOINT_NAMES.index("pelvis"), SMPL_JOINT_NAMES.index("neck"),
    [SMPL_JOINT_NAMES.index("left_ankle"), SMPL_JOINT_NAMES.index("right_ankle")],
)  # fmt: skip
WORLD_AXES = (
    "world: x right, y up, z towards the camera, metres, level; the origin lies on the ground below the camera, which "
    "is at (0, camera_height, 0); a point p of the body (camera frame, from its origin) is at "
    "world_from_camera (p - smpl_joints[0]) + world_pelvis"
)
MOST_BEND, MOST_LEAN = 30.0, 20.0  # degrees: of legs against the trunk of who stands; from the mean of all
# Standard deviations of the mean lean of people (degrees), and of the height of a resting foot (metres); frames that
# show one and the same stand.
LEAN, UNEVEN, INDEPENDENT = 4.0, 0.04, 15


@dataclass(frozen=True)
class World:
    """The world of a track: x right, y down, z forward, level; its origin lies on the ground below the camera."""

    turn: Float[np.ndarray, "3 3"]  # from the camera's frame
    camera_height: float  # metres above the ground
    places: Float[np.ndarray, "T 3"]  # of the pelvis, metres
    contacts: Bool[np.ndarray, "T 6"]  # whether FOOT_POINTS stand


@dataclass(frozen=True)
class Ground:
    """What all tracks of a video share."""

    turn: Float[np.ndarray, "3 3"]  # from the camera's frame to a level one
    depth: float  # of the ground below the camera, metres


def standing_directions(smpl_joints: Float[np.ndarray, "T 24 3"]) -> Float[np.ndarray, "N 3"]:
    """Unit vectors from the ankles to the neck in the frames in which the legs are in line with the trunk."""
    ankles = smpl_joints[:, ANKLES].mean(axis=1)
    trunk = unit(smpl_joints[:, NECK] - smpl_joints[:, PELVIS])
    legs = unit(smpl_joints[:, PELVIS] - ankles)
    stands = (trunk * legs).sum(axis=1) > np.cos(np.radians(MOST_BEND))
    return unit(smpl_joints[:, NECK] - ankles)[stands]


def mean_direction(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "3"] | None:
    """The mean of unit vectors, without those far from it; None without any."""
    if len(directions) == 0:
        return None
    mean = unit(np.median(directions, axis=0))
    near = directions @ mean > np.cos(np.radians(MOST_LEAN))
    return unit(directions[near].mean(axis=0)) if near.any() else mean


def turn_between(start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that takes one unit vector to another, which is not its opposite."""
    x, y, z = np.cross(start, end)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + start @ end)


def find_ground(
    people: Iterable[Steps], directions: Sequence[Float[np.ndarray, "N 3"]], soles: Float[np.ndarray, "6"]
) -> Ground | None:
    """The level turn and the ground's depth, from all people of a video; None where no one stands.

    Args:
        people: in the camera's frame.
        directions: `standing_directions` of each.
        soles: as `soles_of` gives them.
    """
    up = mean_direction(np.concatenate([np.zeros((0, 3)), *directions]))
    if up is None or -up @ DOWN < -0.99:
        return None
    turn = turn_between(up, -DOWN)
    resting = []
    for steps in people:
        level = levelled(steps, turn, soles)
        points = solve_places(level)[:, None] + level.feet
        resting.append(points[resting_points(points, level.rate)])
    if not any(map(len, resting)):
        return None
    slope = turn_between(ground_normal(resting), DOWN)
    depths = np.concatenate(resting) @ slope[1]
    return Ground(slope @ turn, float(np.median(depths)))


def ground_normal(resting: Sequence[Float[np.ndarray, "N 3"]]) -> Float[np.ndarray, "3"]:
    """The ground's unit normal, downwards, in a frame that is level but for how people lean on average.

    The slope of a plane through resting feet, each person's about their middle, for depths of people differ; a ridge
    regression whose weights are those of `LEAN` and `UNEVEN`.

    Args:
        resting: places of resting points of each person, metres.
    """
    middled = np.concatenate([points - points.mean(axis=0) for points in resting if len(points)])
    across, height = middled[:, [0, 2]], middled[:, 1]
    share = 1 / len(FOOT_POINTS) / INDEPENDENT  # points and frames of one stand count as one
    normal = share * across.T @ across + np.eye(2) * (UNEVEN / np.radians(LEAN)) ** 2
    slope_x, slope_z = np.linalg.solve(normal, share * across.T @ height)
    return unit(np.array([-slope_x, 1.0, -slope_z]))


def find_world(steps: Steps, ground: Ground, soles: Float[np.ndarray, "6"]) -> World:
    """The world of a track, in the frames in which the person was seen; steps in the camera's frame."""
    level = levelled(steps, ground.turn, soles)
    contacts, depth = find_contacts(level, solve_places(level))
    shift = 0.0 if depth is None else ground.depth - depth  # a wrong depth or height of the person
    moved = Steps(level.places + shift * DOWN, level.feet, level.is_seen, level.rate)
    places = solve_places(moved, contacts, ground.depth) - ground.depth * DOWN
    return World(ground.turn, ground.depth, places[steps.is_seen], contacts[steps.is_seen])


def world_arrays(world: World) -> dict[str, np.ndarray]:
    """What a track's npz says of its world, y up."""
    flip = np.diag([1.0, -1.0, -1.0])
    return {
        "world_from_camera": flip @ world.turn,
        "camera_height": np.float64(world.camera_height),
        "world_pelvis": np.float32(world.places @ flip),
        "foot_contacts": world.contacts,
        "foot_points": np.array(FOOT_POINTS),
        "world_axes": np.array(WORLD_AXES),
    }
