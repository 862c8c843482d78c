"""Exports of a still and of a track: other programs' readers, our own evaluators of their formats, round trips."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import sys

import cv2
import numpy as np
import pytest
import torch
import trimesh
from export_people import ASSETS, IMAGE_SIZE, bending_body, layer, make_motion, make_person, moving_body
from export_readers import bvh_frames, bvh_positions, read_accessor, read_glb, skinned
from PIL import Image
from scipy.spatial.transform import Rotation

from utils.export import EXPORTS, ExportMotion, check_formats, require_export_packages, write_exports
from utils.export.bvh import MIXAMO_NAMES
from utils.export.formats import STILL_EXPORTS, VIDEO_EXPORTS
from utils.export.motion import Y_UP, Z_UP
from utils.export.tables import joint_angles
from utils.geometry import project_to_crop
from utils.io import load_npz
from utils.io.marks import DEMO, DEMO_MARKS, is_marked
from utils.skeleton import JOINT_NAMES, SMPL_JOINT_NAMES, SMPL_PARENTS


@pytest.fixture(scope="module")
def still() -> ExportMotion:
    return make_person()


@pytest.fixture(scope="module", params=["still", "track"])
def motion(request, still) -> ExportMotion:
    return still if request.param == "still" else make_motion()


@pytest.fixture(scope="module")
def files(motion, tmp_path_factory):
    stem = tmp_path_factory.mktemp("exports") / "a.b"
    return {path.name.removeprefix("a.b."): path for path in write_exports(stem, VIDEO_EXPORTS, motion)}


@pytest.mark.parametrize("kind, turn, up", [("obj", Y_UP, 1), ("ply", Z_UP, 2)])
def test_trimesh_reads_the_posed_mesh_upright(kind, turn, up, still, tmp_path):
    (path,) = write_exports(tmp_path / "p", [kind], still)
    mesh = trimesh.load(path, process=False)
    assert np.allclose(mesh.vertices, still.vertices[0] @ turn.T, atol=1e-5)
    assert np.array_equal(mesh.faces, still.body.faces)
    assert mesh.is_watertight and mesh.volume > 0.03  # faces look outwards: the turn is no mirror
    head = still.body.weights[:, 15] > 0.9
    feet = (still.body.weights[:, 10] > 0.9) | (still.body.weights[:, 11] > 0.9)
    assert mesh.vertices[head, up].mean() > mesh.vertices[feet, up].mean() + 0.8
    assert "metres" in path.read_bytes()[:400].decode("latin-1") and is_marked(path, DEMO)


@pytest.mark.parametrize("body", [ASSETS.body, bending_body()], ids=["open", "with correctives"])
def test_a_viewer_poses_the_glb_as_the_body_layer_does(body, tmp_path):
    still, track = make_person(body), make_motion(body=body)
    (path,) = write_exports(tmp_path / "p", ["glb"], still)
    assert np.abs(skinned(path.read_bytes()) - still.vertices[0] @ Y_UP.T).max() < 1e-4
    assert "animations" not in read_glb(path.read_bytes())[0]

    (path,) = write_exports(tmp_path / "t", ["glb"], track)
    plain = dataclasses.replace(track, body=dataclasses.replace(body, posedirs=None))  # no one pose's correctives
    vertices, data = moving_body(plain)[0] @ Y_UP.T, path.read_bytes()
    for key in (0, 8, len(track) - 1):
        assert np.abs(skinned(data, key) - vertices[key]).max() < 1e-4
    assert np.abs(skinned(data) - vertices[0]).max() < 1e-4  # as the file opens: its first frame
    assert "without correctives" in read_glb(data)[0]["asset"]["extras"]["mesh"]


def test_the_glb_names_its_joints_and_says_its_frame(motion, files):
    document, binary = read_glb(files["glb"].read_bytes())
    assert is_marked(files["glb"], DEMO)
    assert [node["name"] for node in document["nodes"][:24]] == SMPL_JOINT_NAMES
    extras = document["asset"]["extras"]
    assert extras["units"] == "metres" and "y up" in extras["axes"] and "danet-open-1" in extras["source"]
    assert np.allclose(extras["betas"], motion.betas())
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    assert np.allclose(np.linalg.norm(read_accessor(document, binary, attributes["NORMAL"]), axis=1), 1)
    weights = np.concatenate([read_accessor(document, binary, attributes[f"WEIGHTS_{i}"]) for i in (0, 1)], 1)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6) and (np.diff(weights, axis=1) <= 1e-6).all()


def test_the_glb_has_the_camera_of_the_image(still, tmp_path):
    (path,) = write_exports(tmp_path / "p", ["glb"], still)
    document, _ = read_glb(path.read_bytes())
    view = document["cameras"][0]["perspective"]
    (node,) = [node for node in document["nodes"] if "camera" in node]
    seen = skinned(path.read_bytes()) - node["translation"]  # y up, the camera looks along -z
    height = 1 / np.tan(view["yfov"] / 2)
    found = np.column_stack([seen[:, 0] / view["aspectRatio"], -seen[:, 1]]) / -seen[:, 2:] * height
    points = still.vertices[0] + still.arrays["cam_t_full"]
    pixels = still.facts["focal_length_full"] * points[:, :2] / points[:, 2:]
    assert np.allclose((found * np.array(IMAGE_SIZE) / 2), pixels, atol=0.05)


def test_bvh_kinematics_give_the_joints_of_every_frame(motion, files):
    text = files["bvh"].read_text()
    time, values = bvh_frames(text)
    first, last = motion.frame_ids[[0, -1]]
    assert time == pytest.approx(1 / motion.fps) and len(values) == last - first + 1
    joints = moving_body(motion)[1] @ Y_UP.T
    for frame in {0, len(motion) // 3, len(motion) - 1}:
        found = bvh_positions(text, motion.frame_ids[frame] - first)
        wanted = dict(zip(SMPL_JOINT_NAMES, joints[frame], strict=True))
        assert max(np.abs(found[name] - wanted[name]).max() for name in wanted) < 1e-4
    ends = {name.removesuffix(" end") for name in set(found) - set(SMPL_JOINT_NAMES)}
    assert ends == {name for joint, name in enumerate(SMPL_JOINT_NAMES) if joint not in SMPL_PARENTS}
    assert 0.1 < np.linalg.norm(found["head end"] - found["head"]) < 0.35


def test_the_mixamo_file_differs_in_names_alone(files):
    text = files["mixamo.bvh"].read_text()
    for smpl, mixamo in zip(SMPL_JOINT_NAMES, MIXAMO_NAMES, strict=True):
        text = re.sub(f"{mixamo}$", smpl, text, flags=re.MULTILINE)
    assert text == files["bvh"].read_text()
    assert is_marked(files["mixamo.bvh"], *DEMO_MARKS)


def test_tables_hold_the_joints_of_the_moving_body(motion, files):
    path = motion.arrays["cam_t_full"] - motion.arrays["cam_t_full"][:1]
    joints = (motion.arrays["smpl_joints"] + path[:, None]) @ Y_UP.T
    header, *rows = list(csv.reader(files["csv"].read_text().splitlines()))
    table = np.array(rows, float)
    assert np.array_equal(table[:, 0], motion.frame_ids) and np.allclose(table[:, 1], motion.seconds, atol=1e-6)
    found = table[:, 2 : 2 + 72].reshape(-1, 24, 3)
    assert np.allclose(found, joints, atol=2e-6) and header[2:5] == ["pelvis_x_m", "pelvis_y_m", "pelvis_z_m"]
    assert is_marked(files["csv"], *DEMO_MARKS)

    lines = files["trc"].read_text().split("\n")
    names = lines[3].rstrip("\t").split("\t")[2::3]
    count, markers = map(int, lines[2].split("\t")[2:4])
    values = np.array([line.split("\t") for line in lines[6:] if line], float)
    assert markers == len(names) == 45 and names[:24] == SMPL_JOINT_NAMES and "nose" in names
    assert lines[4].split("\t")[2:6] == ["X1", "Y1", "Z1", "X2"] and lines[2].split("\t")[4] == "m"
    assert values.shape == (count, 2 + 3 * 45) and count == motion.frame_ids[-1] - motion.frame_ids[0] + 1
    there = motion.frame_ids - motion.frame_ids[0]
    assert np.allclose(values[there, 2:74].reshape(-1, 24, 3), joints, atol=2e-6)
    assert np.allclose(np.diff(values[:, 1]), 1 / motion.rate, atol=2e-6) and is_marked(files["trc"], DEMO)


@pytest.mark.parametrize(
    ("joint", "turn", "name", "degrees"),
    [
        ("left_knee", (40, 0, 0), "left_knee_flexion", 40),
        ("right_hip", (-60, 0, 0), "right_hip_flexion", 60),
        ("left_hip", (0, 0, 25), "left_hip_abduction", 25),
        ("right_hip", (0, 0, -25), "right_hip_abduction", 25),
        ("left_hip", (0, 30, 0), "left_hip_external_rotation", 30),
        ("right_ankle", (-15, 0, 0), "right_ankle_dorsiflexion", 15),
        ("left_elbow", (0, -80, 0), "left_elbow_flexion", 80),
        ("right_elbow", (0, 80, 0), "right_elbow_flexion", 80),
        ("left_shoulder", (0, 0, -90), "left_shoulder_elevation", 0),
        ("right_shoulder", (0, 0, 60), "right_shoulder_elevation", 30),
        ("left_shoulder", (0, -90, 0), "left_shoulder_plane", 90),
        ("right_shoulder", (0, 90, 0), "right_shoulder_plane", 90),
        ("spine2", (20, 0, 0), "trunk_flexion", 20),
        ("neck", (0, 35, 0), "head_rotation_left", 35),
        ("pelvis", (0, 50, 0), "pelvis_heading", 50),
    ],
)
def test_angles_are_those_of_single_turns(joint, turn, name, degrees):
    """A person in the T pose faces +z, the left hand at +x."""
    rotmat = np.tile(np.eye(3), (1, 24, 1, 1))
    at_rest = joint_angles(rotmat)
    rotmat[0, SMPL_JOINT_NAMES.index(joint)] = Rotation.from_rotvec(np.radians(turn)).as_matrix()
    angles = joint_angles(rotmat)
    assert angles[name] == pytest.approx(degrees, abs=1e-6)
    if "shoulder" not in name:
        others = {key for key in angles if key != name}
        assert all(angles[key] == pytest.approx(at_rest[key], abs=1e-6) for key in others)
    expected = {"left_shoulder_elevation": 90, "right_shoulder_elevation": 90}
    assert all(value == pytest.approx(expected.get(key, 0), abs=1e-6) for key, value in at_rest.items())


def test_amass_numbers_move_the_body_in_its_frame(motion, files):
    data = load_npz(files["amass.npz"])
    there = motion.frame_ids - motion.frame_ids[0]
    count = there[-1] + 1
    assert data["poses"].shape == (count, 156) and not data["poses"][:, 66:].any()
    assert data["trans"].shape == (count, 3) and data["dmpls"].shape == (count, 8) and data["betas"].shape == (16,)
    assert str(data["gender"]) == "neutral" and float(data["mocap_framerate"]) == motion.fps
    rotmat = Rotation.from_rotvec(data["poses"][there, :66].reshape(-1, 3)).as_matrix().reshape(-1, 22, 3, 3)
    assert np.allclose(rotmat[:, 1:], motion.arrays["rotmat"][:, 1:22], atol=1e-5)
    assert np.allclose(Z_UP.T @ rotmat[:, 0], motion.arrays["rotmat"][:, 0], atol=1e-5)
    every = torch.tensor(motion.arrays["rotmat"])
    every[:, :22] = torch.tensor(rotmat, dtype=torch.float32)
    betas = torch.tensor(data["betas"][:10], dtype=torch.float32).expand(len(every), -1)
    vertices = layer(motion.body)(every, betas).vertices.numpy() + data["trans"][there, None]
    assert np.abs(vertices - moving_body(motion)[0] @ Z_UP.T).max() < 1e-4
    place = "at its own origin" if motion.is_still else "starts at its own origin"
    assert "z up" in str(data["axes"]) and "danet-open-1" in str(data["notes"]) and place in str(data["notes"])


def test_vibe_numbers_are_the_same_person_in_the_same_frames(motion, files):
    data, arrays = load_npz(files["vibe.npz"]), motion.arrays
    assert np.array_equal(data["frame_ids"], motion.frame_ids)
    assert np.allclose(data["seconds"] * motion.fps, motion.frame_ids)
    for theirs, ours in (("pred_cam", "cam"), ("betas", "betas"), ("joints3d", "joints")):
        assert np.array_equal(data[theirs], arrays[ours]), theirs
    rotmat, betas = torch.tensor(arrays["rotmat"]), torch.tensor(arrays["betas"])
    assert np.allclose(data["verts"], layer(motion.body)(rotmat, betas).vertices, atol=1e-6)
    again = Rotation.from_rotvec(data["pose"].reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    assert np.allclose(again, arrays["rotmat"], atol=1e-5)
    side = 200 * arrays["scale"][:, None]
    assert np.allclose(data["bboxes"], np.column_stack([arrays["center"], side, side]))
    assert tuple(data["joint_names"]) == JOINT_NAMES
    crop = project_to_crop(torch.tensor(arrays["joints"]), torch.tensor(arrays["cam"])).numpy()
    wanted = arrays["center"][:, None] + crop * side[:, None] / 2
    assert np.allclose(data["joints2d_img_coord"], wanted, atol=1e-2)
    # Weak cameras of crop and image see a point in the same pixel.
    point, cam, full = np.array([0.2, -0.4]), arrays["cam"], data["orig_cam"]
    in_crop = arrays["center"] + cam[:, :1] * (point + cam[:, 1:]) * side / 2
    in_image = (full[:, :2] * (point + full[:, 2:]) + 1) * np.array(IMAGE_SIZE) / 2
    assert np.allclose(in_crop, in_image, atol=1e-3)


def test_4d_humans_numbers_are_the_same_person_in_the_same_frames(motion, files):
    data, count = load_npz(files["4dhumans.npz"]), len(motion)
    assert data["smpl_global_orient"].shape == (count, 1, 3, 3) and data["smpl_body_pose"].shape == (count, 23, 3, 3)
    rotmat = np.concatenate([data["smpl_global_orient"], data["smpl_body_pose"]], axis=1)
    assert np.allclose(rotmat, motion.arrays["rotmat"], atol=1e-5)
    assert data["tid"].tolist() == [motion.facts["track_id"]] * count
    assert np.array_equal(data["time"], motion.frame_ids) and data["size"].tolist() == [[480, 640]] * count
    assert data["3d_joints"].shape == (count, 45, 3) and len(data["joint_names"]) == 45
    assert np.array_equal(data["3d_joints"][:, :24], motion.arrays["smpl_joints"])
    nose = data["3d_joints"][:, list(data["joint_names"]).index("nose")]
    assert np.allclose(nose, motion.arrays["joints"][:, JOINT_NAMES.index("nose")], atol=1e-5)
    # The camera of the whole image sees the body where the crop's camera does, up to perspective.
    moved = data["3d_joints"] + data["camera"][:, None]
    seen = data["focal_length"][0] * moved[..., :2] / moved[..., 2:] + np.array(IMAGE_SIZE) / 2
    assert np.abs(seen - data["2d_joints"]).max() < 30


def test_densepose_image_has_detectron2s_order(still, tmp_path):
    (path,) = write_exports(tmp_path / "p", ["densepose"], still)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image.shape == (224, 224, 3)
    assert np.array_equal(image[::4, ::4].transpose(2, 0, 1), still.arrays["iuv"][0])
    assert np.array_equal(image[3::4, 3::4], image[::4, ::4])
    with Image.open(io.BytesIO(path.read_bytes())) as read:
        assert "part 0..24, 255 U, 255 V" in read.text["Description"]


def test_unknown_formats_and_those_without_motion_are_named(tmp_path):
    with pytest.raises(ValueError, match="any of obj, ply, .*it was given fbx"):
        check_formats(["obj", "fbx"])
    check_formats(VIDEO_EXPORTS, video=True)
    check_formats(STILL_EXPORTS)
    with pytest.raises(ValueError, match=r"any of glb, amass, .*bvh, .*; it was given obj, densepose\."):
        check_formats(["glb", "obj", "densepose"], video=True)
    with pytest.raises(ValueError, match="it was given ply"):
        write_exports(tmp_path / "t", ["glb", "ply"], make_motion())
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    require_export_packages(EXPORTS)
    for name, package in (("glb", "pygltflib"), ("ply", "trimesh")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=f"{name} needs {package}: pip install -r requirements-export.txt"):
            require_export_packages(["bvh", name])
    require_export_packages(["bvh", "amass", "densepose"])
