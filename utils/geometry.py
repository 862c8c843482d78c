"""Rotations, cameras and their inverses (docs/method.md sections 2.2, 2.3 and 7.3; paper section 3.3).

Camera frame: x right, y down, z forward. The weak camera `cam` = (s, tx, ty) of a 224-pixel crop stands for the
translation (tx, ty, 2 * 5000 / (224 s)).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

FOCAL_LENGTH = 5000.0
CROP_SIZE = 224  # side of the networks' input, pixels
MAP_SIZE = 56  # side of the IUV maps
# Of the image's diagonal: 0.1 sees 157 degrees; at 0.3 a person who fills the image is within a metre.
FOCAL_IMPOSSIBLE, FOCAL_USUAL = 0.1, (0.3, 30.0)
BOX_UNIT = 200.0  # a crop's side in pixels of the full image is BOX_UNIT * scale
BOX_MARGIN = 1.2  # a person's crop is this much larger than the longer side of the box
CROP_MODES = ("warp", "legacy")  # anti-aliased, or bit for bit those of 2020
DEFAULT_SCALE = 0.9  # of the camera where keypoints do not determine one


def batch_rodrigues(rotvec: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3 3"]:
    """Rotation matrices of axis-angle vectors, finite gradient at zero (through the unit quaternion)."""
    angle = (rotvec + 1e-8).norm(dim=-1, keepdim=True)
    axis = rotvec / angle
    quat = F.normalize(torch.cat([(angle / 2).cos(), (angle / 2).sin() * axis], dim=-1), dim=-1)
    return quaternion_to_rotmat(quat)


def quaternion_to_rotmat(quat: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 3 3"]:
    """Rotation matrices of unit quaternions (w, x, y, z)."""
    w, x, y, z = quat.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def rotmat_to_rotvec(rotmat: Float[Tensor, "*N 3 3"]) -> Float[Tensor, "*N 3"]:
    """Axis-angle of rotation matrices, angle in [0, pi]; stable near zero and near pi."""
    m = rotmat
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # Four times the squared quaternion components; the largest one divides without loss.
    squared = torch.stack([
        1 + trace,
        1 + 2 * m[..., 0, 0] - trace,
        1 + 2 * m[..., 1, 1] - trace,
        1 + 2 * m[..., 2, 2] - trace,
    ], dim=-1)  # fmt: skip
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = torch.stack([
        torch.stack([squared[..., 0], wx, wy, wz], dim=-1),
        torch.stack([wx, squared[..., 1], xy, xz], dim=-1),
        torch.stack([wy, xy, squared[..., 2], yz], dim=-1),
        torch.stack([wz, xz, yz, squared[..., 3]], dim=-1),
    ], dim=-2)  # fmt: skip
    best = squared.argmax(dim=-1)[..., None, None].expand(*squared.shape[:-1], 1, 4)
    quat = F.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    quat = torch.where(quat[..., :1] < 0, -quat, quat)
    sine = quat[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quat[..., :1])
    # sin(a/2)/a -> 1/2 for small angles
    return quat[..., 1:] * torch.where(sine > 1e-7, angle / sine.clamp(min=1e-7), torch.full_like(sine, 2.0))


def rot6d_to_rotmat(x: Float[Tensor, "*N 6"]) -> Float[Tensor, "M 3 3"]:
    """Gram-Schmidt of the 6D form: numbers interleaved as a1x,a2x,a1y,a2y,a1z,a2z; [B,144] gives [24 B,3,3]."""
    a1, a2 = x.reshape(-1, 3, 2).unbind(-1)
    b1 = F.normalize(a1, dim=-1, eps=1e-12)
    b2 = F.normalize(a2 - (b1 * a2).sum(dim=-1, keepdim=True) * b1, dim=-1, eps=1e-12)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2, dim=-1)], dim=-1)


def nearest_rotations(matrices: Float[np.ndarray, "*N 3 3"]) -> Float[np.ndarray, "*N 3 3"]:
    """The rotation closest to each matrix, float64; for reflections and singular matrices, too."""
    left, _, right = np.linalg.svd(np.asarray(matrices, np.float64))
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[..., None]
    return left @ right


def cam_to_translation(
    cam: Float[Tensor, "*B 3"], focal_length: float = FOCAL_LENGTH, size: int = CROP_SIZE
) -> Float[Tensor, "*B 3"]:
    """Translation in metres of a weak camera (s, tx, ty)."""
    return torch.stack([cam[..., 1], cam[..., 2], 2 * focal_length / (size * cam[..., 0] + 1e-9)], dim=-1)


def translation_to_cam(
    cam_t: Float[Tensor, "*B 3"], focal_length: float = FOCAL_LENGTH, size: int = CROP_SIZE
) -> Float[Tensor, "*B 3"]:
    """Weak camera (s, tx, ty) of a translation in metres: s = (2 f / size) / tz."""
    return torch.stack([2 * focal_length / size / cam_t[..., 2], cam_t[..., 0], cam_t[..., 1]], dim=-1)


def perspective_projection(
    points: Float[Tensor, "B N 3"],
    rotation: Float[Tensor, "B 3 3"],
    translation: Float[Tensor, "B 3"],
    focal_length: float = FOCAL_LENGTH,
    camera_center: Float[Tensor, "B 2"] | None = None,
) -> Float[Tensor, "B N 2"]:
    """Pixels of points (metres) after a rigid motion; without `camera_center` the principal point is 0."""
    moved = points @ rotation.transpose(1, 2) + translation[:, None]
    pixels = focal_length * moved[..., :2] / moved[..., 2:]
    return pixels if camera_center is None else pixels + camera_center[:, None]


def project_to_crop(points: Float[Tensor, "B N 3"], cam: Float[Tensor, "B 3"]) -> Float[Tensor, "B N 2"]:
    """Crop coordinates in [-1, 1] of camera-frame points under the weak camera."""
    moved = points + cam_to_translation(cam)[:, None]
    return FOCAL_LENGTH * moved[..., :2] / moved[..., 2:] / (CROP_SIZE / 2)


def crop_to_full_weak(
    cam: Float[Tensor, "*B 3"],
    center: Float[Tensor, "*B 2"],
    scale: Float[Tensor, "*B"],
    image_size: Float[Tensor, "*B 2"],
) -> Float[Tensor, "*B 3"]:
    """Weak camera (s', tx', ty') of the full image from the weak camera (s, tx, ty) of a crop.

    The crop is the square of side b = 200 scale pixels around `center` (cx, cy) of an image of `image_size` (W, H):

        s' = s b / 2 (pixels per metre)    tx' = tx + (cx - W/2) / s'    ty' = ty + (cy - H/2) / s'

    A point (X, Y, Z) in metres then lies at the pixel (W/2 + s' (X + tx'), H/2 + s' (Y + ty')).
    """
    pixels_per_metre = (cam[..., 0] * scale * (BOX_UNIT / 2)).unsqueeze(-1)
    shift = (center - image_size / 2) / pixels_per_metre
    return torch.cat([pixels_per_metre, cam[..., 1:] + shift], dim=-1)


def full_weak_to_perspective(
    full_cam: Float[Tensor, "*B 3"], focal_length: Float[Tensor, "*B"] | float
) -> Float[Tensor, "*B 3"]:
    """Translation (tx', ty', f / s') of a pinhole camera from the weak camera (s', tx', ty') of a full image.

    With K = [[f, 0, W/2], [0, f, H/2], [0, 0, 1]], f in pixels, a point P in metres lies at the pixel K (P + t),
    divided by its depth. At the depth of the body's origin (Z = 0) that is the weak camera's pixel whatever f is.
    A point d pixels from the image's middle and Z metres behind the origin is off by d Z / (Z + f / s'): the weak
    camera has no perspective, and a crop's own (5000 px on 224) hardly any.
    """
    depth = (focal_length / full_cam[..., 0]).unsqueeze(-1)
    return torch.cat([full_cam[..., 1:], depth], dim=-1)


def check_focal_length(focal_length: float | None, image_size: tuple[int, int]) -> str:
    """A warning about an unusual focal length (pixels) for an image of this width and height, "" for none.

    Raises ValueError for what no lens has: not finite, or so short that people would stand inside the camera.
    """
    if focal_length is None:
        return ""
    if not math.isfinite(focal_length):
        raise ValueError(f"focal_length must be a positive number of pixels, got {focal_length}.")
    ratio = focal_length / assumed_focal_length(image_size)
    what = (
        f"focal_length {focal_length:g} is {ratio:.2g} of the diagonal of an image of "
        f"{image_size[0]} x {image_size[1]} px"
    )
    cure = "It is in pixels: millimetres x the image's width in pixels / the sensor's width in millimetres."
    if ratio < FOCAL_IMPOSSIBLE:
        raise ValueError(f"{what}; no lens sees so wide, people would stand inside the camera. {cure}")
    if not FOCAL_USUAL[0] <= ratio <= FOCAL_USUAL[1]:
        return f"{what}; cameras have {FOCAL_USUAL[0]:g} to {FOCAL_USUAL[1]:g}. {cure}"
    return ""


def assumed_focal_length(image_size: tuple[int, int]) -> float:
    """Focal length in pixels where nothing is known: the diagonal sqrt(W^2 + H^2), 53 degrees from corner to corner."""
    return math.hypot(*image_size)


def has_determined_camera(confidence: Float[Tensor, "B N"]) -> Bool[Tensor, "B"]:
    """Whether at least two keypoints are known, so that `estimate_translation` has a solution, [B]."""
    return (confidence > 0).sum(dim=1) >= 2


def estimate_translation(
    joints: Float[Tensor, "B 49 3"],
    keypoints: Float[Tensor, "B 49 3"],
    focal_length: float = FOCAL_LENGTH,
    img_size: int = CROP_SIZE,
) -> Float[Tensor, "B 3"]:
    """Translation (metres) that projects `joints` onto `keypoints`, by weighted least squares.

    Only the last 24 points count (docs/method.md 7.3). The whole batch is one float64 solve. Where fewer than two
    points are known the answer is a default camera (s = 0.9, centred): check `has_determined_camera`.

    Args:
        joints: metres.
        keypoints: pixels of the crop and confidence.
        focal_length, img_size: of the crop's camera, pixels.
    """
    points = joints[:, -24:].double()
    pixels = keypoints[:, -24:, :2].double() - img_size / 2
    confidence = keypoints[:, -24:, 2].double().clamp(min=0)
    determined = has_determined_camera(confidence)
    confidence = torch.where(determined[:, None], confidence, torch.ones_like(confidence))

    zero, focal = torch.zeros_like(confidence), torch.full_like(confidence, focal_length)
    # Rows per point: [f, 0, -x] t = x Z - f X and [0, f, -y] t = y Z - f Y, weighted by sqrt(confidence).
    rows_x = torch.stack([focal, zero, -pixels[..., 0]], dim=-1)
    rows_y = torch.stack([zero, focal, -pixels[..., 1]], dim=-1)
    matrix = torch.cat([rows_x, rows_y], dim=1)  # [B, 48, 3]
    rhs = (pixels * points[..., 2:] - focal_length * points[..., :2]).transpose(1, 2).flatten(1)  # x rows, y rows
    weight = confidence.repeat(1, 2)[..., None]
    normal = matrix.transpose(1, 2) @ (weight * matrix)
    normal_rhs = matrix.transpose(1, 2) @ (weight * rhs[..., None])

    # Coincident points still leave the depth open: a singular system falls back too.
    solution, info = torch.linalg.solve_ex(normal, normal_rhs)
    solution = solution.squeeze(-1)
    usable = determined & (info == 0) & solution.isfinite().all(dim=1)
    default = solution.new_tensor([0.0, 0.0, 2 * focal_length / (img_size * DEFAULT_SCALE)])
    return torch.where(usable[:, None], solution, default).to(joints.dtype)
