"""The 24 parts of the open body, numbered as DensePose does, and their UV charts (used by `open_body.py`).

Parts are bounded by planes through the joints and by smooth front/back curves along the bones; the mesh is
cut along them, so borders follow the curves and not the triangles. Numbers (utils.skeleton names them): 1
back and 2 front of the torso, 3/4 right/left hand, 5/6 left/right foot, 7/8 right/left thigh back, 9/10
front, 11/12 right/left shank back, 13/14 front, 15/16 left/right upper arm front (of the T-pose), 17/18
back, 19/20 left/right lower arm front, 21/22 back, 23/24 right/left half of the head.

UV: limbs have u across the half turn and v from the body outwards; hands and feet a full turn with the seam
on the little finger's side and under the sole, v outwards; the torso u from right to left, v upwards; the
head u from front to back, v upwards. A right part is the exact mirror image of its left part with the same
(u, v); for the torso u becomes 1 - u.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data.open.build.mesh import HalfMesh, cut

# Labels while cutting: DensePose's left parts, and these for the halves of what becomes one part.
TORSO, THIGH, SHANK, ARM, FOREARM = 2, 10, 14, 15, 19
TORSO_BACK, THIGH_BACK, SHANK_BACK, ARM_BACK, FOREARM_BACK = 1, 8, 12, 17, 21
HEAD, HAND, FOOT, HAND_UNDER, FOOT_INNER = 24, 4, 5, 104, 105
_JOINED = {HAND_UNDER: HAND, FOOT_INNER: FOOT}
_OTHER_SIDE = {1: 1, 2: 2, 4: 3, 5: 6, 8: 7, 10: 9, 12: 11, 14: 13, 15: 16, 17: 18, 19: 20, 21: 22, 24: 23}
# (front label, back label, joint at its start, joint at its end)
_LIMBS = (
    (THIGH, THIGH_BACK, 1, 4),
    (SHANK, SHANK_BACK, 4, 7),
    (ARM, ARM_BACK, 16, 18),
    (FOREARM, FOREARM_BACK, 18, 20),
)
_UP, _FORWARD = np.array([0.0, 1, 0]), np.array([0.0, 0, 1])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _frame(axis: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orthonormal (axis, reference made perpendicular, axis x reference)."""
    axis = _unit(axis)
    reference = _unit(reference - reference @ axis * axis)
    return axis, reference, np.cross(axis, reference)


def torso_middle(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights [K] and the z between front and back [K] of the torso's sections, smoothed."""
    used = points[np.unique(faces)]
    heights = np.linspace(used[:, 1].min() + 0.03, used[:, 1].max() - 0.03, 14)
    middle = []
    for height in heights:
        section = used[np.abs(used[:, 1] - height) < 0.035, 2]
        middle.append((section.min() + section.max()) / 2)
    return heights, np.polyval(np.polyfit(heights, middle, 4), heights)


def _joint_planes(points: np.ndarray, centre: np.ndarray, hidden: np.ndarray, joints: np.ndarray) -> list:
    """(region, new label, point of the plane, normal towards the new region, seed) in cutting order."""
    j = joints
    crotch = points[centre & ~hidden, 1].min()
    groin = np.array([0.17, j[1, 1] + 0.055 - (crotch - 0.012), 0])
    thigh, shank = _unit(j[4] - j[1]), _unit(j[7] - j[4])
    arm, forearm = _unit(j[18] - j[16]), _unit(j[20] - j[18])
    height = np.where(points[:, 0] >= 0, points[:, 1], np.nan)
    toe, finger, crown = np.nanargmin(height), points[:, 0].argmax(), np.nanargmax(height)
    return [
        (TORSO, THIGH, np.array([0, crotch - 0.012, 0]), np.array([groin[1], -groin[0], 0]), toe),
        (THIGH, SHANK, j[4], _unit(thigh + shank), toe),
        (SHANK, FOOT, j[7] - 0.02 * shank, shank, toe),
        (TORSO, ARM, j[16], _unit(np.array([1.0, 0.12, 0])), finger),
        (ARM, FOREARM, j[18], _unit(arm + forearm), finger),
        (FOREARM, HAND, j[20] + 0.005 * forearm, forearm, finger),
        (TORSO, HEAD, j[12], np.array([0, 1.0, 0.25]), crown),
    ]


def cut_parts(mesh: HalfMesh, joints: np.ndarray) -> HalfMesh:
    """Cut the left half mesh into its parts; labels: DensePose's left numbers and two helper halves."""
    mesh = replace(mesh, labels=np.full(len(mesh.faces), TORSO))
    for region, label, point, normal, seed in _joint_planes(mesh.points, mesh.centre, mesh.hidden, joints):
        mesh = cut(mesh, (mesh.points - point) @ _unit(normal), region, label, seed=int(seed))
    heights, middle = torso_middle(mesh.points, mesh.faces[mesh.labels == TORSO])
    behind = np.interp(mesh.points[:, 1], heights, middle) - mesh.points[:, 2]
    mesh = cut(mesh, behind, TORSO, TORSO_BACK)
    for front, back, start, end in _LIMBS:
        _, forward, _ = _frame(joints[end] - joints[start], _FORWARD)
        mesh = cut(mesh, (joints[start] - mesh.points) @ forward, front, back)
    mesh = cut(mesh, -hand_height(mesh.points, mesh.faces[mesh.labels == HAND], joints), HAND, HAND_UNDER)
    origin, (_, _, outward) = _foot_frame(joints)
    return cut(mesh, (origin - mesh.points) @ outward, FOOT, FOOT_INNER)


def hand_height(points: np.ndarray, faces: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Height [n] of points above the middle surface between the back and the palm of a hand of `faces`.

    The hand is arched along and across: the middle is a quadratic surface fitted to all but the thumb.
    """
    flat = (points - joints[22])[:, [0, 2]]
    x, z = flat.T
    terms = np.stack([np.ones_like(x), x, z, x * x, x * z, z * z], 1)
    used = np.unique(faces)
    used = used[z[used] < 0.045]
    return points[:, 1] - terms @ np.linalg.lstsq(terms[used], points[used, 1], rcond=None)[0]


def _foot_frame(joints: np.ndarray) -> tuple:
    """Origin and (along to the toes, up, outward) of a line at half the foot's height; the seam is below."""
    heel, toes = joints[7] + [0, -0.035, 0], joints[10] + [0, -0.006, 0]
    along, up, _ = _frame(toes - heel, _UP)
    return heel, (along, up, np.cross(up, along))


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def _unwrapped(opposite: np.ndarray, adjacent: np.ndarray, around: float) -> np.ndarray:
    """Angles atan2(opposite, adjacent) in the full turn that has `around` in its middle."""
    angle = np.arctan2(opposite, adjacent)
    return around + np.angle(np.exp(1j * (angle - around)))


def _torso_uv(corners: np.ndarray, heights: np.ndarray, middle: np.ndarray, back: bool) -> np.ndarray:
    depth = corners[..., 2] - np.interp(corners[..., 1], heights, middle)
    angle = np.arctan2(corners[..., 0], -depth if back else depth)
    return np.clip(0.5 + angle / np.pi, 0, 1)


def face_charts(points: np.ndarray, faces: np.ndarray, labels: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """UV [F,3,2] in [0,1] of the faces of the left half; labels as `cut_parts` leaves them."""
    corners, uv = points[faces], np.zeros((len(faces), 3, 2))
    torso = (labels == TORSO) | (labels == TORSO_BACK)
    heights, middle = torso_middle(points, faces[torso])
    for label in (TORSO, TORSO_BACK):
        uv[labels == label, :, 0] = _torso_uv(corners[labels == label], heights, middle, label == TORSO_BACK)
    uv[torso, :, 1] = _scaled(corners[torso][..., 1])
    for limb in _LIMBS:
        _limb_charts(uv, corners, labels, joints, limb)
    hand = (labels == HAND) | (labels == HAND_UNDER)
    _hand_chart(uv, corners, labels, joints, hand_height(points, faces[hand], joints)[faces])
    _foot_chart(uv, corners, labels, joints)
    head = labels == HEAD
    offset = corners[head] - points[np.unique(faces[head])].mean(0)
    uv[head, :, 0] = np.clip(np.arctan2(corners[head][..., 0], offset[..., 2]) / np.pi, 0, 1)
    uv[head, :, 1] = _scaled(corners[head][..., 1])
    return uv


def _limb_charts(
    uv: np.ndarray,
    corners: np.ndarray,
    labels: np.ndarray,
    joints: np.ndarray,
    limb: tuple[int, int, int, int],
) -> None:
    """Fill the charts of the front and the back of one limb: u is half a turn about the bone."""
    front, back, start, end = limb
    along, forward, side = _frame(joints[end] - joints[start], _FORWARD)
    both = (labels == front) | (labels == back)
    uv[both, :, 1] = _scaled(corners[both] @ along)
    for label, sign in ((front, 1), (back, -1)):
        offset = sign * (corners[labels == label] - joints[start])
        angle = np.arctan2(offset @ side, offset @ forward)
        uv[labels == label, :, 0] = np.clip(0.5 + angle / np.pi, 0, 1)


def _hand_chart(
    uv: np.ndarray, corners: np.ndarray, labels: np.ndarray, joints: np.ndarray, height: np.ndarray
) -> None:
    """Fill the hand's chart: u turns from the little finger over the palm, the thumb and the hand's back."""
    along, thumb, _ = _frame(joints[22] - joints[20], _FORWARD)
    both = (labels == HAND) | (labels == HAND_UNDER)
    uv[both, :, 1] = _scaled(corners[both] @ along)
    for label, around in ((HAND, np.pi / 2), (HAND_UNDER, -np.pi / 2)):
        mine = labels == label
        angle = _unwrapped(height[mine], (corners[mine] - joints[20]) @ thumb, around)
        uv[mine, :, 0] = np.clip(0.5 + angle / (2 * np.pi), 0, 1)


def _foot_chart(uv: np.ndarray, corners: np.ndarray, labels: np.ndarray, joints: np.ndarray) -> None:
    """Fill the foot's chart: u turns from the sole over the inner side, the top and the outer side."""
    origin, (along, up, outward) = _foot_frame(joints)
    both = (labels == FOOT) | (labels == FOOT_INNER)
    uv[both, :, 1] = _scaled(corners[both] @ along)
    for label, around in ((FOOT, np.pi / 2), (FOOT_INNER, -np.pi / 2)):
        offset = corners[labels == label] - origin
        angle = _unwrapped(offset @ outward, offset @ up, around)
        uv[labels == label, :, 0] = np.clip(0.5 + angle / (2 * np.pi), 0, 1)


def whole_atlas(labels: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """face_part [2F] uint8 and face_uv [2F,3,2] float32 of both halves from the left half's labels and UV."""
    left = np.array([_JOINED.get(int(label), int(label)) for label in labels])
    right = np.array([_OTHER_SIDE[int(part)] for part in left])
    # Mirrored faces list their corners in opposite order, to keep the outside outside.
    other = uv[:, ::-1].copy()
    torso = left <= 2
    other[torso, :, 0] = 1 - other[torso, :, 0]
    return np.r_[left, right].astype(np.uint8), np.r_[uv, other].astype(np.float32)
