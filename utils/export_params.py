"""Body parameters in the layouts of AMASS, VIBE and 4D-Humans, as npz files of plain arrays.

Names and shapes are theirs, with one frame or one person on the first axis; nothing is pickled. Each file says
`axes`, `units` and `notes`, and names the body that its betas belong to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from utils.export_person import CAMERA_TEXT, Z_UP, Z_UP_TEXT, ExportPerson, rotation_vectors, turned_root
from utils.geometry import CROP_SIZE, FOCAL_LENGTH
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES, VERTEX_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float

AMASS_BETAS, AMASS_DMPLS, FRAME_RATE = 16, 8, 30.0
BODY_JOINTS = 22  # AMASS poses are SMPL-H's: its hands have fingers instead of SMPL's joints 22 and 23


def amass_arrays(person: ExportPerson) -> dict[str, Any]:
    """AMASS: poses [1,156] = root 3, body 63, hands 90 zeros; trans [1,3]; betas [16]; dmpls zeros. z up, metres.

    trans is such that a layer with these numbers gives the person's vertices in the frame that is z up: the layer
    turns the body about the pelvis of the rest pose, which itself does not turn.
    """
    _, joints = person.rest()
    poses = np.zeros((1, 156))
    poses[0, : 3 * BODY_JOINTS] = rotation_vectors(turned_root(person.rotmat, Z_UP))[:BODY_JOINTS].reshape(-1)
    betas = np.zeros(AMASS_BETAS)
    betas[: len(person.arrays["betas"])] = person.arrays["betas"]
    return {
        "poses": poses,
        "trans": (Z_UP @ joints[0] - joints[0])[None],
        "betas": betas,
        "dmpls": np.zeros((1, AMASS_DMPLS)),
        "gender": "neutral",
        "mocap_framerate": FRAME_RATE,
        **described(
            person,
            Z_UP_TEXT,
            "metres, axis-angle in radians",
            "betas 10..15, fingers and dmpls are zero; the rotations of SMPL's left_hand and right_hand are left out",
        ),
    }


def vibe_arrays(person: ExportPerson) -> dict[str, Any]:
    """VIBE: a track of one frame, numbers in the camera frame.

    orig_cam (sx, sy, tx, ty) puts x at sx (x + tx) in [-1,1] of the whole picture; with the square crop's weak camera
    (s, cx, cy), side d and centre c in a picture w x h: sx = s d / w, tx = cx + (c_x - w/2) / (s d / 2), y likewise.
    """
    arrays, facts = person.arrays, person.facts
    size, center = np.array(facts["image_size"], np.float64), np.array(facts["center"], np.float64)
    side = 200.0 * float(facts["scale"])
    scale, shift = float(arrays["cam"][0]), arrays["cam"][1:].astype(np.float64)
    full = np.concatenate([scale * side / size, shift + (center - size / 2) / (scale * side / 2)])
    return {
        "pred_cam": arrays["cam"][None],
        "orig_cam": full[None].astype(np.float32),
        "verts": arrays["vertices"][None],
        "pose": rotation_vectors(person.rotmat).reshape(1, 72).astype(np.float32),
        "betas": arrays["betas"][None],
        "joints3d": arrays["joints"][None],
        "joints2d_img_coord": picture_points(person, arrays["joints"])[None].astype(np.float32),
        "bboxes": np.array([[*center, side, side]], np.float32),
        "frame_ids": np.array([0]),
        "joint_names": np.array(JOINT_NAMES),
        **described(
            person,
            CAMERA_TEXT,
            "metres, axis-angle in radians; pixels in bboxes (cx, cy, w, h) and joints2d_img_coord",
            "one frame; bboxes are the square crop that the network saw",
        ),
    }


def humans4d_arrays(person: ExportPerson) -> dict[str, Any]:
    """4D-Humans (PHALP): one person of one frame, the dictionary `smpl` as `smpl_*`, numbers in the camera frame."""
    arrays, facts = person.arrays, person.facts
    rotmat = person.rotmat.astype(np.float32)
    width, height = facts["image_size"]
    surface = person.surface.matrix @ arrays["vertices"]
    joints = np.concatenate([arrays["smpl_joints"], surface]).astype(np.float32)
    return {
        "smpl_global_orient": rotmat[None, :1],
        "smpl_body_pose": rotmat[None, 1:],
        "smpl_betas": arrays["betas"][None],
        "3d_joints": joints[None],
        "2d_joints": picture_points(person, joints)[None].astype(np.float32),
        "camera": np.asarray(facts["cam_t_full"], np.float32)[None],
        "camera_bbox": arrays["cam"][None],
        "focal_length": np.array([facts["focal_length_full"]]),
        "center": np.asarray(facts["center"], np.float32)[None],
        "scale": np.array([200.0 * float(facts["scale"])], np.float32),
        "size": np.array([[height, width]]),
        "bbox": np.asarray(facts["box"], np.float32)[None],
        "conf": np.array([facts["score"]], np.float32),
        "tid": np.array([facts["person"]]),
        "joint_names": np.array([*SMPL_JOINT_NAMES, *VERTEX_JOINT_NAMES]),
        **described(
            person,
            CAMERA_TEXT,
            "metres; pixels in center, scale (side of the square crop), size (height, width), bbox (x, y, w, h), "
            "2d_joints and focal_length",
            "camera: translation in the whole picture for focal_length; camera_bbox: weak camera (s, tx, ty) of the "
            f"crop; 3d_joints: SMPL's {len(SMPL_JOINT_NAMES)}, then {len(VERTEX_JOINT_NAMES)} points on the surface",
        ),
    }


def picture_points(person: ExportPerson, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
    """Pixels of the picture where the crop's camera sees points of the body (camera frame, metres)."""
    moved = points + person.arrays["cam_t"].astype(np.float64)
    crop = FOCAL_LENGTH * moved[:, :2] / moved[:, 2:] / (CROP_SIZE / 2)
    return np.array(person.facts["center"]) + crop * 100.0 * float(person.facts["scale"])


def described(person: ExportPerson, axes: str, units: str, note: str) -> dict[str, str]:
    """The words that go into every file."""
    return {
        "axes": axes,
        "units": units,
        "notes": f"{note}; {person.body_note()}; {person.place_note()}",
        "body_model": person.body.model_id,
        "picture": str(person.facts["picture"]),
        "weights": str(person.facts["weights"]),
    }
