"""Arrays and single-thread kernels that pose the body of a synthetic person (docs/method.md 4.3).

Everything is float32 in numba instead of a BLAS product: the same person comes out bit for bit whatever the
number of workers and threads, and sparse skinning weights make it faster too.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from utils.body import OPEN_DIR, load_open_atlas, load_open_body, read_regressor, surface_points
from utils.compiling import compiled
from utils.skeleton import JOINT49_FROM_54
from utils.structures import Atlas, BodyModel, Regressor, require_same_body

FOCAL = 5000.0
CENTRE = 112.0
SIZE = 224


@dataclass(frozen=True)
class PeopleAssets:
    """The body as the generator needs it: sparse skinning, joint bases, atlas, places on the template."""

    v_template: np.ndarray  # [V,3] float32
    shapedirs: np.ndarray  # [V,3,10] float32
    joint_template: np.ndarray  # [24,3] float32
    joint_shapedirs: np.ndarray  # [24,3,10] float32
    skin_joint: np.ndarray  # [V,K] int32, K = most joints that move one vertex
    skin_weight: np.ndarray  # [V,K] float32
    parents: np.ndarray  # [24] int64
    faces: np.ndarray  # [F,3] int32
    face_part: np.ndarray  # [F] uint8
    face_uv: np.ndarray  # [F,3,2] float32
    vertex_part: np.ndarray  # [V] uint8, the part of one of the faces around a vertex
    landmark_rows: np.ndarray  # [31] int64, CSR rows of 21 surface points and 9 regressed points
    landmark_vertex: np.ndarray  # [N] int64
    landmark_weight: np.ndarray  # [N] float32
    landmark_template: np.ndarray  # [30,3] float32, those points on the template


def make_assets(body: BodyModel, atlas: Atlas, surface: Regressor, extra: Regressor) -> PeopleAssets:
    """Precompute the generator's tables.

    `surface` holds the 21 points of `skeleton.VERTEX_JOINT_NAMES`, `extra` the 9 of `EXTRA_JOINT_NAMES`.
    Raises ValueError when the files belong to different bodies or the body has pose correctives.
    """
    for other in (atlas, surface, extra):
        require_same_body(body, other)
    if body.posedirs is not None:
        raise ValueError(
            f"The body '{body.model_id}' has pose correctives; synthetic people use the open body."
        )
    template, shapedirs = np.float32(body.v_template), np.float32(body.shapedirs)
    faces = np.ascontiguousarray(atlas.vertex_map[atlas.faces], dtype=np.int32)
    vertex_part = np.zeros(len(template), np.uint8)
    vertex_part[faces] = atlas.face_part[:, None]
    order = np.argsort(-body.weights, axis=1, kind="stable")
    count = int((body.weights > 1e-4).sum(1).max())
    skin_joint = order[:, :count]
    skin_weight = np.take_along_axis(np.asarray(body.weights, np.float64), skin_joint, axis=1)
    matrix = np.concatenate([surface.matrix, extra.matrix])
    rows, vertex = np.nonzero(matrix)
    regressor = np.asarray(body.J_regressor, np.float64)
    return PeopleAssets(
        v_template=template,
        shapedirs=np.ascontiguousarray(shapedirs),
        joint_template=np.float32(np.einsum("jv,vc->jc", regressor, template)),
        joint_shapedirs=np.float32(np.einsum("jv,vck->jck", regressor, shapedirs)),
        skin_joint=np.ascontiguousarray(skin_joint, np.int32),
        skin_weight=np.float32(skin_weight / skin_weight.sum(1, keepdims=True)),
        parents=np.asarray(body.parents, np.int64),
        faces=faces,
        face_part=np.ascontiguousarray(atlas.face_part, np.uint8),
        face_uv=np.ascontiguousarray(atlas.face_uv, np.float32),
        vertex_part=vertex_part,
        landmark_rows=np.searchsorted(rows, np.arange(len(matrix) + 1)).astype(np.int64),
        landmark_vertex=vertex.astype(np.int64),
        landmark_weight=np.float32(matrix[rows, vertex]),
        landmark_template=np.float32(np.einsum("nv,vc->nc", matrix, template)),
    )


@functools.cache
def load_assets() -> PeopleAssets:
    """The tables of the open body that ships with the project."""
    body = load_open_body()
    extra = read_regressor(OPEN_DIR / "regressors.npz", "extra")
    return make_assets(body, load_open_atlas(), surface_points(body), extra)


@dataclass(frozen=True)
class SyntheticRender:
    """A picture and what is true of it; metres in the camera's frame before its translation."""

    image: np.ndarray  # [224,224,3] uint8 RGB
    cam: np.ndarray  # [3] float32: s, tx, ty
    rotvec: np.ndarray  # [72] float32, the root is the camera-frame orientation
    betas: np.ndarray  # [10] float32
    vertices: np.ndarray  # [V,3] float32, the bare body
    joints: np.ndarray  # [49,3] float32
    smpl_joints: np.ndarray  # [24,3] float32


@dataclass(frozen=True)
class PosedBody:
    """A body in the camera's frame before the camera's translation, metres."""

    vertices: np.ndarray  # [V,3] float32
    normals: np.ndarray  # [V,3] float32, unit
    smpl_joints: np.ndarray  # [24,3] float32
    joints: np.ndarray  # [49,3] float32


def pose_body(assets: PeopleAssets, rotvec: np.ndarray, betas: np.ndarray) -> PosedBody:
    """Pose the body: `rotvec` [24,3] axis-angle, `betas` [10]."""
    rotmat = Rotation.from_rotvec(np.float64(rotvec).reshape(24, 3)).as_matrix()
    betas = np.float32(betas)
    rest_joints = assets.joint_template + (assets.joint_shapedirs * betas).sum(2)
    transforms, smpl_joints = _kinematics(rotmat, np.float64(rest_joints), assets.parents)
    vertices = _skin(
        assets.v_template, assets.shapedirs, betas, assets.skin_joint, assets.skin_weight, transforms
    )
    landmarks = _gather(assets.landmark_rows, assets.landmark_vertex, assets.landmark_weight, vertices)
    candidates = np.concatenate([smpl_joints, landmarks])
    joints = candidates[np.array(JOINT49_FROM_54)]
    return PosedBody(vertices, vertex_normals(vertices, assets.faces), smpl_joints, joints)


def camera_translation(cam: np.ndarray) -> np.ndarray:
    """(s, tx, ty) -> translation [3] in metres (docs/method.md 2.3)."""
    s, tx, ty = (float(c) for c in cam)
    return np.array([tx, ty, 2 * FOCAL / (SIZE * s + 1e-9)])


def project(points: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Points [N,3] in metres -> [N,3] float32: x, y in pixels of the 224 crop, and depth."""
    moved = np.float64(points) + camera_translation(cam)
    xy = FOCAL * moved[:, :2] / moved[:, 2:] + CENTRE
    return np.concatenate([xy, moved[:, 2:]], axis=1).astype(np.float32)


def to_ndc(pixels: np.ndarray) -> np.ndarray:
    """Projected points [N,3] (pixels of the crop, depth) -> the rasteriser's frame: [-1,1], y up, depth."""
    return pixels * np.float32([2 / SIZE, -2 / SIZE, 1]) + np.float32([-1, 1, 0])


@compiled()
def _kinematics(rotmat, joints, parents):
    transforms = np.zeros((24, 3, 4))
    posed = np.zeros((24, 3))
    for j in range(24):
        p = parents[j]
        for r in range(3):
            if p < 0:
                transforms[j, r, :3] = rotmat[j, r]
                posed[j, r] = joints[j, r]
            else:
                posed[j, r] = posed[p, r]
                for c in range(3):
                    posed[j, r] += transforms[p, r, c] * (joints[j, c] - joints[p, c])
                    for k in range(3):
                        transforms[j, r, c] += transforms[p, r, k] * rotmat[j, k, c]
    for j in range(24):
        for r in range(3):
            transforms[j, r, 3] = posed[j, r]
            for c in range(3):
                transforms[j, r, 3] -= transforms[j, r, c] * joints[j, c]
    return transforms.astype(np.float32), posed.astype(np.float32)


@compiled()
def _skin(template, shapedirs, betas, skin_joint, skin_weight, transforms):
    out = np.zeros_like(template)
    shaped = np.zeros(3, np.float32)
    blended = np.zeros((3, 4), np.float32)
    for i in range(template.shape[0]):
        for c in range(3):
            shaped[c] = template[i, c]
            for k in range(10):
                shaped[c] += shapedirs[i, c, k] * betas[k]
        blended[:] = 0
        for k in range(skin_joint.shape[1]):
            weight = skin_weight[i, k]
            if weight > 0:
                for r in range(3):
                    for c in range(4):
                        blended[r, c] += weight * transforms[skin_joint[i, k], r, c]
        for r in range(3):
            out[i, r] = blended[r, 3]
            for c in range(3):
                out[i, r] += blended[r, c] * shaped[c]
    return out


@compiled()
def _gather(rows, columns, weights, vertices):
    out = np.zeros((rows.shape[0] - 1, 3), np.float32)
    for r in range(out.shape[0]):
        for k in range(rows[r], rows[r + 1]):
            for c in range(3):
                out[r, c] += weights[k] * vertices[columns[k], c]
    return out


@compiled()
def vertex_normals(vertices, faces):
    """Unit normals [V,3] of a mesh, weighted by face area."""
    normals = np.zeros_like(vertices)
    for k in range(faces.shape[0]):
        a, b, c = faces[k, 0], faces[k, 1], faces[k, 2]
        e0, e1, e2 = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        g0, g1, g2 = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        x, y, z = e1 * g2 - e2 * g1, e2 * g0 - e0 * g2, e0 * g1 - e1 * g0
        for i in (a, b, c):
            normals[i, 0] += x
            normals[i, 1] += y
            normals[i, 2] += z
    for i in range(normals.shape[0]):
        length = math.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-12
        for c in range(3):
            normals[i, c] /= length
    return normals
