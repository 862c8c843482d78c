"""COCO people: which annotations and detections count, their boxes and keypoints, and malformed files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from labelled import N, base_arrays, waves, write_labels, write_picture

from datasets import COCODataset
from datasets.transforms import preprocess
from utils.io import DataFileError
from utils.skeleton import GT24_TO_COCO17


def keypoints(seed=0):
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(20, 200, (17, 2)).round(1), rng.integers(0, 3, 17)])
    points[0, 2] = 2
    return points


def annotation(image_id, number, **changes):
    points = keypoints(number)
    entry = {
        "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": 900.0,
        "bbox": [30.0, 20.0, 80.0, 120.0 + number], "keypoints": points.reshape(-1).tolist(),
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }  # fmt: skip
    return {key: value for key, value in (entry | changes).items() if value is not None}


def content(*annotations):
    return {
        "images": [{"id": i, "file_name": f"{i:012d}.png", "height": 200, "width": 240} for i in (7, 42, 99)],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}],
    }


GOOD = (
    annotation(42, 1),
    annotation(42, 2, iscrowd=1),
    annotation(7, 3),
    annotation(7, 4, num_keypoints=0),
    annotation(7, 5, category_id=3),
    annotation(7, 6, num_keypoints=None),
)


@pytest.fixture
def write(tmp_path):
    for i in (7, 42):  # nobody is in image 99, so its picture is not needed
        write_picture(tmp_path / "val" / f"{i:012d}.png", waves(200, 240, i))

    def write(value, name="ann.json"):
        path = tmp_path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    write.root = tmp_path / "val"
    return write


def test_annotated_people(write):
    people = COCODataset(write(content(*GOOD)), write.root)
    labels = people.labels
    assert labels.image_id.tolist() == [42, 7, 7] and people.image_ids == [7, 42, 99]
    assert labels.score.tolist() == [1, 1, 1] and "num_keypoints > 0" in people.rule
    assert np.allclose(labels.center[0], (70, 20 + 121 / 2)) and labels.scale[0] == pytest.approx(
        1.2 * 121 / 200
    )
    points = keypoints(1)
    visible = points[:, 2] > 0
    stored = labels.keypoints[0, 25:][list(GT24_TO_COCO17)]
    assert np.array_equal(stored[:, 2], visible) and np.array_equal(stored[visible, :2], points[visible, :2])
    assert not labels.keypoints[0, :25].any() and labels.keypoints[0, 25:, 2].sum() == visible.sum()


def test_samples(write):
    people = COCODataset(write(content(*GOOD)), write.root)
    sample = people[1]
    expected = preprocess(people.image(1), people.labels.center[1], people.labels.scale[1])
    assert (
        torch.equal(sample.image, expected) and sample.name == "000000000007.png" and sample.dataset == "coco"
    )
    assert not sample.is_flipped and not sample.has_smpl and not sample.has_joints_3d
    joint = 25 + GT24_TO_COCO17[0]
    nose = (keypoints(3)[0, :2] - people.labels.center[1]) / (100 * people.labels.scale[1])
    assert np.allclose(sample.keypoints[joint], [*nose, 1], atol=1e-6)
    legacy = COCODataset(write(content(*GOOD)), write.root, crop_mode="legacy")
    assert not torch.equal(legacy[1].image, sample.image)


def test_detections(write):
    found = [
        {"image_id": 42, "category_id": 1, "bbox": [10, 10, 50, 100], "score": 0.9},
        {"image_id": 42, "category_id": 1, "bbox": [20, 10, 50, 100], "score": 0.2},
        {"image_id": 42, "category_id": 2, "bbox": [10, 10, 50, 100], "score": 0.9},
        {"image_id": 5, "category_id": 1, "bbox": [10, 10, 50, 100], "score": 0.9},
    ]
    files = write(content(*GOOD)), write.root, write(found, "found.json")
    people = COCODataset(*files, min_score=0.5)
    assert people.labels.score.tolist() == [0.9] and people.labels.keypoints is None
    assert people.image_ids == [7, 42, 99] and "at least 0.5" in people.rule
    assert people.left_out["of images that the annotations do not name"] == 1
    assert not people[0].keypoints[:, 2].any()
    assert len(COCODataset(*files)) == 2
    with pytest.raises(DataFileError, match="no person with a score of at least 0.95"):
        COCODataset(*files, min_score=0.95)


def test_the_file_of_2020(tmp_path):
    names = np.array([f"val2014/COCO_val2014_{i:012d}.png" for i in (31, 4, 31, 100000000042)])
    arrays = {k: base_arrays()[k] for k in ("center", "scale", "part")} | {"imgname": names}
    write_labels(tmp_path, "coco_2014_val", **arrays)
    for name in names:
        write_picture(tmp_path / "coco" / str(name), waves(240, 250))
    people = COCODataset.from_extras(tmp_path)
    assert people.labels.image_id.tolist() == [31, 4, 31, 100000000042]
    assert people.image_ids == [31, 4, 100000000042] and people.labels.score.tolist() == [1] * N
    assert np.allclose(people[2].scale, arrays["scale"][2]) and people.rule.startswith(
        "boxes of coco_2014_val"
    )
    arrays["imgname"] = np.array(["val2014/" + "x" * 3 + ".png"] * N)
    write_labels(tmp_path, "coco_2014_val", **arrays)
    write_picture(tmp_path / "coco" / "val2014" / "xxx.png", waves(240, 250))
    with pytest.raises(DataFileError, match="does not end in an image id"):
        COCODataset.from_extras(tmp_path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "list of objects under 'images'"),
        ({"images": [1]}, "list of objects under 'images'"),
        ({"images": []}, "names no images"),
        ({"images": [{"id": 1}]}, "image 0 lacks 'file_name'"),
        ({"images": [{"id": "a", "file_name": "x"}]}, "'id' is 'a', expected a whole number"),
        ({"images": [{"id": 1, "file_name": "x"}] * 2}, "the id 1 stands for two images"),
        ({"images": [{"id": 1, "file_name": "x"}]}, "list of objects under 'annotations'"),
        (content(), "no people with iscrowd 0"),
        (content(annotation(42, 1, bbox=None)), "annotation 0 lacks 'bbox'"),
        (content(annotation(42, 1, bbox=[1, 2, 3])), "'bbox' is .*, expected x, y, width, height"),
        (content(annotation(42, 1, bbox=[1, 2, 0, 0])), "expected x, y, width, height with a positive size"),
        (content(annotation(42, 1, keypoints=[1, 2, 3])), "'keypoints' is .*, expected 51 numbers"),
        (
            content({k: v for k, v in annotation(42, 1).items() if k != "image_id"}),
            "annotation 0 lacks 'image_id'",
        ),
        (content(annotation(8, 1)), "belongs to image 8, which the file does not name"),
    ],
)
def test_malformed_annotations(write, value, said):
    with pytest.raises(DataFileError, match=said) as caught:
        COCODataset(write(value), write.root)
    assert "ann.json" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nothing", "not valid JSON"),
        ({"annotations": []}, "list of objects"),
        ([5], "list of objects"),
        ([{"image_id": 42, "category_id": 1, "bbox": [1, 2, 3, 4]}], "detection 0 lacks 'score'"),
        ([{"image_id": 42, "bbox": [1, 2, 3], "score": 1}], "detection 0: 'bbox' is"),
        ([], "no person"),
    ],
)
def test_malformed_detections(write, value, said):
    with pytest.raises(DataFileError, match=said) as caught:
        COCODataset(write(content(*GOOD)), write.root, write(value, "found.json"))
    assert "found.json" in str(caught.value)


def test_missing_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        COCODataset(tmp_path / "none.json", write.root)
    with pytest.raises(FileNotFoundError, match="which is not there"):
        COCODataset(write(content(*GOOD)), tmp_path / "none")
    (write.root / "000000000007.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of the 2 images .* the first is 000000000007.png"):
        COCODataset(write(content(*GOOD)), write.root)
