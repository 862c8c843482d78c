"""Poses and shapes of synthetic people: motion clips, mixtures of clips, and everyday postures by rule.

Axes of the resting body: x to its left, y up, z to its front; arms along x. Angles in degrees unless said.
A pose is [24,3] float64, axis-angle, whose root is the camera-frame orientation (it contains the turn by pi about x,
docs/method.md 2.1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from utils.body import OPEN_DIR
from utils.io import load_npz
from utils.skeleton import SMPL_FLIP

UPPER_BODY = (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
ARMS = (13, 14, 16, 17, 18, 19, 20, 21, 22, 23)
TURN = Rotation.from_euler("x", 180, degrees=True)

# Boxes of the axis-angle components (degrees), left limbs and trunk; the right side mirrors y and z.
_LEFT_LIMITS = {
    1: ((-125, 40), (-50, 50), (-35, 70)), 4: ((-3, 150), (-15, 15), (-12, 12)),
    7: ((-50, 45), (-25, 25), (-25, 25)), 10: ((-30, 30), (-10, 10), (-10, 10)),
    13: ((-15, 15), (-25, 20), (-15, 30)), 16: ((-130, 130), (-150, 150), (-150, 150)),
    18: ((-90, 90), (-150, 3), (-45, 45)), 20: ((-60, 60), (-40, 40), (-80, 80)),
    22: ((-20, 20), (-20, 20), (-20, 20)),
}  # fmt: skip
_TRUNK_LIMITS = {
    3: ((-20, 50), (-30, 30), (-25, 25)), 6: ((-20, 45), (-30, 30), (-25, 25)),
    9: ((-20, 40), (-30, 30), (-25, 25)),
    12: ((-45, 50), (-60, 60), (-35, 35)), 15: ((-45, 45), (-60, 60), (-35, 35)),
}  # fmt: skip


def _limit_table() -> tuple[np.ndarray, np.ndarray]:
    low, high = np.full((24, 3), -2 * np.pi), np.full((24, 3), 2 * np.pi)
    for joint, box in (_LEFT_LIMITS | _TRUNK_LIMITS).items():
        low[joint], high[joint] = np.deg2rad(box).T
        mirror = SMPL_FLIP[joint]
        if mirror != joint:
            low[mirror] = [low[joint, 0], -high[joint, 1], -high[joint, 2]]
            high[mirror] = [high[joint, 0], -low[joint, 1], -low[joint, 2]]
    return low, high


LIMIT_LOW, LIMIT_HIGH = _limit_table()

NOISE = np.full(24, 0.06)  # standard deviation, radians
NOISE[[1, 2, 4, 5, 16, 17, 18, 19]] = 0.1
NOISE[[20, 21]] = 0.2
NOISE[0] = 0.0

# Where a left hand may be, from the left shoulder in arm lengths: probability, mean, spread, elbow direction.
HAND_PLACES = (
    (0.26, (0.12, -0.95, 0.02), (0.08, 0.05, 0.10), (0.5, -0.2, -0.8)),  # hanging
    (0.09, (0.00, -0.70, 0.16), (0.06, 0.06, 0.06), (0.8, 0.0, -0.6)),  # hip or pocket
    (0.14, (-0.25, -0.50, 0.50), (0.18, 0.18, 0.15), (0.5, -0.7, -0.4)),  # holding something low
    (0.12, (-0.20, -0.10, 0.60), (0.20, 0.18, 0.18), (0.5, -0.8, -0.2)),  # holding something before the chest
    (0.06, (-0.30, 0.30, 0.38), (0.10, 0.12, 0.10), (0.7, -0.5, 0.0)),  # at the face
    (0.06, (-0.62, -0.30, 0.38), (0.10, 0.10, 0.06), (0.6, -0.6, 0.2)),  # crossed
    (0.08, (0.15, 0.80, 0.20), (0.25, 0.18, 0.25), (0.8, 0.2, 0.2)),  # raised
    (0.11, (0.80, -0.10, 0.20), (0.15, 0.35, 0.30), (0.2, -0.6, -0.7)),  # out to the side
    (0.08, (0.30, -0.30, 0.70), (0.35, 0.35, 0.30), (0.5, -0.7, -0.3)),  # reaching
)
_PLACE_EDGES = np.cumsum([place[0] for place in HAND_PLACES])


@dataclass(frozen=True)
class MotionClips:
    """Frames of real motion; `start[i]:start[i+1]` are the frames of clip i."""

    rotvec: np.ndarray  # [N,24,3]
    start: np.ndarray  # [clips + 1]
    names: tuple[str, ...]
    chosen: Sequence[int]  # the clips to draw from

    def upright_frame(self, rng: Generator) -> np.ndarray:
        """A random pose whose trunk stands, if a few tries find one."""
        for _ in range(5):
            pose = self.frame(rng)
            if Rotation.from_rotvec(pose[0]).as_matrix()[1, 1] > 0.75:
                break
        return pose

    def frame(self, rng: Generator) -> np.ndarray:
        """A random pose [24,3] between two frames of a clip, mirrored half of the time."""
        clip = self.chosen[rng.integers(len(self.chosen))]
        low, high = self.start[clip], self.start[clip + 1]
        at = low + rng.random() * max(high - low - 1, 0)
        first, second = int(at), min(int(at) + 1, high - 1)
        pose = blend(self.rotvec[first], self.rotvec[second], at - first)
        return mirror_pose(pose) if rng.random() < 0.5 else pose


@functools.cache
def load_motions() -> MotionClips:
    """The motion clips that ship with the project."""
    data = load_npz(OPEN_DIR / "motions.npz")
    names = tuple(str(name) for name in data["names"])
    start = np.searchsorted(data["clip"], np.arange(len(names) + 1))
    return MotionClips(np.float64(data["rotvec"]), start, names, chosen=range(len(names)))


def mirror_pose(rotvec: np.ndarray) -> np.ndarray:
    """The pose [24,3] seen in a mirror."""
    return rotvec[list(SMPL_FLIP)] * np.array([1.0, -1.0, -1.0])


def blend(first: np.ndarray, second: np.ndarray, t: float | np.ndarray) -> np.ndarray:
    """Between two poses [24,3], each joint along its shortest rotation; `t` may differ per joint."""
    start = Rotation.from_rotvec(first)
    step = (start.inv() * Rotation.from_rotvec(second)).as_rotvec()
    return (start * Rotation.from_rotvec(step * np.reshape(t, (-1, 1)))).as_rotvec()


def turn(axes: str, *degrees: float) -> np.ndarray:
    """Axis-angle [3] of extrinsic turns about the named axes, in order."""
    return Rotation.from_euler(axes, degrees if len(degrees) > 1 else degrees[0], degrees=True).as_rotvec()


def reach(
    target: np.ndarray, pole: np.ndarray, upper: float, fore: float, side: int
) -> tuple[np.ndarray, float]:
    """Two-bone arm: shoulder rotation [3,3] and elbow angle (radians) that bring the wrist to `target`.

    Args:
        target: [3] metres, seen from the shoulder in the chest's frame.
        pole: [3], where the elbow points.
        upper, fore: lengths of the bones, metres.
        side: +1 for the left arm, -1 for the right.
    """
    distance = float(np.clip(np.linalg.norm(target), abs(upper - fore) + 0.3 * fore, 0.995 * (upper + fore)))
    along = target / (np.linalg.norm(target) + 1e-9)
    across = pole - along * (pole @ along)
    across = across / (np.linalg.norm(across) + 1e-9)
    cos_shoulder = (upper**2 + distance**2 - fore**2) / (2 * upper * distance)
    sin_shoulder = math.sqrt(max(0.0, 1 - cos_shoulder**2))
    x_axis = side * (cos_shoulder * along + sin_shoulder * across)
    front = along * sin_shoulder - across * cos_shoulder
    shoulder = np.stack([x_axis, np.cross(front, x_axis), front], axis=1)
    cos_elbow = (distance**2 - upper**2 - fore**2) / (2 * upper * fore)
    return shoulder, math.acos(float(np.clip(cos_elbow, -1, 1)))


def _hits_trunk(point: np.ndarray) -> bool:
    """Whether a point, seen from the middle between the shoulders, lies inside the chest and belly."""
    return bool(-0.55 < point[1] < 0.05 and (point[0] / 0.17) ** 2 + ((point[2] - 0.01) / 0.14) ** 2 < 1)


def place_arm(rng: Generator, pose: np.ndarray, joints: np.ndarray, side: int, place: int) -> None:
    """Bring the hand of one side to a place of `HAND_PLACES`; rest joints [24,3] give the lengths."""
    shoulder = 16 if side > 0 else 17
    upper = float(np.linalg.norm(joints[shoulder + 2] - joints[shoulder]))
    fore = float(np.linalg.norm(joints[shoulder + 4] - joints[shoulder + 2]))
    mirror = np.array([side, 1.0, 1.0])
    origin = np.array([joints[shoulder, 0], 0.0, 0.0])
    _, mean, spread, pole = HAND_PLACES[place]
    for _ in range(5):
        target = (rng.normal(mean, spread) * (upper + fore)) * mirror
        frame, elbow = reach(target, (pole + rng.normal(0, 0.25, 3)) * mirror, upper, fore, side)
        elbow_at = origin + side * frame[:, 0] * upper
        wrist_at = origin + target
        if not any(_hits_trunk(p) for p in (elbow_at, wrist_at, (elbow_at + wrist_at) / 2)):
            break
    pose[shoulder] = Rotation.from_matrix(frame).as_rotvec()
    pose[shoulder + 2] = turn("yx", -side * math.degrees(elbow), rng.normal(0, 25))
    pose[shoulder + 4] = rng.normal(0, [0.3, 0.15, 0.2])
    pose[[13, 14]] = 0


def place_arms(rng: Generator, pose: np.ndarray, joints: np.ndarray) -> None:
    """Both arms; four times in ten they do the same."""
    first, second = (int(np.searchsorted(_PLACE_EDGES, rng.random() * 0.999)) for _ in range(2))
    same = rng.random() < 0.4
    place_arm(rng, pose, joints, 1, first)
    place_arm(rng, pose, joints, -1, first if same else second)


def place_legs(rng: Generator, pose: np.ndarray) -> None:
    """Standing, striding, athletic, sitting, squatting or kneeling legs, and the lean that goes with them."""
    kind = rng.random()
    lean, apart, flex = rng.normal(2, 4), rng.normal(3, 5), rng.normal(2, 5)
    knee, spread = abs(rng.normal(0, 7)), 5.0
    if kind < 0.2:  # stride
        flex, knee, spread = rng.normal(8, 8), abs(rng.normal(20, 15)), 22.0
    elif kind < 0.38:  # athletic: skiing, boarding, waiting for the ball
        flex, apart, lean = rng.uniform(15, 75), rng.normal(12, 8), rng.normal(15, 12)
        knee, spread = flex * rng.uniform(0.8, 1.4), 10.0
    elif kind < 0.53:  # sitting
        flex, knee, apart = rng.normal(84, 9), rng.normal(80, 22), rng.normal(8, 9)
        spread, lean = 6.0, rng.normal(-2, 9)
    elif kind < 0.58:  # squatting
        flex, knee = rng.uniform(75, 115), rng.uniform(90, 140)
        apart, lean = rng.normal(12, 9), rng.normal(22, 10)
    elif kind < 0.62:  # kneeling
        flex, knee, lean = rng.normal(10, 20), rng.uniform(80, 130), rng.normal(5, 8)
    for hip, side in ((1, 1), (2, -1)):
        bend, bent = flex + rng.normal(0, spread), max(0.0, knee + rng.normal(0, spread * 0.7))
        pose[hip] = turn("yzx", side * rng.normal(8, 9), side * (apart + rng.normal(0, 4)), -bend)
        pose[hip + 3] = turn("x", bent)
        pose[hip + 6] = turn("x", float(np.clip(bend - bent - lean, -20, 25)) + rng.normal(0, 5))
        pose[hip + 9] = 0
    pose[0] = turn("zx", rng.normal(0, 4), lean)


def place_trunk(rng: Generator, pose: np.ndarray) -> None:
    """Bend, side bend and twist of the spine; turn of the head."""
    bend = rng.normal([4, 0, 0], [8, 9, 5]) if rng.random() < 0.75 else rng.normal([18, 0, 0], [14, 14, 8])
    pose[[3, 6, 9]] = np.deg2rad(bend) / 3
    look = np.deg2rad(rng.normal([6, 0, 0], [11, 22, 6]))
    pose[12], pose[15] = look * 0.45, look * 0.55


def draw_pose(rng: Generator, motions: MotionClips, joints: np.ndarray) -> np.ndarray:
    """A pose [24,3] within the limits, upright about the y axis, without a view; `joints` [24,3] at rest, metres."""
    kind = rng.random()
    # Tumbling is rare in photographs.
    frame = motions.frame if rng.random() < 0.12 else motions.upright_frame
    pose = frame(rng)
    if kind < 0.2:
        joints_from_other = list(UPPER_BODY if rng.random() < 0.6 else ARMS)
        share = np.zeros(24)
        share[joints_from_other] = 1.0 if rng.random() < 0.6 else rng.random()
        pose = blend(pose, frame(rng), share)
    elif kind < 0.7:
        place_legs(rng, pose)
        place_trunk(rng, pose)
        place_arms(rng, pose, joints)
    elif kind < 0.85:
        place_arms(rng, pose, joints)
    loose = 1.8 if rng.random() < 0.2 else 1.0
    pose = pose + rng.normal(0, 1, (24, 3)) * (NOISE * loose)[:, None]
    return np.clip(pose, LIMIT_LOW, LIMIT_HIGH)


def draw_view(rng: Generator, pose: np.ndarray) -> np.ndarray:
    """Give the root its orientation in the camera's frame: any heading (front more often), pitch and roll."""
    root = Rotation.from_rotvec(pose[0])
    matrix = root.as_matrix()
    heading = math.degrees(math.atan2(matrix[0, 2], matrix[2, 2]))
    yaw = rng.normal(0, 45) if rng.random() < 0.5 else rng.uniform(-180, 180)
    pitch = rng.normal(5, 7) if rng.random() < 0.85 else rng.normal(10, 22)
    view = Rotation.from_euler("yxz", [yaw - heading, pitch, rng.normal(0, 6)], degrees=True)
    out = pose.copy()
    out[0] = (TURN * view * root).as_rotvec()
    return out


def draw_betas(rng: Generator) -> np.ndarray:
    """Shape coefficients [10], normal, clipped at 2.5."""
    return np.clip(rng.normal(0, 1, 10), -2.5, 2.5).astype(np.float32)
