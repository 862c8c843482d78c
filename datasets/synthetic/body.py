"""The body of a synthetic person, posed (docs/method.md 4.3) and projected.

All is float32 and added up in a fixed order, in sparse products instead of BLAS: the same person comes out bit for bit
whatever the number of workers and threads.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation

from utils.body import OPEN_DIR, load_open_atlas, load_open_body, read_regressor, surface_points
from utils.compiling import compiled
from utils.geometry import CROP_SIZE, FOCAL_LENGTH
from utils.skeleton import JOINT49_FROM_54
from utils.structures import Atlas, BodyModel, Regressor, require_same_body


@dataclass(frozen=True)
class PeopleAssets:
    """The body as the generator needs it: sparse skinning, joint bases, atlas, places on the template."""

    v_template: np.ndarray  # [V,3] float32
    shapedirs: np.ndarray  # [10,V,3] float32
    joint_template: np.ndarray  # [24,3] float32
    joint_shapedirs: np.ndarray  # [24,3,10] float32
    skinning: csr_array  # [V,24] float32, the heaviest joint of a vertex first
    parents: np.ndarray  # [24] int64
    faces: np.ndarray  # [F,3] int32
    face_part: np.ndarray  # [F] uint8
    face_uv: np.ndarray  # [F,3,2] float32
    vertex_part: np.ndarray  # [V] uint8, the part of one of the faces around a vertex
    landmarks: csr_array  # [30,V] float32, 21 surface points and 9 regressed points
    landmark_template: np.ndarray  # [30,3] float32, those points on the template


def make_assets(body: BodyModel, atlas: Atlas, surface: Regressor, extra: Regressor) -> PeopleAssets:
    """Precompute the generator's tables.

    Args:
        surface: the 21 points of `skeleton.VERTEX_JOINT_NAMES`.
        extra: the 9 points of `skeleton.EXTRA_JOINT_NAMES`.
    Raises:
        ValueError: when the files belong to different bodies or the body has pose correctives.
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
    landmarks = np.concatenate([surface.matrix, extra.matrix])
    regressor = np.asarray(body.J_regressor, np.float64)
    return PeopleAssets(
        v_template=template,
        shapedirs=np.ascontiguousarray(np.moveaxis(shapedirs, 2, 0)),
        joint_template=np.float32(np.einsum("jv,vc->jc", regressor, template)),
        joint_shapedirs=np.float32(np.einsum("jv,vck->jck", regressor, shapedirs)),
        skinning=_sparse_weights(np.asarray(body.weights, np.float64)),
        parents=np.asarray(body.parents, np.int64),
        faces=faces,
        face_part=np.ascontiguousarray(atlas.face_part, np.uint8),
        face_uv=np.ascontiguousarray(atlas.face_uv, np.float32),
        vertex_part=vertex_part,
        landmarks=csr_array(np.float32(landmarks)),
        landmark_template=np.float32(np.einsum("nv,vc->nc", landmarks, template)),
    )


def _sparse_weights(weights: np.ndarray) -> csr_array:
    """Skinning weights [V,24] of as many joints as one vertex needs, in the order of their weight."""
    count = int((weights > 1e-4).sum(1).max())
    joint = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(weights, joint, axis=1)
    chosen = np.float32(chosen / chosen.sum(1, keepdims=True))
    starts = np.arange(0, chosen.size + 1, count)
    return csr_array((chosen.reshape(-1), joint.reshape(-1), starts), shape=weights.shape)


@functools.cache
def load_assets() -> PeopleAssets:
    """The tables of the open body that ships with the project."""
    body = load_open_body()
    extra = read_regressor(OPEN_DIR / "regressors.npz", "extra")
    return make_assets(body, load_open_atlas(), surface_points(body), extra)


@dataclass(frozen=True)
class PosedBody:
    """A body and its parameters, in the camera's frame before the camera's translation, metres."""

    rotvec: np.ndarray  # [24,3] float64, axis-angle; the root is the camera-frame orientation
    betas: np.ndarray  # [10] float32
    vertices: np.ndarray  # [V,3] float32
    normals: np.ndarray  # [V,3] float32, unit
    smpl_joints: np.ndarray  # [24,3] float32
    joints: np.ndarray  # [49,3] float32


def pose_body(assets: PeopleAssets, rotvec: np.ndarray, betas: np.ndarray) -> PosedBody:
    """Pose the body: `rotvec` [24,3] axis-angle, `betas` [10]."""
    rotvec, betas = np.float64(rotvec).reshape(24, 3), np.float32(betas)
    rest_joints = assets.joint_template + (assets.joint_shapedirs * betas).sum(2)
    rotmat = Rotation.from_rotvec(rotvec).as_matrix()
    transforms, smpl_joints = _kinematics(rotmat, np.float64(rest_joints), assets.parents)
    shaped = assets.v_template
    for direction, beta in zip(assets.shapedirs, betas, strict=True):
        shaped = shaped + direction * beta
    blended = (assets.skinning @ transforms.reshape(24, 12)).reshape(-1, 3, 4)
    vertices = blended[:, :, 3]
    for axis in range(3):
        vertices = vertices + blended[:, :, axis] * shaped[:, axis, None]
    candidates = np.concatenate([smpl_joints, assets.landmarks @ vertices])
    joints = candidates[np.array(JOINT49_FROM_54)]
    return PosedBody(rotvec, betas, vertices, _vertex_normals(vertices, assets.faces), smpl_joints, joints)


def _kinematics(rotmat: np.ndarray, joints: np.ndarray, parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skinning transforms [24,3,4] and posed joints [24,3] of rotations [24,3,3] and resting joints [24,3]."""
    turns, posed = rotmat.copy(), joints.copy()
    for joint, parent in enumerate(parents[1:], start=1):
        turns[joint] = turns[parent] @ rotmat[joint]
        posed[joint] = posed[parent] + turns[parent] @ (joints[joint] - joints[parent])
    shift = posed - np.einsum("jrc,jc->jr", turns, joints)
    return np.float32(np.concatenate([turns, shift[..., None]], axis=2)), np.float32(posed)


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V,3] of the mesh, weighted by face area."""
    normals = _add_face_normals(vertices, faces)
    x, y, z = normals.T
    length = np.sqrt(x**2 + y**2 + z**2).astype(np.float64) + 1e-12
    return np.float32(normals / length[:, None])


@compiled()
def _add_face_normals(vertices, faces):
    normals = np.zeros_like(vertices)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        for axis in range(3):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            cross = (vertices[b, i] - vertices[a, i]) * (vertices[c, j] - vertices[a, j])
            cross -= (vertices[b, j] - vertices[a, j]) * (vertices[c, i] - vertices[a, i])
            for vertex in (a, b, c):
                normals[vertex, axis] += cross
    return normals


def project(points: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Points [N,3] in metres -> x, y in pixels of the crop and depth, [N,3] float32; cam: docs/method.md 2.3."""
    s, tx, ty = (float(c) for c in cam)
    moved = np.float64(points) + [tx, ty, 2 * FOCAL_LENGTH / (CROP_SIZE * s + 1e-9)]
    xy = FOCAL_LENGTH * moved[:, :2] / moved[:, 2:] + CROP_SIZE / 2
    return np.concatenate([xy, moved[:, 2:]], axis=1).astype(np.float32)


def to_ndc(pixels: np.ndarray, x: int = 0, y: int = 0, side: int = CROP_SIZE) -> np.ndarray:
    """Projected points [N,3] -> the rasteriser's frame of a square of the image: [-1,1], y up, depth.

    Args:
        pixels: x, y in pixels and depth.
        x, y, side: corner and side of the square.
    """
    scale = np.array([2 / side, -2 / side, 1], pixels.dtype)
    return (pixels - np.array([x, y, 0], pixels.dtype)) * scale + np.array([-1, 1, 0], pixels.dtype)
