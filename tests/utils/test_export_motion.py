"""Exports of a person over time: rates, gaps, and rotations that go on without jumps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from export_people import make_motion
from export_readers import animated_nodes, bvh_frames, read_accessor, read_glb, world_matrices
from scipy.spatial.transform import Rotation

from utils.export import ExportMotion, write_exports
from utils.export.bvh import continuous
from utils.export.formats import VIDEO_EXPORTS
from utils.io import load_npz
from utils.skeleton import SMPL_JOINT_NAMES


@pytest.fixture(scope="module")
def motion() -> ExportMotion:
    return make_motion()


@pytest.fixture(scope="module")
def files(motion, tmp_path_factory):
    stem = tmp_path_factory.mktemp("exports") / "a.b"
    return {path.name.removeprefix("a.b."): path for path in write_exports(stem, VIDEO_EXPORTS, motion)}


def test_the_glbs_times_are_the_videos(motion, files):
    document, binary = read_glb(files["glb"].read_bytes())
    (animation,) = document["animations"]
    assert len(animation["channels"]) == 25 and animation["name"] == "track 4"
    for sampler in animation["samplers"]:
        assert sampler["interpolation"] == "LINEAR"
        times = read_accessor(document, binary, sampler["input"])[:, 0]
        assert np.allclose(times, (motion.frame_ids - 7) / 25)
        bounds = document["accessors"][sampler["input"]]
        assert bounds["min"] == [times.min()] and bounds["max"] == [times.max()]


@pytest.mark.parametrize("clip", ["backflip", "spin"])
def test_quaternions_do_not_jump_to_the_other_sign(clip, tmp_path):
    (path,) = write_exports(tmp_path / "t", ["glb"], make_motion(clip))
    document, binary = read_glb(path.read_bytes())
    for sampler in document["animations"][0]["samplers"][1:]:
        turns = read_accessor(document, binary, sampler["output"])
        assert np.allclose(np.linalg.norm(turns, axis=1), 1, atol=1e-6)
        assert ((turns[1:] * turns[:-1]).sum(axis=1) > 0).all()


def test_who_walks_to_the_right_and_nearer_does_so_in_the_scene(motion, files):
    document, binary = read_glb(files["glb"].read_bytes())
    roots = [world_matrices(animated_nodes(document, binary, key))[0, :3, 3] for key in (0, len(motion) - 1)]
    seen = np.diff(motion.arrays["cam_t_full"][[0, -1]], axis=0)[0]
    assert seen[0] > 0.3 and seen[2] < -1  # x right, z away from the camera
    assert np.allclose(roots[1] - roots[0], seen * [1, -1, -1], atol=1e-5)
    assert np.allclose(roots[0], motion.rest()[1][0] * [1, -1, -1], atol=1e-6)
    head, foot = SMPL_JOINT_NAMES.index("head"), SMPL_JOINT_NAMES.index("left_foot")
    for key in range(len(motion)):  # upright, y up
        places = world_matrices(animated_nodes(document, binary, key))[:, :3, 3]
        assert places[head, 1] - places[foot, 1] > 1
    place = document["asset"]["extras"]["place"]
    assert "starts at its own origin" in place and "first frame, 7 of the video" in place


def test_angles_go_on_where_the_middle_one_passes_a_right_angle():
    swing = np.zeros((34, 24, 3))
    swing[:, :, 1] = np.linspace(0, 163, 34)[:, None]  # a leg that is lifted over the head
    swing[:, :, 0] = np.linspace(0, 400, 34)[:, None]  # and turned more than once
    rotations = Rotation.from_euler("ZXY", swing.reshape(-1, 3), degrees=True)
    jumping = rotations.as_euler("ZXY", degrees=True).reshape(swing.shape)
    assert np.abs(np.diff(jumping, axis=0)).max() > 150
    assert np.allclose(continuous(jumping), swing, atol=1e-6)


@pytest.fixture(scope="module")
def camera_motion(motion) -> ExportMotion:
    """As of a camera that promises 25 frames a second and gives about 12, unevenly."""
    uneven = np.random.default_rng(0).uniform(-0.02, 0.02, len(motion))
    return dataclasses.replace(motion, arrays={**motion.arrays, "seconds": motion.frame_ids / 12 + uneven})


def test_exports_have_the_times_of_a_camera(camera_motion, tmp_path):
    motion, seconds = camera_motion, camera_motion.arrays["seconds"]
    paths = write_exports(tmp_path / "t", VIDEO_EXPORTS, motion)
    files = {path.name.removeprefix("t."): path for path in paths}
    document, binary = read_glb(files["glb"].read_bytes())
    for sampler in document["animations"][0]["samplers"]:
        times = read_accessor(document, binary, sampler["input"])[:, 0]
        assert np.allclose(times, seconds - seconds[0], atol=1e-6)
    for name in ("vibe.npz", "4dhumans.npz"):
        assert np.array_equal(load_npz(files[name])["seconds"], seconds), name
    # Formats of one rate last as long as the person was seen.
    frame_time, values = bvh_frames(files["bvh"].read_text())
    assert frame_time * (len(values) - 1) == pytest.approx(seconds[-1] - seconds[0], abs=1e-4)
    amass = load_npz(files["amass.npz"])
    lasts = (len(amass["poses"]) - 1) / float(amass["mocap_framerate"])
    assert lasts == pytest.approx(seconds[-1] - seconds[0])


@pytest.mark.parametrize("fps", [25.0, 29.97, 30.0, 119.987])
def test_times_of_an_even_video_keep_its_rate_to_the_last_digit(motion, fps):
    """Readers may cut 24.999999 frames a second down to 24."""
    even = dataclasses.replace(motion, fps=fps, arrays={**motion.arrays, "seconds": motion.frame_ids / fps})
    assert even.rate == fps
    one = {name: array[:1] for name, array in even.arrays.items()}
    assert dataclasses.replace(even, arrays=one).rate == fps


def test_lost_frames_are_filled_evenly_the_short_way():
    motion = make_motion()
    turns = Rotation.from_euler("y", [[170], [-130]], degrees=True).as_matrix()  # 60 degrees apart through 180
    two = {name: array[:2].copy() for name, array in motion.arrays.items()}
    two["rotmat"] = np.repeat(turns[:, None], 24, axis=1).astype(np.float32)
    two["frame_ids"], two["cam_t_full"] = np.array([3, 6]), np.array([[0, 0, 4], [3, 0, 1.0]])
    rotmat, path = dataclasses.replace(motion, arrays=two).filled()
    assert np.allclose(path, [[0, 0, 0], [1, 0, -1], [2, 0, -2], [3, 0, -3]])
    wanted = Rotation.from_euler("y", [[170], [190], [210], [230]], degrees=True).as_matrix()
    assert np.allclose(rotmat, wanted[:, None], atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frame_ids": np.array([1, 1, 2])}, "must increase"),
        ({"seconds": np.array([0.1, 0.2, 0.2])}, "seconds must increase"),
        ({"betas": np.zeros((2, 10))}, "betas.: 2"),
        ({"frame_ids": np.array([], int)}, "at least one"),
    ],
)
def test_a_motion_out_of_order_is_refused(change, message, motion):
    three = {name: array[:3] for name, array in motion.arrays.items()}
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(motion, arrays={**three, **change})


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_motion_without_a_rate_is_refused(fps, motion):
    with pytest.raises(ValueError, match="positive number of frames a second"):
        dataclasses.replace(motion, fps=fps)


@pytest.mark.filterwarnings("error")
def test_a_track_of_one_frame_has_every_format(motion, tmp_path):
    """Its arrays may be read-only, as those of files and of broadcasting are."""
    arrays = {name: array[:1].copy() for name, array in motion.arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    one = dataclasses.replace(motion, arrays=arrays)
    paths = {path.name: path for path in write_exports(tmp_path / "t", VIDEO_EXPORTS, one)}
    assert all(path.stat().st_size > 0 for path in paths.values())
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 2
    assert "NumFrames" in paths["t.trc"].read_text() and "Frames: 1\n" in paths["t.bvh"].read_text()
