"""A pose as a BVH skeleton of 24 joints: metres, y up, rotations R = Rz Rx Ry of each joint.

The format has no comments, so all this is said in the README; the order of angles is in the file itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from utils.export_person import Y_UP, ExportPerson, turned_root
from utils.skeleton import SMPL_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float

EULER_ORDER = "ZXY"
FRAME_TIME = 1 / 30
SHORTEST_END = 0.02  # metres


def bvh_bytes(person: ExportPerson) -> bytes:
    """The skeleton of the person's shape and one frame of motion."""
    vertices, joints = person.rest()
    children = {joint: np.flatnonzero(person.body.parents == joint) for joint in range(24)}
    order: list[int] = []
    lines = ["HIERARCHY"]

    def write_joint(joint: int, depth: int) -> None:
        order.append(joint)
        parent = person.body.parents[joint]
        offset = joints[joint] - joints[parent] if joint else np.zeros(3)
        channels = " ".join(f"{axis}rotation" for axis in EULER_ORDER)
        channels = f"6 Xposition Yposition Zposition {channels}" if joint == 0 else f"3 {channels}"
        tab = "\t" * depth
        lines.extend([
            f"{tab}{'JOINT' if joint else 'ROOT'} {SMPL_JOINT_NAMES[joint]}",
            f"{tab}{{",
            f"{tab}\tOFFSET {numbers(offset)}",
            f"{tab}\tCHANNELS {channels}",
        ])  # fmt: skip
        for child in children[joint]:
            write_joint(int(child), depth + 1)
        if not len(children[joint]):
            end = end_site(vertices, joints[joint], joints[parent], person.body.weights[:, joint])
            lines.extend([
                f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {numbers(end)}", f"{tab}\t}}"
            ])  # fmt: skip
        lines.append(f"{tab}}}")

    write_joint(0, 0)
    angles = Rotation.from_matrix(turned_root(person.rotmat, Y_UP)).as_euler(EULER_ORDER, degrees=True)
    frame = np.concatenate([Y_UP @ joints[0], angles[order].reshape(-1)])
    lines += ["MOTION", "Frames: 1", f"Frame Time: {FRAME_TIME:.7f}", numbers(frame)]
    return ("\n".join(lines) + "\n").encode()


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
    return " ".join(f"{float(value):.6f}" for value in values)
