"""Converter of Human3.6M, on CDF and MATLAB 7.3 files in the public form."""

from __future__ import annotations

import shutil
import sys

import cdflib.cdfwrite
import cv2
import h5py
import numpy as np
import pytest
from converters import convert, refused, rows24

FRONT, SIDE = "60457274", "54138969"
FRAMES = 12
# Rows of the 32 joints by name, as the set documents them, and the rows of the 24 they belong to.
JOINTS = {
    "pelvis": (11, 14), "left hip": (6, 3), "left knee": (7, 4), "left ankle": (8, 5),
    "right hip": (1, 2), "right knee": (2, 1), "right ankle": (3, 0), "spine": (12, 16), "neck": (24, 12),
    "jaw": (14, 17), "head top": (15, 18), "left shoulder": (17, 9), "left elbow": (18, 10),
    "left wrist": (19, 11), "right shoulder": (25, 8), "right elbow": (26, 7), "right wrist": (27, 6),
}  # fmt: skip


def pose(frame):
    """Joint j at (100 j + frame, 10 j^2, 5000 - j) millimetres."""
    j = np.arange(32.0)
    return np.stack([100 * j + frame, 10 * j**2, 5000 - j], axis=1)


def write_cdf(path, frames=FRAMES, poses=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    poses = np.stack([pose(f).ravel() for f in range(frames)])[None] if poses is None else poses
    spec = {"Variable": "Pose", "Data_Type": 21, "Num_Elements": 1, "Rec_Vary": True, "Compress": 6}
    file = cdflib.cdfwrite.CDF(path, delete=True)
    file.write_var(spec | {"Dim_Sizes": list(poses.shape[1:])}, var_data=poses.astype(np.float32))
    file.close()


def write_boxes(path, frames=FRAMES):
    """`Masks`, a 1 x frames cell array of 100 x 80 masks: MATLAB's axes stand in reverse in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_dataset("Masks", (frames, 1), dtype=h5py.ref_dtype)
        for frame in range(frames):
            mask = np.zeros((100, 80), np.uint8)  # rows, columns
            if frame != 10:
                mask[20 : 61 + frame, 30:50] = 1
            cells[frame, 0] = file.create_dataset(f"#refs#/{frame}", data=mask.T, compression="gzip").ref
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116))


def recording(root, subject, action, camera, **frames):
    name = f"{action}.{camera}"
    write_cdf(root / subject / "MyPoseFeatures" / "D3_Positions_mono" / f"{name}.cdf", **frames)
    write_boxes(root / subject / "MySegmentsMat" / "ground_truth_bb" / f"{name}.mat")


@pytest.fixture
def tree(tmp_path):
    recording(tmp_path, "S9", "Directions 1", FRONT)
    recording(tmp_path, "S9", "_ALL 1", FRONT)
    recording(tmp_path, "S11", "SittingDown", SIDE, frames=17)
    return tmp_path


def test_protocols_by_hand(tree, capsys):
    files = convert("h36m", tree, tree / "out")
    front = [f"images/S9_Directions_1.{FRONT}_{f:06d}.jpg" for f in (1, 6)]
    side = [f"images/S11_SittingDown.{SIDE}_{f:06d}.jpg" for f in (1, 6)]
    first, second = files["h36m_valid_protocol1.npz"], files["h36m_valid_protocol2.npz"]
    assert list(first["imgname"]) == front + side and list(second["imgname"]) == front
    # Rows 20 to 60 + frame and columns 30 to 49 are set.
    np.testing.assert_array_equal(second["center"], [[40, 40.5], [40, 43]])
    np.testing.assert_allclose(second["scale"], [0.9 * 41 / 200, 0.9 * 46 / 200])
    expected = {}
    for row, place in JOINTS.values():
        expected[place] = (*(pose(0)[row] - pose(0)[11]) / 1000, 1)
    np.testing.assert_allclose(second["S"], [rows24(expected, 4)] * 2, atol=1e-6)
    assert not second["S"][:, 14, :3].any()
    np.testing.assert_array_equal(first["S"][:2], second["S"])
    said = capsys.readouterr().out
    # Frame 11 has an empty mask; the longer recording has a 16th frame without any.
    assert "h36m_valid_protocol1.npz: kept 4 of 7" in said and "left out 3 without a box" in said


def test_images_come_from_the_videos(tree):
    # Nine frames, so that the one with index 10 lies behind the end.
    for subject, name in (("S9", f"Directions 1.{FRONT}"), ("S11", f"SittingDown.{SIDE}")):
        path = tree / subject / "Videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 50, (64, 48))
        for frame in range(9):
            writer.write(np.full((48, 64, 3), 25 * frame, np.uint8))
        writer.release()
    present = tree / "images" / f"S9_Directions_1.{FRONT}_000001.jpg"
    present.parent.mkdir()
    present.write_bytes(b"already there")
    data = convert("h36m", tree, tree / "out", "--extract")["h36m_valid_protocol1.npz"]
    assert len(data["imgname"]) == 4
    assert sorted(p.name for p in (tree / "images").iterdir()) == sorted(n.split("/")[1] for n in data["imgname"])
    assert present.read_bytes() == b"already there"
    image = cv2.imread(str(tree / f"images/S9_Directions_1.{FRONT}_000006.jpg"))
    assert image.shape == (48, 64, 3) and abs(image.mean() - 125) < 5


def test_missing_and_damaged_files_are_named(tree, capsys):
    out = tree / "out"
    cdf = tree / "S9" / "MyPoseFeatures" / "D3_Positions_mono" / f"Directions 1.{FRONT}.cdf"
    boxes = tree / "S9" / "MySegmentsMat" / "ground_truth_bb" / f"Directions 1.{FRONT}.mat"
    good = cdf.read_bytes(), boxes.read_bytes()
    assert "There is no video" in refused(capsys, "h36m", tree, out, "--extract")

    for content in (b"", b"not a cdf", good[0][: len(good[0]) // 2]):
        cdf.write_bytes(content)
        assert f"{cdf.name} is not a CDF file" in refused(capsys, "h36m", tree, out)
    write_cdf(cdf, poses=np.zeros((1, 3, 90)))
    assert "must have the shape (1, frames, 96)" in refused(capsys, "h36m", tree, out)
    cdf.write_bytes(good[0])

    for content in (b"", b"not a mat", good[1][: len(good[1]) // 2]):
        boxes.write_bytes(content)
        assert boxes.name in refused(capsys, "h36m", tree, out)
    with h5py.File(boxes, "w") as file:
        file["Masks"] = np.zeros((FRAMES, 1))
    assert "no cell array" in refused(capsys, "h36m", tree, out)
    boxes.unlink()
    assert f"{boxes} does not exist" in refused(capsys, "h36m", tree, out)

    shutil.rmtree(tree / "S9")
    shutil.rmtree(tree / "S11")
    assert "There are no joints" in refused(capsys, "h36m", tree, out)


@pytest.mark.parametrize("package", ["cdflib", "h5py"])
def test_missing_packages_are_named(tree, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"needs {package}: pip install -r requirements-datasets.txt" in refused(capsys, "h36m", tree, tree / "out")
