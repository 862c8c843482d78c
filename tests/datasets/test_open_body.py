"""The open body as it ships, and the steps that build it: mesh, parts, regressors, motion clips."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from data.open.build import motions as motion_clips
from data.open.build import people as open_people
from utils.body import load_open_atlas, load_open_body, surface_points
from utils.io import load_npz
from utils.skeleton import (
    EXTRA_JOINT_NAMES,
    H36M17_NAMES,
    SMPL_FLIP,
    SMPL_JOINT_NAMES,
    SMPL_PARENTS,
    VERTEX_JOINT_NAMES,
)
from utils.structures import require_same_body

X = np.array([-1.0, 1.0, 1.0])
RIGHT_PARTS = (3, 6, 7, 9, 11, 13, 16, 18, 20, 22, 23)
FILES = ("body", "atlas", "regressors", "motions")
ROWS = (("vertex_joints", VERTEX_JOINT_NAMES), ("extra", EXTRA_JOINT_NAMES), ("h36m", H36M17_NAMES))
# SMPL's rest pose: hips, knees and ankles, arms level, as its published template has them (metres).
SMPL_REST = {
    "left_knee": (0.10, -0.69, 0.02),
    "left_ankle": (0.09, -1.09, -0.03),
    "left_elbow": (0.43, 0.21, -0.04),
}


@pytest.fixture(scope="module")
def files(request) -> dict[str, dict[str, np.ndarray]]:
    return {name: load_npz(request.config.rootpath / "data" / "open" / f"{name}.npz") for name in FILES}


@pytest.fixture(scope="module")
def body(files) -> dict[str, np.ndarray]:
    return files["body"]


@pytest.fixture(scope="module")
def points(files) -> dict[str, np.ndarray]:
    """Every named point of the T-pose: prefix smpl_, then the three regressors' own names."""
    template = files["body"]["v_template"].astype(np.float64)
    joints = files["body"]["J_regressor"] @ template
    named = {f"smpl_{name}": point for name, point in zip(SMPL_JOINT_NAMES, joints, strict=True)}
    for key, names in ROWS:
        rows = files["regressors"][key] @ template
        named |= {f"{key}_{name}": point for name, point in zip(names, rows, strict=True)}
    return named


def mirror_names(names) -> list[int]:
    """The index of the other side's name, for every name."""
    swap = {"left": "right", "right": "left"}
    other = ["_".join(swap.get(word, word) for word in name.split("_")) for name in names]
    return [list(names).index(name) for name in other]


def edges_of(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def pieces(faces: np.ndarray) -> int:
    """Number of sets of faces connected across edges."""
    edges = np.sort(edges_of(faces), axis=1)
    _, number = np.unique(edges, axis=0, return_inverse=True)
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.argsort(number.ravel(), kind="stable")
    same = np.diff(number.ravel()[order]) == 0
    pairs = owner[order][:-1][same], owner[order][1:][same]
    graph = sparse.coo_matrix((np.ones(len(pairs[0])), pairs), shape=(len(faces),) * 2)
    return connected_components(graph, directed=False)[0]


def test_files_have_the_sizes_of_smpl(files):
    body, atlas = files["body"], files["atlas"]
    assert body["v_template"].shape == (6890, 3) and body["shapedirs"].shape == (6890, 3, 10)
    assert body["weights"].shape == (6890, 24) and body["J_regressor"].shape == (24, 6890)
    assert body["f"].shape == (13776, 3) and atlas["face_uv"].shape == (13776, 3, 2)
    assert {key: files["regressors"][key].shape for key, _ in ROWS} == {
        "vertex_joints": (21, 6890), "extra": (9, 6890), "h36m": (17, 6890),
    }  # fmt: skip
    assert tuple(body["kintree_table"][0]) == SMPL_PARENTS


def test_readers_accept_the_files_and_pair_them():
    body, atlas = load_open_body(), load_open_atlas()
    require_same_body(body, atlas)
    require_same_body(body, surface_points(body))
    with pytest.raises(ValueError, match="smpl"):
        require_same_body("smpl", atlas)


def test_mesh_is_one_closed_surface_with_its_outside_outwards(body):
    faces, vertices = body["f"].astype(np.int64), body["v_template"].astype(np.float64)
    edges = edges_of(faces)
    once, count = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    assert (count == 2).all()
    assert len(np.unique(edges, axis=0)) == len(edges)  # each edge once in each direction: one orientation
    assert len(vertices) - len(once) + len(faces) == 2
    assert pieces(faces) == 1
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    assert 0.05 < np.einsum("fi,fi->", a, np.cross(b, c)) / 6 < 0.08  # cubic metres
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-7


def test_halves_are_exact_mirror_images(body, files):
    mirror, flip = body["mirror"], list(SMPL_FLIP)
    assert (mirror[mirror] == np.arange(6890)).all()
    np.testing.assert_array_equal(body["v_template"][mirror] * X, body["v_template"])
    np.testing.assert_array_equal(body["shapedirs"][mirror] * X[:, None], body["shapedirs"])
    np.testing.assert_array_equal(body["weights"][mirror][:, flip], body["weights"])
    np.testing.assert_array_equal(body["J_regressor"][flip][:, mirror], body["J_regressor"])
    for key, names in ROWS:
        names = [name.removesuffix("_lsp") for name in names]
        np.testing.assert_array_equal(
            files["regressors"][key][mirror_names(names)][:, mirror], files["regressors"][key]
        )


def test_weights_are_convex_and_local(body):
    weights, joints = body["weights"], body["J_regressor"] @ body["v_template"]
    assert weights.min() >= 0 and (weights > 0).sum(1).max() <= 5
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    for joint in range(24):
        mine = body["v_template"][weights[:, joint] > 0.8]
        assert len(mine) == 0 or np.linalg.norm(mine - joints[joint], axis=1).max() < 0.5


def test_shape_numbers_span_adults_and_have_their_signs(body):
    template, faces = body["v_template"].astype(np.float64), body["f"]
    assert 1.68 <= np.ptp(template[:, 1]) <= 1.73  # metres
    top, sole = template[:, 1].argmax(), template[:, 1].argmin()
    grow = body["shapedirs"][top, 1] - body["shapedirs"][sole, 1]
    assert 0.06 < grow[0] < 0.12 and (np.abs(grow[1:]) < 0.03).all()
    size = (body["shapedirs"].astype(np.float64) ** 2).sum((0, 1))
    assert (np.diff(size) < 0).all()

    def volume(betas):
        a, b, c = ((template + body["shapedirs"] @ betas)[faces[:, i]] for i in range(3))
        return np.einsum("fi,fi->", a, np.cross(b, c)) / 6

    for k in range(1, 10):
        assert volume(0.1 * np.eye(10)[k]) > volume(np.zeros(10))
    heaviest = max(volume(2 * np.eye(10)[k]) for k in range(1, 10))
    assert 1.15 < heaviest / volume(np.zeros(10)) < 1.8  # mass varies beside size


def test_left_is_at_positive_x_in_every_row(points):
    for name, point in points.items():
        side = 1 if "left" in name.split("_") else -1 if "right" in name.split("_") else 0
        assert np.sign(round(point[0], 4)) == side, name


def test_joints_stand_as_smpls_rest_pose(points):
    np.testing.assert_allclose(points["smpl_pelvis"], (0, -0.24, 0.03), atol=1e-3)
    for name, place in SMPL_REST.items():
        assert np.linalg.norm(points[f"smpl_{name}"] - place) < 0.1, name
    thigh = points["smpl_left_knee"] - points["smpl_left_hip"]
    shank = points["smpl_left_ankle"] - points["smpl_left_knee"]
    assert 3 < np.degrees(np.arctan2(thigh[0], -thigh[1])) < 7
    assert -4 < np.degrees(np.arctan2(shank[0], -shank[1])) < 0
    arm = points["smpl_left_wrist"] - points["smpl_left_shoulder"]
    assert arm[0] > 0.98 * np.linalg.norm(arm)
    foot = points["vertex_joints_left_big_toe"] - points["vertex_joints_left_heel"]
    assert foot[2] > 0.95 * np.linalg.norm(foot)


def test_each_part_is_one_piece_on_its_own_side(files, points):
    faces, part = files["body"]["f"], files["atlas"]["face_part"]
    centres = files["body"]["v_template"][faces].mean(1)
    assert set(part) == set(range(1, 25))
    for number in range(1, 25):
        mine = part == number
        assert pieces(faces[mine]) == 1, number
        if number > 2:
            assert ((-1 if number in RIGHT_PARTS else 1) * centres[mine, 0] >= -1e-6).all(), number


def test_front_parts_are_in_front_and_borders_are_straight(files, points):
    faces, part, vertices = files["body"]["f"], files["atlas"]["face_part"], files["body"]["v_template"]
    centre = {number: vertices[faces[part == number]].mean((0, 1)) for number in range(1, 25)}
    for front, back in ((2, 1), (10, 8), (14, 12), (15, 17), (19, 21)):
        assert centre[front][2] > centre[back][2] + 0.02
    knee = points["smpl_left_knee"]
    border = np.intersect1d(faces[np.isin(part, (10, 8))], faces[np.isin(part, (14, 12))])
    assert len(border) > 15 and np.abs(vertices[border, 1] - knee[1]).max() < 0.015
    elbow = points["smpl_left_elbow"]
    border = np.intersect1d(faces[np.isin(part, (15, 17))], faces[np.isin(part, (19, 21))])
    assert len(border) > 10 and np.abs(vertices[border, 0] - elbow[0]).max() < 0.015


def test_charts_fill_the_unit_square_and_mirror(files):
    part, uv = files["atlas"]["face_part"], files["atlas"]["face_uv"]
    assert uv.min() >= 0 and uv.max() <= 1
    for number in range(1, 25):
        chart = uv[part == number].reshape(-1, 2)
        assert (np.ptp(chart, axis=0) > 0.8).all(), number
    half = len(part) // 2
    limbs = part[:half] > 2
    np.testing.assert_array_equal(uv[half:][limbs], uv[:half][limbs][:, ::-1])
    np.testing.assert_allclose(uv[half:][~limbs][..., 0], 1 - uv[:half][~limbs][:, ::-1, 0], atol=1e-6)


def world_rotations(rotvec: np.ndarray) -> np.ndarray:
    """Poses [N,24,3] -> rotations [N,24,3,3] of the joints in the world."""
    local = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    world = [local[:, 0]]
    for joint in range(1, 24):
        world.append(world[SMPL_PARENTS[joint]] @ local[:, joint])
    return np.stack(world, axis=1)


def test_clips_are_complete(files):
    motions = files["motions"]
    assert motions["rotvec"].shape == (1810, 24, 3) and np.isfinite(motions["rotvec"]).all()
    assert len(motions["names"]) == len(motions["fps"]) == 20 == len(set(motions["names"].tolist()))
    assert (np.diff(motions["clip"]) >= 0).all() and set(motions["clip"]) == set(range(20))
    assert {"walk", "run", "jump", "cartwheel", "dance_a", "kick", "crawl"} <= set(motions["names"].tolist())
    assert (np.linalg.norm(motions["rotvec"], axis=-1) < np.pi + 1e-3).all()


def test_elbows_bend_forwards(files):
    rotvec = files["motions"]["rotvec"]
    for elbow, sign in ((18, -1), (19, 1)):
        flexed = np.linalg.norm(rotvec[:, elbow], axis=1) > 0.5
        # In the T-pose the forearm comes to the front about the vertical axis.
        assert flexed.sum() > 300 and (sign * rotvec[flexed, elbow, 1] > 0.4).mean() > 0.95


def test_source_rest_pose_becomes_straight_limbs():
    """A frame without rotation: legs and arms straight down, feet and face forward."""
    frame = np.zeros((1, 44))
    frame[0, [4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1
    world = world_rotations(motion_clips.smpl_poses(frame))[0]
    for joint, direction in open_people.REST_DIRECTION.items():
        if joint == 20:
            continue
        for number, sign in ((joint, 1), (SMPL_FLIP[joint], X)):
            turned = world[number] @ (np.array(direction) * sign)
            np.testing.assert_allclose(turned / np.linalg.norm(turned), (0, -1, 0), atol=1e-6)
    toes = np.array([np.sin(open_people.FOOT_YAW), 0, np.cos(open_people.FOOT_YAW)])
    np.testing.assert_allclose(world[7] @ toes, (0, 0, 1), atol=1e-6)
    np.testing.assert_allclose(world[8] @ (toes * X), (0, 0, 1), atol=1e-6)


def test_a_clip_of_another_robot_is_refused(tmp_path):
    (tmp_path / "dog.txt").write_text('{"Frames": [[0.1, 1, 2]]}')
    with pytest.raises(ValueError, match="44 numbers"):
        motion_clips.read_clip(tmp_path / "dog.txt")
