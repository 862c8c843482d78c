"""Converter of MPII, on the list of people that HRNet and Simple Baselines hand out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from converters import convert, refused, rows24

# MPII's 16 joints: right ankle, knee, hip, left hip, knee, ankle, pelvis, thorax, upper neck, head top, right
# wrist, elbow, shoulder, left shoulder, elbow, wrist; and their rows of the 24.
ROWS = (0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11)


def person(**more):
    joints = [[100.0 + j, 200.0 - j] for j in range(16)]
    joints[0] = [-1.0, -1.0]
    return {
        "image": "015601864.jpg", "center": [594.0, 257.0], "scale": 3.021046, "joints": joints,
        "joints_vis": [0] + [1] * 15,
    } | more  # fmt: skip


def write(folder, people):
    (folder / "annot").mkdir(exist_ok=True)
    (folder / "annot" / "train.json").write_text(json.dumps(people))


def test_people_by_hand(tmp_path, capsys):
    people = [
        person(),
        person(joints_vis=[0] * 16),
        person(scale=-1.0),
        person(joints=[[1, 2]] * 15),
        person(center=[float("nan"), 2]),
        {"image": "x.jpg"},
    ]
    write(tmp_path, people)
    data = convert("mpii", tmp_path, tmp_path / "out")["mpii_train.npz"]
    assert list(data["imgname"]) == ["images/015601864.jpg"]
    np.testing.assert_array_equal(data["center"], [[594, 257]])
    np.testing.assert_array_equal(data["scale"], [3.021046])
    expected = rows24({ROWS[j]: (100 + j, 200 - j, 1) for j in range(1, 16)})
    np.testing.assert_array_equal(data["part"], [expected])
    assert not data["openpose"].any()
    said = capsys.readouterr().out
    for line in (
        "kept 1 of 6",
        "left out 2 with incomplete annotations",
        "left out 1 without a labelled joint",
        "left out 1 without a box",
        "left out 1 with a number that is not finite",
    ):
        assert line in said


@pytest.mark.parametrize("content", ["", "[{]", "{}", "[1]"])
def test_damaged_files_are_named(tmp_path, capsys, content):
    out = tmp_path / "out"
    assert "train.json does not exist" in refused(capsys, "mpii", tmp_path, out)
    write(tmp_path, [])
    assert "Nothing is left" in refused(capsys, "mpii", tmp_path, out)
    (tmp_path / "annot" / "train.json").write_text(content)
    assert "train.json" in refused(capsys, "mpii", tmp_path, out)
