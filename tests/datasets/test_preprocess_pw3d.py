"""Converter of 3DPW, on a sequence pickled as Python 2 pickled the public ones."""

from __future__ import annotations

import io
import os

import numpy as np
from converters import convert, refused
from fuzz_files import Python2Pickler

F = 4
POSE = np.arange(2 * F * 72, dtype=np.float64).reshape(2, F, 72) / 500
BETAS = np.arange(20, dtype=np.float64).reshape(2, 10) / 10
JOINTS = np.arange(2 * F * 72, dtype=np.float64).reshape(2, F, 24, 3) ** 0.5
# The camera of frame k is turned by k quarters about z and stands at (1, 2, 3).
QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def sequence(**more):
    cameras = np.zeros((F, 4, 4))
    for frame in range(F):
        cameras[frame, :3, :3] = np.linalg.matrix_power(QUARTER, frame)
        cameras[frame, :, 3] = (1, 2, 3, 1)
    pose = POSE.copy()
    pose[:, :, :3] = (0, 0, 0.25)  # about z, too: angles add up
    points = np.zeros((2, F, 3, 18))
    points[:, :, :2, 0] = (999, -5)  # without confidence
    points[:, :, :, 3] = (100, 300, 0.4)
    points[:, :, :, 5] = (160, 500, 0.9)
    return {
        "sequence": "downtown_x_00",
        "poses": list(pose),
        "betas": [np.concatenate([b, np.full(290, 9.0)]) for b in BETAS],  # 300 in the public files
        "poses2d": list(points),
        "jointPositions": list(JOINTS.reshape(2, F, 72)),
        "genders": ["m", "f"],
        "cam_poses": cameras,
        "campose_valid": [np.array([1, 0, 1, 1]), np.array([0, 1, 0, 0])],
        "trans": [np.zeros((F, 3))] * 2,
        "img_frame_ids": np.arange(F),
    } | more  # fmt: skip


def write(folder, content, name="downtown_x_00.pkl"):
    """A pickle of Python 2 and a NumPy of its time."""
    folder = folder / "sequenceFiles" / "test"
    folder.mkdir(parents=True, exist_ok=True)
    raw = io.BytesIO()
    Python2Pickler(raw, protocol=2).dump(content)
    old = raw.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (folder / name).write_bytes(old)


def test_frames_by_hand(tmp_path, capsys):
    write(tmp_path, sequence())
    data = convert("pw3d", tmp_path, tmp_path / "out")["3dpw_test.npz"]
    frames, people = [0, 2, 3, 1], [0, 0, 0, 1]
    assert list(data["imgname"]) == [f"imageFiles/downtown_x_00/image_{f:05d}.jpg" for f in frames]
    assert list(data["gender"]) == ["m", "m", "m", "f"]
    np.testing.assert_array_equal(data["shape"], BETAS[people])
    np.testing.assert_array_equal(data["center"], [[130, 400]] * 4)
    np.testing.assert_allclose(data["scale"], [1.2 * 200 / 200] * 4)
    np.testing.assert_array_equal(data["pose"][:, 3:], POSE[people, frames][:, 3:])
    angles = np.array([0.25, np.pi + 0.25 - 2 * np.pi, 0.25 - np.pi / 2, 0.25 + np.pi / 2])
    np.testing.assert_allclose(data["pose"][:, :3], np.outer(angles, (0, 0, 1)), atol=1e-12)
    for joints, frame, who in zip(data["smpl_joints"], frames, people, strict=True):
        x, y, z = (JOINTS[who, frame] - JOINTS[who, frame, 0]).T
        turned = {0: (x, y, z), 1: (-y, x, z), 2: (-x, -y, z), 3: (y, -x, z)}[frame]
        np.testing.assert_allclose(joints, np.stack(turned, axis=1), atol=1e-6)
    said = capsys.readouterr().out
    assert "kept 4 of 8" in said and "left out 4 without a valid camera" in said
    assert "35,515 or 35,463" in said and "this file has 4" in said


def test_frames_without_points_or_with_broken_numbers_are_counted(tmp_path, capsys):
    content = sequence(campose_valid=[np.ones(F), np.ones(F)])
    content["poses2d"][0][0, 2] = 0  # no person seen
    content["poses"][0][1, 5] = np.nan
    content["cam_poses"][2, :3, :3] = 0  # both people
    write(tmp_path, content)
    data = convert("pw3d", tmp_path, tmp_path / "out")["3dpw_test.npz"]
    assert len(data["imgname"]) == 4
    said = capsys.readouterr().out
    for reason in ("1 without a box", "1 with a number that is not finite", "2 with a camera that is no rotation"):
        assert f"left out {reason}" in said


class Call:
    def __reduce__(self):
        return os.system, ("true",)


def test_missing_damaged_and_hostile_files_are_named(tmp_path, capsys):
    out = tmp_path / "out"
    assert "no sequences" in refused(capsys, "pw3d", tmp_path, out)
    write(tmp_path, sequence())
    write(tmp_path, sequence() | {"x": Call()}, "hostile.pkl")
    said = refused(capsys, "pw3d", tmp_path, out)
    assert "hostile.pkl was refused" in said and "system" in said
    path = tmp_path / "sequenceFiles" / "test" / "hostile.pkl"
    path.write_bytes((path.parent / "downtown_x_00.pkl").read_bytes()[:500])
    assert "not a readable pickle" in refused(capsys, "pw3d", tmp_path, out)
    for broken in (
        {"poses": [np.zeros((F, 70))] * 2},
        {"genders": ["m"]},
        {"genders": ["m", "x"]},
        {"betas": [np.zeros(8)] * 2},
        {"sequence": "../../x"},
        {"cam_poses": np.zeros((F, 3, 4))},
    ):
        write(tmp_path, sequence(**broken), "hostile.pkl")
        said = refused(capsys, "pw3d", tmp_path, out)
        assert "hostile.pkl is no sequence of 3DPW" in said
    content = sequence()
    del content["jointPositions"]
    write(tmp_path, content, "hostile.pkl")
    assert "'jointPositions'" in refused(capsys, "pw3d", tmp_path, out)
