"""A motion as a BVH skeleton of 24 joints: metres, y up, rotations R = Rz Rx Ry of each joint.

The format has no comments, so docs/exports.md says all this; the order of angles is in the file itself. It has one
frame time and no frame numbers: frames that a track left out are filled in.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from utils.export.motion import Y_UP, ExportMotion, turned_root
from utils.skeleton import SMPL_JOINT_NAMES
from utils.structures import BodyModel

if TYPE_CHECKING:
    from jaxtyping import Float

EULER_ORDER = "ZXY"
_MIXAMO = (
    "Hips LeftUpLeg RightUpLeg Spine LeftLeg RightLeg Spine1 LeftFoot RightFoot Spine2 LeftToeBase RightToeBase Neck "
    "LeftShoulder RightShoulder Head LeftArm RightArm LeftForeArm RightForeArm LeftHand RightHand LeftHandMiddle1 "
    "RightHandMiddle1"
)
MIXAMO_NAMES = tuple(f"mixamorig:{name}" for name in _MIXAMO.split())  # of SMPL's joints, in their order
SHORTEST_END = 0.02  # metres


def bvh_bytes(motion: ExportMotion, names: Sequence[str] = SMPL_JOINT_NAMES) -> bytes:
    """A BVH file: the skeleton of the person's mean shape, and every frame from the first to the last.

    Args:
        motion: a still or a track.
        names: of the 24 joints in SMPL's order.
    """
    vertices, joints = motion.rest()
    lines, order = hierarchy(motion.body, vertices, joints, names)
    rotmat, path = motion.filled()
    angles = Rotation.from_matrix(turned_root(rotmat, Y_UP).reshape(-1, 3, 3)).as_euler(
        EULER_ORDER, degrees=True
    )
    angles = continuous(angles.reshape(-1, 24, 3))
    places = (joints[0] + path) @ Y_UP.T
    frames = [
        numbers(np.concatenate([place, turns[order].reshape(-1)]))
        for place, turns in zip(places, angles, strict=True)
    ]
    lines += ["MOTION", f"Frames: {len(frames)}", f"Frame Time: {1 / motion.rate:.7f}", *frames]
    return ("\n".join(lines) + "\n").encode()


def hierarchy(
    body: BodyModel,
    vertices: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "24 3"],
    names: Sequence[str],
) -> tuple[list[str], list[int]]:
    """Lines of the skeleton at rest, and its joints in the order of their channels."""
    order: list[int] = []
    lines = ["HIERARCHY"]

    def write_joint(joint: int, depth: int) -> None:
        order.append(joint)
        parent = body.parents[joint]
        offset = joints[joint] - joints[parent] if joint else np.zeros(3)
        channels = " ".join(f"{axis}rotation" for axis in EULER_ORDER)
        channels = f"6 Xposition Yposition Zposition {channels}" if joint == 0 else f"3 {channels}"
        tab = "\t" * depth
        lines.extend([
            f"{tab}{'JOINT' if joint else 'ROOT'} {names[joint]}",
            f"{tab}{{",
            f"{tab}\tOFFSET {numbers(offset)}",
            f"{tab}\tCHANNELS {channels}",
        ])  # fmt: skip
        children = np.flatnonzero(body.parents == joint)
        for child in children:
            write_joint(int(child), depth + 1)
        if not len(children):
            end = end_site(vertices, joints[joint], joints[parent], body.weights[:, joint])
            lines.extend([
                f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {numbers(end)}", f"{tab}\t}}"
            ])  # fmt: skip
        lines.append(f"{tab}}}")

    write_joint(0, 0)
    return lines, order


def continuous(angles: Float[np.ndarray, "T 24 3"]) -> Float[np.ndarray, "T 24 3"]:
    """The same rotations (degrees, the second angle the middle one) in angles that jump as little as they can.

    (a, b, c) and (a + 180, 180 - b, c + 180) are one rotation, and so are full turns more: viewers that blend between
    frames blend the angles.
    """
    angles = angles.copy()
    for before, now in itertools.pairwise(angles):
        both = np.stack([now, now * [1, -1, 1] + 180])
        both += 360 * np.round((before - both) / 360)
        other = np.abs(both - before).sum(axis=-1)
        now[:] = np.where((other[1] < other[0])[:, None], both[1], both[0])
    return angles


def end_site(
    vertices: Float[np.ndarray, "V 3"],
    joint: Float[np.ndarray, "3"],
    parent: Float[np.ndarray, "3"],
    weights: Float[np.ndarray, "V"],
) -> Float[np.ndarray, "3"]:
    """Offset of a last bone's end: on along the bone before it, as far as the joint's own vertices reach."""
    direction = (joint - parent) / max(float(np.linalg.norm(joint - parent)), 1e-9)
    own = vertices[weights > 0.5]
    reach = float(((own - joint) @ direction).max()) if len(own) else 0.0
    return direction * max(reach, SHORTEST_END)


def numbers(values: np.ndarray) -> str:
    """The values as text with six decimal places."""
    return " ".join(f"{float(value):.6f}" for value in values)
