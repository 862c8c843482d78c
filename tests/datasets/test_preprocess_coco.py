"""Converters of COCO keypoints and DensePose-COCO, on files in the form of the public annotations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from converters import convert, refused, rows24
from pycocotools import mask as coco_mask

from datasets.labels.coco import COCO17_NAMES
from datasets.preprocess.dp_coco import smpl_keypoints

VISIBLE, HIDDEN = 2, 1
# Keypoint k of COCO at (100 + 10 k, 200 + k).
POINTS = [(100 + 10 * k, 200 + k) for k in range(17)]
# nose, eyes (left first), ears, shoulders, elbows, wrists, hips, knees, ankles: their rows of the 24 joints.
ROWS = (19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0)


def keypoints(unlabelled=(), hidden=()):
    flat = []
    for k, (x, y) in enumerate(POINTS):
        flat += [0, 0, 0] if k in unlabelled else [x, y, HIDDEN if k in hidden else VISIBLE]
    return flat


def person(number, image=9, bbox=(50.5, 60.0, 100.0, 240.0), **more):
    labels = more.pop("keypoints", keypoints())
    return {
        "id": number, "image_id": image, "bbox": list(bbox), "keypoints": labels,
        "num_keypoints": sum(v > 0 for v in labels[2::3]), "iscrowd": 0, "category_id": 1, "area": 1234.5,
    } | more  # fmt: skip


def write(folder, name, people, split="train", broken=False, names=COCO17_NAMES):
    images = [{"id": 9, "file_name": f"COCO_{split}2014_000000000009.jpg", "width": 640, "height": 480}]
    categories = [{"id": 1, "name": "person", "keypoints": names}] if names else []
    categories += [{"id": 2, "name": "dog"}] if names else []
    text = json.dumps({"info": {}, "images": images, "annotations": people, "categories": categories})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text[: len(text) // 2] if broken else text)


def part(unlabelled=()):
    return rows24({ROWS[k]: (*POINTS[k], 1) for k in range(17) if k not in unlabelled})


def test_training_people_have_all_joints_of_the_body(tmp_path, capsys):
    people = [
        person(1, keypoints=keypoints(unlabelled=(0, 3), hidden=(7,))),
        person(2, keypoints=keypoints(unlabelled=(16,))),
        person(3, image=77),
        person(4, bbox=(10, 10, 0, 50)),
        person(5, bbox=(10, float("nan"), 30, 50)),
        {"id": 6, "image_id": 9},
        person(7, bbox=(1e300, 0, 30, 50)),
        person(8, bbox=("1", 0, 30, 50)),
        person(9, category_id=2),
    ]
    write(tmp_path / "annotations", "person_keypoints_train2014.json", people)
    data = convert("coco", tmp_path, tmp_path / "out", code=2)["coco_2014_train.npz"]
    assert list(data["imgname"]) == ["train2014/COCO_train2014_000000000009.jpg"]
    np.testing.assert_array_equal(data["center"], [[100.5, 180.0]])
    np.testing.assert_allclose(data["scale"], [1.2 * 240 / 200])
    np.testing.assert_array_equal(data["part"], [part(unlabelled=(0, 3))])
    np.testing.assert_array_equal(data["openpose"], np.zeros((1, 25, 3)))
    said = capsys.readouterr().out
    assert "coco_2014_train.npz: kept 1 of 9" in said
    for line in (
        "left out 1 without labels of all keypoints from shoulders to ankles",
        "left out 1 of images that the file does not list",
        "left out 1 without a box",
        "left out 1 with a number that is not finite",
        "left out 2 with incomplete annotations",
        "left out 1 with an absurd number",
        "left out 1 of a category other than person",
        "detections of OpenPose: for 0 of 1",
        "People written: 1. Left out because something is wrong with them: 6.",
        "no val:",
    ):
        assert line in said


@pytest.mark.parametrize("module", ["coco", "dp_coco"])
def test_keypoints_in_another_order_are_converted_by_name(tmp_path, capsys, module):
    order = np.random.default_rng(1).permutation(17)
    moved = np.reshape(keypoints(unlabelled=(0,)), (17, 3))[order].ravel().tolist()
    names = [COCO17_NAMES[k] for k in order]
    write(tmp_path / "annotations", FILES[module], [dense(1) | {"keypoints": moved}], names=names)
    (data,) = convert(module, tmp_path, tmp_path / "out", code=0).values()
    np.testing.assert_array_equal(data["part"], [part(unlabelled=(0,))])
    assert "were reordered by name" in capsys.readouterr().out
    write(tmp_path / "annotations", FILES[module], [dense(1)], names=["pelvis", *COCO17_NAMES[1:]])
    assert "nose cannot be found among its names pelvis" in refused(capsys, module, tmp_path, tmp_path / "no")


def test_people_of_the_evaluation_have_labels_and_are_no_crowds(tmp_path, capsys):
    people = [
        person(1, keypoints=keypoints(unlabelled=range(1, 17))),
        person(2, iscrowd=1),
        person(3, keypoints=[0] * 51),
    ]
    write(tmp_path / "annotations", "person_keypoints_val2014.json", people, "val")
    data = convert("coco", tmp_path, tmp_path / "out", "--split", "val")["coco_2014_val.npz"]
    assert list(data["imgname"]) == ["val2014/COCO_val2014_000000000009.jpg"]
    np.testing.assert_array_equal(data["part"], [part(unlabelled=range(1, 17))])
    assert "left out 2 that are crowds or have no labelled keypoint" in capsys.readouterr().out


def test_detections_of_the_nearest_person_are_taken(tmp_path):
    write(tmp_path / "annotations", "person_keypoints_train2014.json", [person(1)])
    far = np.tile([900.0, 900.0, 0.9], (25, 1))
    near = np.tile([0.0, 0.0, 0.0], (25, 1))
    for openpose, coco in {2: 6, 3: 8, 4: 10, 5: 5, 9: 12}.items():  # right arm, left shoulder, right hip
        near[openpose] = (POINTS[coco][0] + 3, POINTS[coco][1] - 4, 0.5)
    detected = {"people": [{"pose_keypoints_2d": list(p.ravel())} for p in (far, near)]}
    (tmp_path / "op").mkdir()
    (tmp_path / "op" / "COCO_train2014_000000000009_keypoints.json").write_text(json.dumps(detected))
    flags = ("--openpose", str(tmp_path / "op"))
    data = convert("coco", tmp_path, tmp_path / "a", *flags)["coco_2014_train.npz"]
    np.testing.assert_array_equal(data["openpose"], [near])

    detected["people"].pop()  # the rest has no label
    (tmp_path / "op" / "COCO_train2014_000000000009_keypoints.json").write_text(json.dumps(detected))
    data = convert("coco", tmp_path, tmp_path / "b", *flags)["coco_2014_train.npz"]
    assert not data["openpose"].any()


def rle(left, right):
    """A run-length code, as in the public file, of columns left to right of 256 x 256."""
    mask = np.zeros((256, 256), np.uint8, order="F")
    mask[:, left:right] = 1
    code = coco_mask.encode(mask)
    return {"counts": code["counts"].decode(), "size": list(code["size"])}


def dense(number, **more):
    return person(number) | {
        "dp_masks": [rle(10, 30), [], *([[]] * 11), rle(100, 101)],
        "dp_x": [12.5, 200.0],
        "dp_y": [30.0, 255],
        "dp_I": [1.0, 24.0],
        "dp_U": [0.25, 0.5],
        "dp_V": [0.75, 1.0],
    } | more  # fmt: skip


def test_dense_annotations_come_back_as_they_are(tmp_path, capsys):
    people = [
        dense(31),
        person(32),
        dense(33, dp_x=[1.0]),
        dense(34, dp_U=[0.1, float("inf")]),
        dense(35, dp_masks=[[]]),
    ]
    write(tmp_path / "annotations", "densepose_coco_2014_minival.json", people, "val")
    data = convert("dp_coco", tmp_path, tmp_path / "out")["dp_coco_2014_minival.npz"]
    assert list(data["imgname"]) == ["val2014/COCO_val2014_000000000009.jpg"]
    assert (data["im_id"], data["id"]) == (9, 31)
    expected = {key: dense(31)[key] for key in ("bbox", "dp_x", "dp_y", "dp_I", "dp_U", "dp_V", "dp_masks")}
    assert data["dp_annot"][0] == expected
    decoded = coco_mask.decode(data["dp_annot"][0]["dp_masks"][0])
    assert decoded[:, 10:30].all() and decoded.sum() == 20 * 256
    np.testing.assert_array_equal(data["part"], [part()])
    said = capsys.readouterr().out
    assert "left out 3 with incomplete annotations" in said and "left out 1 without part masks" in said


def test_dense_annotations_under_the_name_of_today(tmp_path):
    write(tmp_path / "annotations", "densepose_minival2014.json", [dense(31)], "val")
    assert list(convert("dp_coco", tmp_path, tmp_path / "out")) == ["dp_coco_2014_minival.npz"]


def test_smpl_joints_of_a_person_by_hand(tmp_path):
    write(tmp_path, "densepose_coco_2014_train.json", [dense(1, keypoints=keypoints(unlabelled=(0, 15)))])
    data = convert("dp_coco", tmp_path, tmp_path / "out", "--split", "train")["dp_coco_2014_train.npz"]
    assert data["imgname"][0].startswith("train2014/")
    joints = data["smpl_2dkps"][0]
    expected = {
        1: (210, 211), 2: (220, 212), 4: (230, 213), 5: (240, 214), 8: (260, 216),  # hips, knees, right ankle
        16: (150, 205), 17: (160, 206), 18: (170, 207), 19: (180, 208), 20: (190, 209), 21: (200, 210),
        0: (215, 211.5), 12: (155, 205.5), 6: (185, 208.5), 9: (185, 208.5), 3: (200, 210),
        13: (167.5, 206.75), 14: (172.5, 207.25), 11: (260, 216), 22: (190, 209), 23: (200, 210),
    }  # fmt: skip
    # Not labelled: the left ankle (7) and the foot behind it (10), and the nose, so that there is no head (15).
    np.testing.assert_allclose(joints, rows24({j: (*xy, 0.5) for j, xy in expected.items()}))


def test_smpl_joints_equal_the_golden_ones(golden):
    with np.load(golden / "coco_to_smpl.npz") as data:
        np.testing.assert_allclose(smpl_keypoints(data["coco"]), data["smpl"], rtol=1e-12)


FILES = {"coco": "person_keypoints_train2014.json", "dp_coco": "densepose_coco_2014_train.json"}


@pytest.mark.parametrize("module", FILES)
def test_damaged_files_are_named(tmp_path, capsys, module):
    folder, out = tmp_path / "annotations", tmp_path / "out"
    said = refused(capsys, module, tmp_path, out)
    assert FILES[module] in said and "Not there" in said
    write(folder, FILES[module], [person(1)], broken=True)
    assert "not valid JSON" in refused(capsys, module, tmp_path, out)
    (folder / FILES[module]).write_text('{"images": [], "annotations": [1]}')
    assert "names no images" in refused(capsys, module, tmp_path, out)
    write(folder, FILES[module], [])
    assert "Nothing is left" in refused(capsys, module, tmp_path, out)
    write(folder, FILES[module], [person(1)])
    second = "val" if module == "coco" else "minival"
    assert "Not there" in refused(capsys, module, tmp_path, out, "--split", second)


def test_a_damaged_second_file_leaves_nothing_behind(tmp_path, capsys):
    write(tmp_path / "annotations", "person_keypoints_train2014.json", [person(1)])
    write(tmp_path / "annotations", "person_keypoints_val2014.json", [person(1)], "val", broken=True)
    assert "val2014.json" in refused(capsys, "coco", tmp_path, tmp_path / "out")
