"""COCO people and detections: boxes, keypoints in any order, gaps that are filled, and files that cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from labelled import N, base_arrays, waves, write_image, write_labels
from pycocotools import mask as coco_mask

from datasets import COCODataset
from datasets.labels.coco import (
    COCO17_NAMES,
    in_file_order,
    keypoint_places,
    read_coco_file,
    truth_for_pycocotools,
)
from datasets.transforms import crop_image
from models.evaluation.average_precision import average_precision
from models.evaluation.coco import coco_results
from utils.images import network_input
from utils.io import DataFileError
from utils.skeleton import GT24_TO_COCO17

SIZE = (320, 240)  # width, height
IMAGES = (7, 42)


def content(change=lambda value: None):
    """Four people with all keypoints labelled, in two images; `change` alters the file."""
    rng = np.random.default_rng(0)
    people = []
    for number in range(4):
        corner = rng.uniform(0, 60, 2).round(1)
        points = corner + rng.uniform(5, 95, (17, 2)).round(1)
        people.append({
            "id": number + 1, "image_id": IMAGES[number % 2], "category_id": 1, "iscrowd": 0, "area": 5000.0,
            "bbox": [*corner.tolist(), 100.0, 120.0], "num_keypoints": 17,
            "keypoints": np.column_stack([points, np.full(17, 2)]).ravel().tolist(),
        })  # fmt: skip
    value = {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.png", "width": SIZE[0], "height": SIZE[1]} for i in IMAGES],
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17_NAMES)}],
    }
    change(value)
    return value


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    for image in IMAGES:
        write_image(folder / "pictures" / f"{image}.png", waves(SIZE[1], SIZE[0], image))

    def write(value, name="ann.json"):
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
        return folder / name

    write.root = folder / "pictures"
    return write


def changed(entries, values):
    for entry in entries:
        entry.update(values)
        for key in [key for key in entry if entry[key] is None]:
            del entry[key]


def each(**values):
    """Set these in all annotations; None takes them away."""
    return lambda value: changed(value["annotations"], values)


def third(**values):
    return lambda value: changed(value["annotations"][2:3], values)


def perfect(file):
    """Rows of a network that finds every person where the file says."""
    people = file.people
    points = np.stack([person.keypoints[:, :2] for person in people])
    ids = np.array([person.image_id for person in people])
    return coco_results(ids, points, np.ones(len(people)), np.zeros((len(people), 2)), np.ones(len(people)))


def test_annotated_people(write):
    value = content(third(num_keypoints=None))
    value["images"].append({"id": 99, "file_name": "99.png"})  # no person is in it: its file is not needed
    value["annotations"][0]["keypoints"][17] = 0
    people = COCODataset(write(value), write.root)
    labels, given = people.labels, value["annotations"][0]
    assert labels.image_id.tolist() == [7, 42, 7, 42] and people.image_ids == [7, 42, 99]
    assert labels.score.tolist() == [1] * 4 and "num_keypoints > 0" in people.rule
    assert np.allclose(labels.center[0], np.add(given["bbox"][:2], (50, 60))) and labels.scale[0] == pytest.approx(0.72)
    points = np.reshape(given["keypoints"], (17, 3))
    visible = points[:, 2] > 0
    stored = labels.keypoints[0, 25:][list(GT24_TO_COCO17)]
    assert np.array_equal(stored[:, 2], visible) and np.array_equal(stored[visible, :2], points[visible, :2])
    assert not labels.keypoints[0, :25].any() and labels.keypoints[0, 25:, 2].sum() == visible.sum() == 16


def test_samples(write):
    value = content()
    people = COCODataset(write(value), write.root)
    sample, center, scale = people[1], people.labels.center[1], people.labels.scale[1]
    assert torch.equal(sample.image, network_input([crop_image(people.image(1), center, scale)])[0])
    assert (sample.name, sample.dataset) == ("42.png", "coco")
    assert not sample.is_flipped and not sample.has_smpl and not sample.has_joints_3d
    nose = (np.array(value["annotations"][1]["keypoints"][:2]) - center) / (100 * scale)
    assert np.allclose(sample.keypoints[25 + GT24_TO_COCO17[0]], [*nose, 1], atol=1e-6)
    legacy = COCODataset(write(value), write.root, crop_mode="legacy")
    assert not torch.equal(legacy[1].image, sample.image)


def test_detections(write):
    found = [
        {"image_id": image, "category_id": category, "bbox": [10, 10, 50, 100], "score": score}
        for image, category, score in ((42, 1, 0.9), (42, 1, 0.2), (42, 2, 0.9), (5, 1, 0.9))
    ]
    files = write(content()), write.root, write(found, "found.json")
    people = COCODataset(*files, min_score=0.5)
    assert people.labels.score.tolist() == [0.9] and people.labels.keypoints is None
    assert people.image_ids == [7, 42] and "at least 0.5" in people.rule
    assert people.left_out["of images that the annotations do not name"] == 1
    assert not people[0].keypoints[:, 2].any() and len(COCODataset(*files)) == 2
    with pytest.raises(DataFileError, match="no person with a score of at least 0.95"):
        COCODataset(*files, min_score=0.95)


def test_the_file_of_2020(tmp_path):
    names = np.array([f"val2014/COCO_val2014_{i:012d}.png" for i in (31, 4, 31, 100000000042)])
    arrays = {k: base_arrays()[k] for k in ("center", "scale", "part")} | {"imgname": names}
    for name in (*names, "val2014/xxx.png"):
        write_image(tmp_path / "coco" / str(name), waves(240, 250))
    write_labels(tmp_path, "coco_2014_val", **arrays)
    people = COCODataset.from_extras(tmp_path)
    assert people.labels.image_id.tolist() == [31, 4, 31, 100000000042]
    assert people.image_ids == [31, 4, 100000000042] and people.labels.score.tolist() == [1] * N
    assert np.allclose(people[2].scale, arrays["scale"][2]) and people.rule.startswith("boxes of coco_2014_val")
    write_labels(tmp_path, "coco_2014_val", **arrays | {"imgname": np.array(["val2014/xxx.png"] * N)})
    with pytest.raises(DataFileError, match="does not end in an image id"):
        COCODataset.from_extras(tmp_path)


def corners(value):
    for number, entry in enumerate(value["annotations"]):
        x, y = 150 + number, 110 + number
        entry["bbox"] = [x, y, x + 100, y + 120]


def shares(value):
    for entry in value["annotations"]:
        points = np.reshape(entry["keypoints"], (17, 3)) / (*SIZE, 1)
        entry["keypoints"] = points.ravel().tolist()


ABSURD = [
    {"bbox": [1e308, 0, 10, 10]}, {"bbox": [0, 0, 1e308, 1e308]}, {"bbox": [10**30, 0, 1, 1]}, {"bbox": ["1", 2, 3, 4]},
    {"bbox": [True, 2, 3, 4]}, {"bbox": [5, 5, -3, 4]}, {"area": 1e308}, {"area": "big"}, {"area": float("nan")},
    {"keypoints": [1e308] * 51}, {"keypoints": [True] * 51}, {"keypoints": ["1"] * 51}, {"image_id": 2**70},
    {"image_id": "42"}, {"id": "a"}, {"iscrowd": 2}, {"num_keypoints": 1e308},
]  # fmt: skip


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
        (content(lambda value: value.update(annotations=[])), "no people with iscrowd 0"),
        (content(third(bbox=None)), "annotation 2 lacks 'bbox'"),
        (content(third(bbox=[1, 2, 3])), "'bbox' is .*, expected x, y, width, height"),
        (content(third(bbox=[1, 2, 0, 0])), "expected x, y, width, height with a positive size"),
        (content(third(keypoints=[1, 2, 3])), "'keypoints' is .*, expected 51 numbers"),
        (content(third(image_id=None)), "annotation 2 lacks 'image_id'"),
        (content(third(image_id=8)), "belongs to image 8, which the file does not name"),
        (content(corners), "4 of 4 boxes leave their images.*as corners x1, y1, x2, y2 all fit"),
        (content(shares), "all labelled keypoints lie in 0..1"),
        (content(each(bbox=[0.2, 0.2, 0.3, 0.4])), "all box centres lie in 0..1"),
        (content(each(bbox=[5000.0, 20, 80, 90])), "no box touches its image"),
        *((content(third(**values)), f"annotation 2: '{[*values][0]}' is .*, expected") for values in ABSURD),
    ],
)
def test_malformed_annotations(write, value, said):
    with pytest.raises(DataFileError, match=f"ann.json.*{said}"):
        COCODataset(write(value), write.root)


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
        COCODataset(write(content()), write.root, write(value, "found.json"))
    assert "found.json" in str(caught.value)


def test_missing_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        COCODataset(tmp_path / "none.json", write.root)
    with pytest.raises(FileNotFoundError, match="which is not there"):
        COCODataset(write(content()), tmp_path / "none")
    value = content(lambda value: value["images"][0].update(file_name="gone.png"))
    with pytest.raises(FileNotFoundError, match="1 of the 2 images .* the first is gone.png"):
        COCODataset(write(value), write.root)


def reordered(value, order, names=COCO17_NAMES):
    value["categories"][0]["keypoints"] = [names[place] for place in order]
    for entry in value["annotations"]:
        entry["keypoints"] = np.reshape(entry["keypoints"], (-1, 3))[order].ravel().tolist()
    return value


def test_another_order_is_read_by_name_and_scores_as_coco_s_own(write):
    order = np.random.default_rng(3).permutation(17)
    plain = read_coco_file(write(content()))
    file = read_coco_file(write(reordered(content(), order)))
    for person, other in zip(plain.people, file.people, strict=True):
        np.testing.assert_array_equal(person.keypoints, other.keypoints)
    scores = average_precision(truth_for_pycocotools(file), perfect(file), IMAGES)
    assert scores["AP"] == pytest.approx(1.0) and "were reordered by name" in " ".join(file.notes)
    assert not plain.notes


def test_results_stand_in_the_file_s_own_order_and_category(write):
    order = np.random.default_rng(4).permutation(17)
    value = reordered(content(each(category_id=5)), order)
    value["categories"][0]["id"] = 5
    file = read_coco_file(write(value))
    rows = in_file_order(perfect(file), file.head)
    for row, entry in zip(rows, value["annotations"], strict=True):
        written, given = (np.reshape(e["keypoints"], (17, 3)) for e in (row, entry))
        np.testing.assert_allclose(written[:, :2], given[:, :2])
        assert row["category_id"] == 5


@pytest.mark.parametrize(
    "style",
    [str.upper, lambda n: n.replace("_", " "), lambda n: n.replace("_", ""), lambda n: n.title().replace("_", ""),
     lambda n: "-".join(reversed(n.split("_"))), lambda n: n.replace("left_", "l_").replace("right_", "R ")],
)  # fmt: skip
def test_spellings_of_names(style):
    assert keypoint_places([style(name) for name in COCO17_NAMES], "a file") == tuple(range(17))


H36M = (
    "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax neck head left_shoulder "
    "left_elbow left_wrist right_shoulder right_elbow right_wrist"
).split()


@pytest.mark.parametrize(
    "names", [H36M, COCO17_NAMES[:16], ["nose"] * 17, [*COCO17_NAMES, "nose"], "nose", [1] * 17, {}]
)
def test_other_keypoints_are_refused_before_anything_is_scored(write, names):
    names = list(names) if isinstance(names, tuple) else names
    change = lambda value: value["categories"][0].update(keypoints=names)  # noqa: E731
    with pytest.raises(DataFileError, match="ann.json, category 1"):
        COCODataset(write(content(change)), write.root)


@pytest.mark.parametrize("missing", ["area", "iscrowd", "category_id", "id", "num_keypoints"])
def test_what_can_be_filled_in_is_and_the_score_stays(write, missing):
    file = read_coco_file(write(content(each(**{missing: None}))))
    scores = average_precision(truth_for_pycocotools(file), perfect(file), IMAGES)
    assert scores["AP"] == pytest.approx(1.0) and f"{missing} " in file.notes[0] and "4" in file.notes[0]


def square(side):
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8, order="F")
    mask[10 : 10 + side, 20 : 20 + side] = 1
    return mask


def test_areas_come_from_polygons_runs_or_the_box(write):
    code = coco_mask.encode(square(30))
    code = {"counts": code["counts"].decode(), "size": list(code["size"])}
    flat = square(30).ravel(order="F")
    edges = np.flatnonzero(np.diff(np.r_[0, flat, 0])) if flat[0] == 0 else None
    runs = {"counts": np.diff(np.r_[0, edges, flat.size]).tolist(), "size": [SIZE[1], SIZE[0]]}
    polygon = [[20, 10, 50, 10, 50, 40, 20, 40]]
    value = content(each(area=None))
    given = [code, runs, polygon, {"counts": "zzz", "size": [9, 9]}]
    for entry, segmentation in zip(value["annotations"], given, strict=True):
        entry["segmentation"] = segmentation
    areas = [person.area for person in read_coco_file(write(value)).people]
    assert areas == pytest.approx([900, 900, 900, 0.53 * 100 * 120])


def test_any_single_category_is_the_person_s_and_others_are_counted(write):
    value = content(each(category_id=0))
    value["categories"] = [{"id": 0, "name": "player"}]
    assert len(COCODataset(write(value), write.root)) == 4
    value = content(third(category_id=2))
    value["categories"].append({"id": 2, "name": "dog"})
    people = COCODataset(write(value), write.root)
    assert len(people) == 3 and people.left_out == {"of a category other than person": 1}


def test_what_is_left_out_is_counted_by_reason(write):
    value = content(third(iscrowd=1))
    value["annotations"][0].update(num_keypoints=0)
    people = COCODataset(write(value), write.root)
    assert people.left_out == {"that are crowds": 1, "without a labelled keypoint": 1}
    assert "a num_keypoints that differs" in people.suspicions[0]
    with pytest.raises(DataFileError, match="holds no people .*4 that are crowds"):
        COCODataset(write(content(each(iscrowd=1))), write.root)


def test_a_few_boxes_of_another_form_and_other_sizes_are_suspected(write):
    value = content(corners)
    value["annotations"] = value["annotations"][:1]
    assert "x1, y1, x2, y2" in COCODataset(write(value), write.root).suspicions[0]
    value = content(lambda value: [image.update(width=640, height=480) for image in value["images"]])
    assert "320 x 240 px, not 640 x 480" in COCODataset(write(value), write.root).suspicions[0]


@pytest.mark.parametrize("more", [{}, {"dp_y": [1.0]}])
def test_a_person_with_empty_lists_of_points_has_no_dense_labels(more, tmp_path):
    """Such a person would lower every score; lists of several lengths are damage, to be said by who reads them."""
    labels = {key: [] for key in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")} | more
    person = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 60], "id": 1, **labels}
    content = {"images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 80}], "annotations": [person]}
    (tmp_path / "dense.json").write_text(json.dumps(content))
    (found,) = read_coco_file(tmp_path / "dense.json").people
    assert (found.dense is None) is (not more)
