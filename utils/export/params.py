"""Body parameters in the layouts of AMASS, VIBE and 4D-Humans, as npz files of plain arrays.

Names and shapes are theirs, with the T frames of one person on the first axis (an image is one frame); nothing is
pickled. Each file says `axes`, `units` and `notes`, and names the body that its betas belong to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from utils.export.motion import CAMERA_TEXT, Z_UP, Z_UP_TEXT, ExportMotion, rotation_vectors, turned_root
from utils.geometry import BOX_UNIT, CROP_SIZE, FOCAL_LENGTH, cam_to_translation
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES, VERTEX_JOINT_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float

AMASS_BETAS, AMASS_DMPLS = 16, 8
BODY_JOINTS = 22  # AMASS poses are SMPL-H's: its hands have fingers instead of SMPL's joints 22 and 23


def amass_arrays(motion: ExportMotion) -> dict[str, Any]:
    """AMASS: poses [N,156] = root 3, body 63, hands 90 zeros; trans [N,3]; betas [16]; dmpls zeros. z up, metres.

    N frames from the first to the last: the layout has no frame numbers, so those that the track left out are filled
    in. trans is such that a layer with these numbers gives the person's vertices in the frame that is z up: the layer
    turns the body about the pelvis of the rest pose, which itself does not turn. A layer knows no height but that of
    the betas: `trans` is in its lengths, which are metres when multiplied by `body_scale`, where that is given.
    """
    joints = motion.rest()[1] / motion.scale
    rotmat, path = motion.filled()
    path = path / motion.scale
    poses = np.zeros((len(rotmat), 156))
    vectors = rotation_vectors(turned_root(rotmat, Z_UP))[:, :BODY_JOINTS]
    poses[:, : 3 * BODY_JOINTS] = vectors.reshape(len(rotmat), -1)
    mean = motion.betas()
    betas = np.zeros(AMASS_BETAS)
    betas[: len(mean)] = mean
    return {
        "poses": poses,
        "trans": (joints[0] + path) @ Z_UP.T - joints[0],
        "betas": betas,
        "dmpls": np.zeros((len(rotmat), AMASS_DMPLS)),
        "gender": "neutral",
        "mocap_framerate": motion.rate,
        **described(
            motion,
            Z_UP_TEXT,
            "metres, axis-angle in radians",
            "betas 10..15, fingers and dmpls are zero; the rotations of SMPL's left_hand and right_hand are left out",
            moves=True,
        ),
    }


def vibe_arrays(motion: ExportMotion) -> dict[str, Any]:
    """VIBE: a track of T frames, numbers in the camera frame.

    orig_cam (sx, sy, tx, ty) puts x at sx (x + tx) in [-1,1] of the whole image; with the square crop's weak camera
    (s, cx, cy), side d and centre c in an image w x h: sx = s d / w, tx = cx + (c_x - w/2) / (s d / 2), y likewise.
    """
    arrays, count = motion.arrays, len(motion)
    size = np.array(motion.facts["image_size"], np.float64)
    center, side = (
        np.asarray(arrays["center"], np.float64),
        BOX_UNIT * np.asarray(arrays["scale"], np.float64)[:, None],
    )
    scale, shift = arrays["cam"][:, :1].astype(np.float64), arrays["cam"][:, 1:].astype(np.float64)
    full = np.concatenate([scale * side / size, shift + (center - size / 2) / (scale * side / 2)], axis=1)
    return {
        "pred_cam": arrays["cam"],
        "orig_cam": full.astype(np.float32),
        "verts": motion.vertices,
        "pose": rotation_vectors(motion.rotmat).reshape(count, 72).astype(np.float32),
        "betas": arrays["betas"],
        "joints3d": arrays["joints"],
        "joints2d_img_coord": image_points(motion, arrays["joints"]).astype(np.float32),
        "bboxes": np.concatenate([center, side, side], axis=1).astype(np.float32),
        "frame_ids": motion.frame_ids,
        "seconds": motion.seconds,
        "joint_names": np.array(JOINT_NAMES),
        **described(
            motion,
            CAMERA_TEXT,
            "metres, axis-angle in radians; pixels in bboxes (cx, cy, w, h) and joints2d_img_coord",
            f"{'one frame' if count == 1 else f'{count} frames'}; bboxes are the square crop that the network saw",
            moves=False,
        ),
    }


def humans4d_arrays(motion: ExportMotion) -> dict[str, Any]:
    """4D-Humans (PHALP): one person of T frames, the dictionary `smpl` as `smpl_*`, numbers in the camera frame."""
    arrays, facts, count = motion.arrays, motion.facts, len(motion)
    score = np.asarray(arrays["score"], np.float64)
    rotmat = motion.rotmat.astype(np.float32)
    width, height = facts["image_size"]
    surface = motion.surface.matrix @ motion.vertices
    joints = np.concatenate([arrays["smpl_joints"], surface], axis=1).astype(np.float32)
    return {
        "smpl_global_orient": rotmat[:, :1],
        "smpl_body_pose": rotmat[:, 1:],
        "smpl_betas": arrays["betas"],
        "3d_joints": joints,
        "2d_joints": image_points(motion, joints).astype(np.float32),
        "camera": np.asarray(arrays["cam_t_full"], np.float32),
        "camera_bbox": arrays["cam"],
        "focal_length": np.repeat(facts["focal_length_full"], count),
        "center": np.asarray(arrays["center"], np.float32),
        "scale": (BOX_UNIT * np.asarray(arrays["scale"], np.float64)).astype(np.float32),
        "size": np.tile([height, width], (count, 1)),
        "bbox": np.asarray(arrays["box"], np.float32),
        "conf": np.where(np.isnan(score), arrays.get("confidence", 1.0), score).astype(np.float32),
        "tid": np.repeat(facts["track_id"], count),
        "time": motion.frame_ids,
        "seconds": motion.seconds,
        "joint_names": np.array([*SMPL_JOINT_NAMES, *VERTEX_JOINT_NAMES]),
        **described(
            motion,
            CAMERA_TEXT,
            "metres; pixels in center, scale (side of the square crop), size (height, width), bbox (x, y, w, h), "
            "2d_joints and focal_length; time: number of the frame",
            "camera: translation in the whole image for focal_length; camera_bbox: weak camera (s, tx, ty) of the "
            "crop; conf: the detector's score, the confidence where there is none; "
            f"3d_joints: SMPL's {len(SMPL_JOINT_NAMES)}, then {len(VERTEX_JOINT_NAMES)} points on the surface",
            moves=False,
        ),
    }


def image_points(motion: ExportMotion, points: Float[np.ndarray, "T N 3"]) -> Float[np.ndarray, "T N 2"]:
    """Pixels of the image where the crop's camera sees points of the body (camera frame, metres)."""
    cam_t = cam_to_translation(torch.tensor(motion.arrays["cam"])).numpy()
    moved = points + cam_t[:, None].astype(np.float64)
    crop = FOCAL_LENGTH * moved[..., :2] / moved[..., 2:] / (CROP_SIZE / 2)
    center, scale = motion.arrays["center"][:, None], motion.arrays["scale"][:, None, None]
    return center + crop * 100.0 * scale


def described(motion: ExportMotion, axes: str, units: str, note: str, moves: bool) -> dict[str, Any]:
    """Entries of every parameter file: axes, units, source, body and place as text; the scale for a known height."""
    return {
        "axes": axes,
        "units": units,
        "notes": f"{note}; {motion.body_note()}; {motion.place_note(moves)}",
        "body_model": motion.body.model_id,
        "picture": str(motion.facts["picture"]),
        "weights": str(motion.facts["weights"]),
        **({"body_scale": motion.scale} if "body_scale" in motion.arrays else {}),
    }
