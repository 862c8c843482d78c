"""Unusual and bad boxes and keypoints: what is refused, what is left out, and what is cut out all the same."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from datasets.people.boxes import load_boxes
from datasets.people.crops import People
from datasets.people.openpose import KeypointFiles


def ramp():
    """A smooth image of 100 x 100 px without black."""
    y, x = np.mgrid[:100, :100]
    return Image.fromarray(np.stack([x + 50, y + 50, 200 - x], -1).astype(np.uint8))


# ---------------------------------------------------------------------------------------------------------- boxes

GOOD = [20, 20, 60, 60]


def with_boxes(folder, boxes):
    ramp().save(folder / "a.png")
    (folder / "boxes.json").write_text(json.dumps({"a.png": boxes}))
    return list(People(folder, load_boxes(folder / "boxes.json")))


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([200, 20, 50, 50], "lies outside the image of 100 x 100 px"),
        ([-90, 20, 50, 50], "lies outside the image of 100 x 100 px"),
        ([99.5, 20, 50, 50], "has only 0.5 x 50 px in the image of 100 x 100 px"),
        ([20, -48, 50, 50], "has only 50 x 2 px in the image"),
        ([float("nan"), 20, 50, 50], "holds numbers that are not finite"),
        ([20, 20, float("inf"), 50], "holds numbers that are not finite"),
        ([1e308, 20, 1e308, 50], "lies outside the image"),
        ([-1e307, 20, 1e308, 50], "far larger than the image; are these pixels?"),
        ([0.2, 0.2, 0.6, 0.6], "0.6 x 0.6 px is too small for a person"),
        ([60, 60, -50, -50], "-50 x -50 px is too small for a person"),
        ([20, 20, 0, 50], "0 x 50 px is too small for a person"),
        ([-150, 20, 400, 5], "400 x 5 px is too narrow for a person"),
        ([-500, -500, 1000, 1000], "far larger than the image"),
    ],
)
def test_a_bad_box_is_reported_and_the_next_one_is_cut_out(tmp_path, box, said):
    bad, good = with_boxes(tmp_path, [box, GOOD])
    assert bad.reason.startswith("box 0: ") and said in bad.reason and good.box == tuple(GOOD)


NOT_A_BOX = r"a box is four numbers \[x, y, width, height\], got "
BOXES_FILES = {
    "not JSON": ("{", "is not valid JSON"),
    "empty": ("", "is not valid JSON"),
    "cut off": ('{"a.png": [[1, 2, 3', "is not valid JSON"),
    "another encoding": ('{"ä.png": []}'.encode("utf-16"), "is not valid JSON"),
    "too deep": ("[" * 100_000, "is not valid JSON"),
    "too many digits": ('{"a.png": [[' + "9" * 5000 + ", 1, 2, 3]]}", "is not valid JSON"),
    "null": ("null", "is neither"),
    "text": ('"annotations"', "is neither"),
    "strings": ('{"a.png": ["1234"]}', NOT_A_BOX + "'1234'"),
    "numbers as strings": ('{"a.png": [["1", "2", "3", "4"]]}', NOT_A_BOX),
    "truths": ('{"a.png": [[true, false, true, true]]}', NOT_A_BOX),
    "a number missing": ('{"a.png": [[1, 2, 3]]}', NOT_A_BOX + r"\[1, 2, 3\]"),
    "a missing number": ('{"a.png": [[1, 2, null, 4]]}', NOT_A_BOX),
    "one box, not a list of them": ('{"a.png": [1, 2, 3, 4]}', NOT_A_BOX + "1"),
    "corners by name": ('{"a.png": [{"x": 1, "y": 2, "w": 3, "h": 4}]}', NOT_A_BOX),
    "beyond any float": ('{"a.png": [[1' + "0" * 400 + ", 1, 2, 3]]}", "is neither"),
    "a list of numbers": ("[1, 2]", "is neither"),
    "detections without picture": ('[{"bbox": [1, 2, 3, 4]}]', "is neither.*image_id"),
    "scores as words": ('[{"image_id": 1, "score": "high", "bbox": [1, 2, 3, 4]}]', "is neither"),
    "a name twice": ('{"a.png": [[1, 2, 30, 40]], "a.png": []}', "'a.png' stands twice"),
    "an id twice": (
        '{"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}], "annotations": []}',
        "several images have the id 1",
    ),
}


@pytest.mark.parametrize("kind", BOXES_FILES)
def test_a_bad_boxes_file_is_refused_before_anything_runs(tmp_path, kind):
    content, said = BOXES_FILES[kind]
    (tmp_path / "boxes.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"The boxes file '.*boxes.json' .*{said}"):
        load_boxes(tmp_path / "boxes.json")


def detected(**changes):
    return [{"image_id": 1, "category_id": 1, "bbox": GOOD, "score": 0.9} | changes]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (detected(score=0.3), "all that it has of them was left out: 1 with a score below 0.5"),
        (detected(category_id=7), "left out: 1 of a category other than person"),
        (detected(iscrowd=1), "left out: 1 that are crowds"),
        (detected(image_id=2, score=0.3), "its keys must be file names"),
        ({"im1.png": []}, "it names them, without boxes"),
        (
            {"images": [{"id": 9, "file_name": "im1.png"}], "annotations": detected(image_id=9, score=0.1)},
            "left out: 1 with a score below 0.5",
        ),
    ],
)
def test_a_file_without_people_is_refused_with_its_true_cause(tmp_path, content, said):
    ramp().save(tmp_path / "im1.png")
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"has a person in the boxes file: .*{said}"):
        People(tmp_path, load_boxes(tmp_path / "boxes.json"))


def test_any_single_category_is_the_person_s_and_what_is_not_used_is_in_the_record(tmp_path):
    ramp().save(tmp_path / "im1.png")
    content = {"annotations": detected(category_id=3) + detected(category_id=3, score=0.1)}
    content["categories"] = [{"id": 3, "name": "player"}]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    people = People(tmp_path, load_boxes(tmp_path / "boxes.json"))
    assert len(list(people)) == 1 and not people.facts
    assert people.unused.as_json()["boxes with a score below 0.5"]["count"] == 1


def test_boxes_that_are_corners_are_refused_and_a_single_one_is_suspected(tmp_path):
    corners = [[50 + i, 40, 95, 98] for i in range(3)]
    (person,) = with_boxes(tmp_path, corners[:1])
    assert person.box == (50, 40, 95, 98)
    people = People(tmp_path, load_boxes(tmp_path / "boxes.json"))
    assert "as corners x1, y1, x2, y2 all fit" in people.facts["suspicions"]
    with pytest.raises(ValueError, match="3 of 3 boxes leave their images"):
        with_boxes(tmp_path, corners)


# ------------------------------------------------------------------------------------------------------ keypoints

POINTS = [[10.0 + i, 20.0 + 2 * i, 0.9] for i in range(25)]


def with_keypoints(folder, content):
    (folder / "json").mkdir()
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    for name in ("a", "b"):
        ramp().save(folder / f"{name}.png")
    (folder / "json" / "a_keypoints.json").write_bytes(raw)
    whole = {"people": [{"pose_keypoints_2d": np.ravel(POINTS).tolist()}]}
    (folder / "json" / "b_keypoints.json").write_text(json.dumps(whole), encoding="utf-8-sig")
    return list(People(folder, KeypointFiles(folder / "json")))


def person(points):
    return {"people": [{"pose_keypoints_2d": np.ravel(points).tolist()}]}


FORM = "must hold 'people' with 75 numbers"
KEYPOINTS = {
    "not JSON": (b"{", "is not valid JSON"),
    "empty": (b"", "is not valid JSON"),
    "too deep": (b"[" * 100_000, "is not valid JSON"),
    "no people": ({"version": 1.3}, FORM),
    "a list": ([1, 2], FORM),
    "people without points": ({"people": [{}]}, FORM),
    "people that are words": ({"people": ["me"]}, FORM),
    "18 points": (person(POINTS[:18]), FORM),
    "words": ({"people": [{"pose_keypoints_2d": ["left"] * 75}]}, FORM),
    "an empty list": ({"people": []}, "holds no person that can be cut out"),
    "not a number": (person([[float("nan")] * 3] * 25), "holds no person that can be cut out"),
    "unsure": (person([[*p[:2], 0.1] for p in POINTS]), "holds no person that can be cut out"),
    "one point": (person([[5, 5, 0.9]] + [[0, 0, 0]] * 24), "holds no person that can be cut out"),
    "one place": (person([[5, 5, 0.9]] * 25), "box 0: 0 x 0 px is too small"),
    "elsewhere": (person([[p[0] + 900, *p[1:]] for p in POINTS]), "box 0: .* lies outside the image"),
    "huge": (person([[-1e308, 0, 1], [1e308, 9, 1]] + [[0, 0, 0]] * 23), "holds no person that can be"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KEYPOINTS)
def test_a_bad_file_of_keypoints_costs_its_image_only(tmp_path, kind):
    content, said = KEYPOINTS[kind]
    bad, good = with_keypoints(tmp_path, content)
    assert bad.path.name == "a.png" and good.path.name == "b.png" and good.box == (10, 20, 24, 48)
    assert re.search(said, bad.reason), bad.reason
