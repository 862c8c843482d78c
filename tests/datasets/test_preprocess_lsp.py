"""Converters of LSP (test and training) and of LSP extended, on joints.mat files of the public shapes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from converters import convert, refused


def lsp_joints():
    """Joint j of image n (from 1) at (n + j, 5 j): 3 x 14 x 2000, the third number marks hidden joints."""
    n, j = np.meshgrid(np.arange(1, 2001), np.arange(14))
    return np.stack([n + j, 5.0 * j, (j % 2).astype(float)])


def write(folder, joints, **more):
    scipy.io.savemat(folder / "joints.mat", {"joints": joints} | more)


def expected_part(number):
    part = np.zeros((24, 3))
    part[:14] = [(number + j, 5 * j, 1) for j in range(14)]
    return part


def test_test_images_by_hand(tmp_path, capsys):
    joints = lsp_joints()
    joints[0, 3, 1500] = np.nan  # image 1501
    joints[:2, :, 1501] = 7  # image 1502: all in one place
    write(tmp_path, joints)
    data = convert("lsp", tmp_path, tmp_path / "out")["lsp_dataset_test.npz"]
    assert len(data["imgname"]) == 998
    assert data["imgname"][0] == "images/im1001.jpg" and data["imgname"][-1] == "images/im2000.jpg"
    assert data["maskname"][0] == "data/lsp/im1001_segmentation.png"
    assert data["partname"][-1] == "data/lsp/im2000_part_segmentation.png"
    np.testing.assert_array_equal(data["part"][0], expected_part(1001))
    np.testing.assert_array_equal(data["part"][-1], expected_part(2000))
    np.testing.assert_array_equal(data["center"][0], [1001 + 6.5, 32.5])
    np.testing.assert_allclose(data["scale"], 1.2 * 65 / 200)
    said = capsys.readouterr().out
    assert "kept 998 of 1,000" in said
    assert "left out 1 with a number that is not finite" in said and "left out 1 without a box" in said


def test_training_images_by_hand(tmp_path):
    write(tmp_path, lsp_joints())
    data = convert("lsp_orig", tmp_path, tmp_path / "out")["lsp_dataset_original_train.npz"]
    assert len(data["imgname"]) == 1000
    assert data["imgname"][0] == "images/im0001.jpg" and data["imgname"][-1] == "images/im1000.jpg"
    np.testing.assert_array_equal(data["part"][-1], expected_part(1000))
    np.testing.assert_array_equal(data["center"][-1], [1000 + 6.5, 32.5])
    assert not data["openpose"].any()


def lspet_joints(count=10000):
    """Joint j of image n at (n + j, 5 j), 14 x 3 x count; joints 12 and 13 are not labelled."""
    joints = np.zeros((14, 3, count))
    n, j = np.meshgrid(np.arange(1, count + 1), np.arange(14))
    joints[:, 0], joints[:, 1], joints[:, 2] = n + j, 5 * j, j < 12
    joints[12:, :2] = -1000
    return joints


def test_extended_images_by_hand(tmp_path, capsys):
    joints = lspet_joints()
    joints[:, 2, 4] = 0  # image 5: nothing labelled
    write(tmp_path, joints)
    data = convert("lspet", tmp_path, tmp_path / "out")["hr-lspet_train.npz"]
    assert len(data["imgname"]) == 9999
    assert data["imgname"][0] == "im00001.png" and data["imgname"][-1] == "im10000.png"
    part = np.zeros((24, 3))
    part[:12] = expected_part(10000)[:12]
    np.testing.assert_array_equal(data["part"][-1], part)
    np.testing.assert_array_equal(data["center"][-1], [10000 + 5.5, 27.5])
    np.testing.assert_allclose(data["scale"], 1.2 * 55 / 200)
    assert "left out 1 without a box" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["lsp", "lsp_orig", "lspet"])
def test_missing_and_damaged_files_are_named(tmp_path, capsys, module):
    out, path = tmp_path / "out", tmp_path / "joints.mat"
    assert f"{path} does not exist" in refused(capsys, module, tmp_path, out)
    path.write_bytes(b"not a mat")
    assert "joints.mat is not a readable MATLAB file" in refused(capsys, module, tmp_path, out)
    shape = "14 x 3 x N" if module == "lspet" else "3 x 14 x 2000"
    for joints in (np.zeros((3, 13, 2000)), np.zeros((14, 2, 9)), np.zeros((3, 4)), "text"):
        write(tmp_path, joints)
        assert f"must hold an array 'joints' of {shape} numbers" in refused(capsys, module, tmp_path, out)
    write(tmp_path, lspet_joints(5) if module == "lsp" else lsp_joints()[:, :, :1500])
    assert "Expected the joints.mat of this very data set." in refused(capsys, module, tmp_path, out)
