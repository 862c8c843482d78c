"""Exports of a person: other programs' readers, our own evaluators of their formats, and round trips."""

from __future__ import annotations

import dataclasses
import io
import sys

import cv2
import numpy as np
import pytest
import torch
import trimesh
from export_people import ASSETS, CENTER, IMAGE_SIZE, SCALE, bending_body, layer, make_person
from export_readers import bvh_positions, read_accessor, read_glb, skinned
from PIL import Image
from scipy.spatial.transform import Rotation

from utils.export import EXPORTS, ExportMotion, check_formats, require_export_packages, write_exports
from utils.export.gltf import influences
from utils.export.motion import Y_UP, Z_UP
from utils.export.params import humans4d_arrays
from utils.file_marks import DEMO, is_marked
from utils.geometry import batch_rodrigues, nearest_rotations, project_to_crop
from utils.safe_io import load_npz
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES, SMPL_PARENTS


@pytest.fixture(scope="module")
def person() -> ExportMotion:
    return make_person()


@pytest.fixture(scope="module")
def files(person, tmp_path_factory):
    stem = tmp_path_factory.mktemp("exports") / "a.b"
    return {path.name.removeprefix("a.b."): path for path in write_exports(stem, EXPORTS, person)}


# ------------------------------------------------------------------------------------------------------ meshes


@pytest.mark.parametrize("kind, turn, up", [("obj", Y_UP, 1), ("ply", Z_UP, 2)])
def test_trimesh_reads_the_posed_mesh_upright(kind, turn, up, person, files):
    mesh = trimesh.load(files[kind], process=False)
    wanted = person.arrays["vertices"][0] @ turn.T
    assert np.allclose(mesh.vertices, wanted, atol=1e-5)
    assert np.array_equal(mesh.faces, person.body.faces)
    assert mesh.is_watertight and mesh.volume > 0.03  # faces look outwards: the turn is no mirror
    head = person.body.weights[:, 15] > 0.9
    feet = (person.body.weights[:, 10] > 0.9) | (person.body.weights[:, 11] > 0.9)
    assert mesh.vertices[head, up].mean() > mesh.vertices[feet, up].mean() + 0.8
    assert "metres" in files[kind].read_bytes()[:400].decode("latin-1")


def test_trimesh_reads_the_resting_mesh_of_the_glb_upright(person, files):
    scene = trimesh.load(files["glb"], process=False)
    (mesh,) = scene.geometry.values()
    vertices, joints = person.rest()
    assert np.allclose(mesh.vertices, vertices, atol=1e-6) and np.array_equal(mesh.faces, person.body.faces)
    assert mesh.bounds[1, 1] > joints[15, 1] > joints[0, 1] > joints[7, 1] > mesh.bounds[0, 1]


# --------------------------------------------------------------------------------------------------------- GLB


@pytest.mark.parametrize("make", [lambda: ASSETS.body, bending_body], ids=["open", "with correctives"])
def test_a_viewer_poses_the_glb_as_the_body_layer_does(make, tmp_path):
    person = make_person(make())
    (path,) = write_exports(tmp_path / "p", ["glb"], person)
    assert np.abs(skinned(path.read_bytes()) - person.arrays["vertices"][0] @ Y_UP.T).max() < 1e-4


def test_the_glb_names_its_joints_and_says_its_frame(person, files):
    document, binary = read_glb(files["glb"].read_bytes())
    assert is_marked(files["glb"], DEMO) and is_marked(files["obj"], DEMO) and is_marked(files["ply"], DEMO)
    assert [node["name"] for node in document["nodes"][:24]] == SMPL_JOINT_NAMES
    extras = document["asset"]["extras"]
    assert extras["units"] == "metres" and "y up" in extras["axes"] and "danet-open-1" in extras["source"]
    assert np.allclose(extras["betas"], person.arrays["betas"][0])
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    assert np.allclose(np.linalg.norm(read_accessor(document, binary, attributes["NORMAL"]), axis=1), 1)
    weights = np.concatenate([read_accessor(document, binary, attributes[f"WEIGHTS_{i}"]) for i in (0, 1)], 1)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6) and (np.diff(weights, axis=1) <= 1e-6).all()


def test_few_weights_need_one_set_and_unused_places_are_zero():
    weights = np.zeros((2, 24))
    weights[0, [3, 9]], weights[1, 5] = (0.25, 0.75), 1
    ((numbers, shares),) = influences(weights)
    assert numbers.tolist() == [[9, 3, 0, 0], [5, 0, 0, 0]]
    assert np.allclose(shares, [[0.75, 0.25, 0, 0], [1, 0, 0, 0]])


# --------------------------------------------------------------------------------------------------------- BVH


def test_bvh_kinematics_give_the_joints(person, files):
    found = bvh_positions(files["bvh"].read_text())
    ends = [name for name in found if name.endswith(" end")]
    assert set(found) - set(ends) == set(SMPL_JOINT_NAMES)
    wanted = person.arrays["smpl_joints"][0] @ Y_UP.T
    for joint, name in enumerate(SMPL_JOINT_NAMES):
        assert np.abs(found[name] - wanted[joint]).max() < 1e-4, name
    assert sorted(e.removesuffix(" end") for e in ends) == sorted(
        name for joint, name in enumerate(SMPL_JOINT_NAMES) if joint not in SMPL_PARENTS
    )
    assert 0.1 < np.linalg.norm(found["head end"] - found["head"]) < 0.35


# -------------------------------------------------------------------------------------------------- parameters


def test_amass_numbers_pose_the_body_in_its_frame(person, files):
    data = load_npz(files["amass.npz"])
    assert data["poses"].shape == (1, 156) and not data["poses"][:, 66:].any()
    assert data["trans"].shape == (1, 3) and data["betas"].shape == (16,) and data["dmpls"].shape == (1, 8)
    assert str(data["gender"]) == "neutral" and float(data["mocap_framerate"]) == 30
    rotmat = torch.tensor(person.arrays["rotmat"][0])
    rotmat[:22] = batch_rodrigues(torch.tensor(data["poses"][0, :66], dtype=torch.float32).view(22, 3))
    betas = torch.tensor(data["betas"][:10], dtype=torch.float32)
    vertices = layer(person.body)(rotmat[None], betas[None]).vertices[0].numpy() + data["trans"][0]
    assert np.abs(vertices - person.arrays["vertices"][0] @ Z_UP.T).max() < 1e-4
    assert "z up" in str(data["axes"]) and "danet-open-1" in str(data["notes"])


def test_vibe_numbers_are_the_same_person(person, files):
    data = load_npz(files["vibe.npz"])
    arrays = {name: array[0] for name, array in person.arrays.items()}
    for theirs, ours in (
        ("pred_cam", "cam"),
        ("verts", "vertices"),
        ("betas", "betas"),
        ("joints3d", "joints"),
    ):
        assert np.array_equal(data[theirs][0], arrays[ours]), theirs
    again = batch_rodrigues(torch.tensor(data["pose"]).view(24, 3))
    assert np.allclose(again, arrays["rotmat"], atol=1e-5)
    side = 200 * SCALE
    assert np.allclose(data["bboxes"], [[*CENTER, side, side]]) and data["frame_ids"].tolist() == [0]
    assert tuple(data["joint_names"]) == JOINT_NAMES
    # Weak cameras of crop and picture see a point in the same pixel.
    point, (s, tx, ty) = np.array([0.2, -0.4]), arrays["cam"]
    in_crop = np.array(CENTER) + s * (point + [tx, ty]) * side / 2
    sx, sy, fx, fy = data["orig_cam"][0]
    in_picture = (np.array([sx, sy]) * (point + [fx, fy]) + 1) * np.array(IMAGE_SIZE) / 2
    assert np.allclose(in_crop, in_picture, atol=1e-3)
    crop = project_to_crop(torch.tensor(arrays["joints"])[None], torch.tensor(arrays["cam"])[None])[0].numpy()
    assert np.allclose(data["joints2d_img_coord"][0], np.array(CENTER) + crop * side / 2, atol=1e-2)


def test_4d_humans_confidence_is_a_number_where_no_detector_scored(person):
    assert humans4d_arrays(person)["conf"] == np.float32(0.9)
    arrays = {**person.arrays, "confidence": np.float32([0.75]), "score": np.array([np.nan])}
    unscored = dataclasses.replace(person, arrays=arrays)
    assert humans4d_arrays(unscored)["conf"].tolist() == [0.75]


def test_4d_humans_numbers_are_the_same_person(person, files):
    data = load_npz(files["4dhumans.npz"])
    assert data["smpl_global_orient"].shape == (1, 1, 3, 3) and data["smpl_body_pose"].shape == (1, 23, 3, 3)
    rotmat = np.concatenate([data["smpl_global_orient"], data["smpl_body_pose"]], axis=1)[0]
    assert np.allclose(rotmat, person.arrays["rotmat"][0], atol=1e-5)
    assert data["3d_joints"].shape == (1, 45, 3) and len(data["joint_names"]) == 45
    assert np.array_equal(data["3d_joints"][0, :24], person.arrays["smpl_joints"][0])
    nose = list(data["joint_names"]).index("nose")
    ours = person.arrays["joints"][0][JOINT_NAMES.index("nose")]
    assert np.allclose(data["3d_joints"][0, nose], ours, atol=1e-5)
    # The camera of the whole picture sees the body where the crop's camera does, up to perspective.
    moved = data["3d_joints"][0] + data["camera"][0]
    seen = data["focal_length"][0] * moved[:, :2] / moved[:, 2:] + np.array(IMAGE_SIZE) / 2
    assert np.abs(seen - data["2d_joints"][0]).max() < 25
    assert data["size"].tolist() == [[480, 640]] and data["tid"].tolist() == [2]


def test_densepose_picture_has_detectron2s_order(person, files):
    data = files["densepose.png"].read_bytes()
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (224, 224, 3)
    assert np.array_equal(picture[::4, ::4].transpose(2, 0, 1), person.arrays["iuv"][0])
    assert np.array_equal(picture[3::4, 3::4], picture[::4, ::4])
    with Image.open(io.BytesIO(data)) as read:
        assert "part 0..24, 255 U, 255 V" in read.text["Description"]


# --------------------------------------------------------------------------------------------------- the rest


def test_matrices_that_are_no_rotations_become_the_nearest_ones():
    turn = Rotation.from_rotvec([0.3, -0.2, 0.9]).as_matrix()
    assert np.allclose(nearest_rotations(1.3 * turn[None]), turn)
    mirrored = nearest_rotations(np.diag([1.0, 0.9, -0.2])[None])
    assert np.allclose(mirrored, np.eye(3)) and np.linalg.det(mirrored[0]) > 0


def test_an_unknown_format_is_named():
    with pytest.raises(ValueError, match="any of obj, ply, .*it was given fbx"):
        check_formats(["obj", "fbx"])


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    require_export_packages(EXPORTS)
    for name, package in (("glb", "pygltflib"), ("ply", "trimesh")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=f"{name} needs {package}: pip install -r requirements-export.txt"):
            require_export_packages(["bvh", name])
    require_export_packages(["bvh", "amass", "densepose"])


def test_a_failed_write_leaves_no_file(person, tmp_path):
    (tmp_path / "p.obj").mkdir()
    with pytest.raises(OSError):
        write_exports(tmp_path / "p", ["obj"], person)
    assert [path.name for path in tmp_path.iterdir()] == ["p.obj"]
