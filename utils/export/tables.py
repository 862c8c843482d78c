"""Joints and joint angles of a person over time as tables: CSV for spreadsheets and scripts, TRC for biomechanics.

Metres, y up, z towards the camera; the body starts at its own origin and moves as before a camera that stands still, or
it moves in the world of such a camera (`ExportMotion.world`).
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from utils.export.motion import Y_UP, ExportMotion, turned_root
from utils.io.marks import DEMO
from utils.skeleton import SMPL_JOINT_NAMES, VERTEX_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float

POINT_NAMES = (*SMPL_JOINT_NAMES, *VERTEX_JOINT_NAMES)
JOINT = {name: number for number, name in enumerate(SMPL_JOINT_NAMES)}


def points_over_time(motion: ExportMotion) -> Float[np.ndarray, "T 45 3"]:
    """The 24 joints and 21 points on the surface in each frame of the track; metres, y up, as the body moves."""
    surface = motion.surface.matrix @ motion.vertices
    points = np.concatenate([motion.arrays["smpl_joints"], surface], axis=1)
    return motion.placed(points) @ Y_UP.T


def joint_angles(rotmat: Float[np.ndarray, "T 24 3 3"]) -> dict[str, Float[np.ndarray, "T"]]:
    """Angles of the joints in degrees, by name; 0 is the rest pose, but for the shoulders.

    Hips, trunk and head are the rotations about x, then z, then y, of the moving segment (flexion, sideways, about the
    long axis); the pelvis those about y, x, z of the world. A shoulder's elevation is the angle between the upper arm
    and the trunk's downward axis, its plane 0 for an arm at the side and 90 for one in front.

    Args:
        rotmat: local rotations of the joints in SMPL's order, the root's in a frame whose y is up.
    """
    at = {name: rotmat[:, number] for name, number in JOINT.items()}
    angles = dict(zip(("pelvis_heading", "pelvis_tilt", "pelvis_list"), euler(at["pelvis"], "YXZ"), strict=True))
    trunk = at["spine1"] @ at["spine2"] @ at["spine3"]
    for name, turn in (("trunk", trunk), ("head", at["neck"] @ at["head"])):
        flexion, bend, rotation = euler(turn, "XZY")
        angles |= {f"{name}_flexion": flexion, f"{name}_bend_right": bend, f"{name}_rotation_left": rotation}
    for side, sign in (("left", 1), ("right", -1)):  # a person's left is +x
        flexion, abduction, rotation = euler(at[f"{side}_hip"], "XZY")
        angles |= {f"{side}_hip_flexion": -flexion, f"{side}_hip_abduction": sign * abduction}
        angles |= {f"{side}_hip_external_rotation": sign * rotation}
        angles[f"{side}_knee_flexion"] = euler(at[f"{side}_knee"], "XZY")[0]
        angles[f"{side}_ankle_dorsiflexion"] = -euler(at[f"{side}_ankle"], "XZY")[0]
        arm = sign * (at[f"{side}_collar"] @ at[f"{side}_shoulder"])[:, :, 0]  # the upper arm's direction
        angles[f"{side}_shoulder_elevation"] = np.degrees(np.arccos(np.clip(-arm[:, 1], -1, 1)))
        angles[f"{side}_shoulder_plane"] = np.degrees(np.arctan2(arm[:, 2], sign * arm[:, 0]))
        angles[f"{side}_elbow_flexion"] = np.degrees(np.arccos(np.clip(at[f"{side}_elbow"][:, 0, 0], -1, 1)))
    return angles


def euler(rotmat: Float[np.ndarray, "T 3 3"], order: str) -> Float[np.ndarray, "3 T"]:
    """Intrinsic angles in degrees, in the order of their axes; the middle one lies within +-90."""
    return Rotation.from_matrix(rotmat).as_euler(order, degrees=True).T


def csv_bytes(motion: ExportMotion) -> bytes:
    """A table of one line a frame of the track: frame, seconds, x y z of 45 points (metres), angles (degrees)."""
    points = points_over_time(motion).reshape(len(motion), -1)
    angles = joint_angles(turned_root(motion.world_rotmat, Y_UP))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [f"{name}_{axis}_m" for name in POINT_NAMES for axis in "xyz"]
    writer.writerow(["frame", "seconds", *columns, *(f"{name}_deg" for name in angles)])
    for row, (frame, seconds) in enumerate(zip(motion.frame_ids, motion.seconds, strict=True)):
        turns = (f"{values[row]:.3f}" for values in angles.values())
        writer.writerow([int(frame), f"{seconds:.6f}", *(f"{x:.6f}" for x in points[row]), *turns])
    return stream.getvalue().encode()


def trc_bytes(motion: ExportMotion) -> bytes:
    """A TRC file of 45 markers; frames that the track left out lie on the line between their neighbours."""
    ids, points = motion.frame_ids, points_over_time(motion).reshape(len(motion), -1)
    every = np.arange(ids[0], ids[-1] + 1)
    filled = np.stack([np.interp(every, ids, column) for column in points.T], axis=1)
    rate = f"{motion.rate:.6g}"
    numbers = range(1, len(POINT_NAMES) + 1)
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{DEMO}.trc",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate}\t{rate}\t{len(every)}\t{len(POINT_NAMES)}\tm\t{rate}\t1\t{len(every)}",
        "Frame#\tTime\t" + "\t\t\t".join(POINT_NAMES) + "\t\t",
        "\t\t" + "\t".join(f"{axis}{number}" for number in numbers for axis in "XYZ"),
        "",
    ]
    lines += [
        "\t".join([str(row + 1), f"{row / motion.rate:.6f}", *(f"{value:.6f}" for value in values)])
        for row, values in enumerate(filled)
    ]
    return ("\n".join(lines) + "\n").encode()
