"""Converter of MPI-INF-3DHP: MATLAB 7.3 test annotations, older MATLAB training annotations."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io
from converters import convert, refused

# Rows of the 24 joints, then the rows of the 17 test joints and of the 28 training joints, by name.
JOINTS = {
    "pelvis": (14, 14, 4), "left hip": (3, 11, 18), "left knee": (4, 12, 19), "left ankle": (5, 13, 20),
    "right hip": (2, 8, 23), "right knee": (1, 9, 24), "right ankle": (0, 10, 25), "spine": (16, 15, 3),
    "neck": (12, 1, 5), "head": (17, 16, 6), "head top": (18, 0, 7), "left shoulder": (9, 5, 9),
    "left elbow": (10, 6, 10), "left wrist": (11, 7, 11), "right shoulder": (8, 2, 14),
    "right elbow": (7, 3, 15), "right wrist": (6, 4, 16),
}  # fmt: skip
PLACES, TEST_ROWS, TRAIN_ROWS = (list(rows) for rows in zip(*JOINTS.values(), strict=True))


def points(frames, count):
    """Joint j of frame f at (10 + 2 j + f, 20 + 5 j)."""
    f, j = np.mgrid[:frames, :count].astype(np.float64)
    return np.stack([10 + 2 * j + f, 20 + 5 * j], axis=-1)


def space(frames, count, size=1.0):
    """Joint j of frame f at (100 j + f, 10 j^2, 3000 + j) millimetres, times `size`."""
    f, j = np.mgrid[:frames, :count].astype(np.float64)
    return size * np.stack([100 * j + f, 10 * j**2, 3000 + j], axis=-1)


def expected(frame, rows, count, size=1.0):
    part, S = np.zeros((24, 3)), np.zeros((24, 4))
    for place, row in zip(PLACES, rows, strict=True):
        part[place] = (*points(frame + 1, count)[frame, row], 1)
        root = space(frame + 1, count, size)[frame, rows[0]]
        S[place] = (*(space(frame + 1, count, size)[frame, row] - root) / 1000, 1)
    return part, S


def write_test(root, sequence="TS1", frames=4, **more):
    folder = root / "mpi_inf_3dhp_test_set" / sequence
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "annot2": points(frames, 17)[:, None],
        "annot3": space(frames, 17)[:, None],
        "univ_annot3": space(frames, 17, 0.5)[:, None],
        "valid_frame": np.ones((frames, 1)),
        "activity_annotation": np.ones((frames, 1)),
    } | more
    with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array
    return folder


def test_test_frames_by_hand(tmp_path, capsys):
    valid = np.array([[1.0], [0], [1], [1]])
    outside = points(4, 17)
    outside[2, 7, 0] = 2048  # the left wrist, right of the image
    write_test(tmp_path, valid_frame=valid, annot2=outside[:, None])
    write_test(tmp_path, "TS6", frames=1)
    data = convert("mpi_inf_3dhp", tmp_path, tmp_path / "out")["mpi_inf_3dhp_valid.npz"]
    pattern = "mpi_inf_3dhp_test_set/{}/imageSequence/img_{:06d}.jpg"
    assert list(data["imgname"]) == [pattern.format(*n) for n in (("TS1", 1), ("TS1", 4), ("TS6", 1))]
    # Joint 0 is at (10 + f, 20), joint 16 at (42 + f, 100).
    np.testing.assert_array_equal(data["center"], [[26, 60], [29, 60], [26, 60]])
    np.testing.assert_allclose(data["scale"], [1.2 * 80 / 200] * 3)
    for item, frame in ((0, 0), (1, 3)):
        part, S = expected(frame, TEST_ROWS, 17, size=0.5)
        np.testing.assert_array_equal(data["part"][item], part)
        np.testing.assert_allclose(data["S"][item], S, atol=1e-12)
    said = capsys.readouterr().out
    assert "left out 1 that are marked as not valid" in said
    assert "left out 1 with a joint outside the image" in said
    assert "not there: TS2, TS3, TS4, TS5" in said and "3D joints are univ_annot3." in said

    other = convert("mpi_inf_3dhp", tmp_path, tmp_path / "b", "--test_joints", "annot3")
    np.testing.assert_allclose(other["mpi_inf_3dhp_valid.npz"]["S"][..., :3], 2 * data["S"][..., :3])
    assert "3D joints are annot3." in capsys.readouterr().out


def cells(arrays):
    column = np.empty((len(arrays), 1), object)
    for index, array in enumerate(arrays):
        column[index, 0] = array.reshape(len(array), -1)
    return column


def training_arrays(frames=14, videos=14):
    flat = [points(frames, 28) for _ in range(videos)]
    flat[0][0, 4, 0] = -1  # the pelvis outside
    flat[0][1, 0, 0] = -1  # a joint that is not used
    return {
        "annot2": cells(flat),
        "annot3": cells([space(frames, 28)] * videos),
        "univ_annot3": cells([space(frames, 28, 0.5)] * videos),
    }


def write_train(root, hdf5=False, **more):
    path = root / "S1" / "Seq1" / "annot.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = training_arrays() | more
    if not hdf5:
        scipy.io.savemat(path, arrays)
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, column in arrays.items():
            refs = file.create_dataset(name, (1, len(column)), dtype=h5py.ref_dtype)
            for index, cell in enumerate(column[:, 0]):
                refs[0, index] = file.create_dataset(f"#refs#/{name}{index}", data=cell.T).ref
    return path


# Frames inside: 13 of video 0 (from the 2nd), 14 of each other. Every 10th of all: the 0th, 10th, 20th ...
CHOSEN = [(0, 1), (0, 11), (1, 7), (2, 3), (2, 13), (4, 9), (5, 5), (6, 1), (6, 11), (7, 7), (8, 3), (8, 13)]


@pytest.mark.parametrize("hdf5", [False, True])
def test_training_frames_by_hand(tmp_path, capsys, hdf5):
    write_train(tmp_path, hdf5=hdf5)
    data = convert("mpi_inf_3dhp", tmp_path, tmp_path / "out")["mpi_inf_3dhp_train.npz"]
    names = [f"S1/Seq1/imageFrames/video_{v}/frame_{f + 1:06d}.jpg" for v, f in CHOSEN]
    assert list(data["imgname"]) == names
    for item, (_, frame) in enumerate(CHOSEN):
        part, S = expected(frame, TRAIN_ROWS, 28)
        np.testing.assert_array_equal(data["part"][item], part)
        np.testing.assert_allclose(data["S"][item], S, atol=1e-12)
    # The used joints run from 3 to 25: x from 16 + f to 60 + f, y from 35 to 145.
    np.testing.assert_array_equal(data["center"][0], [38 + 1, 90])
    np.testing.assert_allclose(data["scale"], 1.2 * 110 / 200)
    for name in ("openpose", "pose", "shape", "has_smpl"):
        assert not data[name].any()
    said = capsys.readouterr().out
    assert "left out 1 with a joint outside the image" in said
    assert "left out 99 that are not every 10th" in said
    assert "kept 12 of 112" in said and "3D joints are annot3; no body parameters" in said


def test_missing_and_damaged_files_are_named(tmp_path, capsys):
    out = tmp_path / "out"
    assert "holds nothing of the test or train set" in refused(capsys, "mpi_inf_3dhp", tmp_path, out)
    folder = write_test(tmp_path)
    said = refused(capsys, "mpi_inf_3dhp", tmp_path, out, "--split", "test", "train")
    assert "nothing of the train set" in said
    path = folder / "annot_data.mat"
    whole = path.read_bytes()
    for content in (b"", b"MATLAB 5.0", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "annot_data.mat" in refused(capsys, "mpi_inf_3dhp", tmp_path, out)
    write_test(tmp_path, annot2=np.zeros((4, 17, 2)))
    assert "must hold annot2 (F, 1, 17, 2)" in refused(capsys, "mpi_inf_3dhp", tmp_path, out)
    with h5py.File(path, "w") as file:
        file["annot2"] = points(4, 17)[:, None]
    assert "'univ_annot3'" in refused(capsys, "mpi_inf_3dhp", tmp_path, out)


@pytest.mark.parametrize(
    "broken",
    [
        {"annot2": np.zeros((3, 3))},
        {"annot2": cells([points(5, 28)] * 5)},
        {"annot2": cells([points(5, 27)] * 14)},
        {"annot2": cells([points(5, 28)] * 14)},
    ],
    ids=["no cells", "few cells", "few joints", "few frames"],
)
def test_damaged_training_files_are_named(tmp_path, capsys, broken):
    path = write_train(tmp_path, **broken)
    assert str(path) in refused(capsys, "mpi_inf_3dhp", tmp_path, tmp_path / "out")
