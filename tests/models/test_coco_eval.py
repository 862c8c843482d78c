"""COCO AP: perfect keypoints score 1, shifted ones less, and broken annotations are one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.evaluation.average_precision import STAT_NAMES, average_precision
from models.evaluation.coco import coco_results

PEOPLE = 6


@pytest.fixture
def truth():
    """Annotations of six people, two in each of three images, half of them large."""
    rng = np.random.default_rng(0)
    images, people, points = [], [], []
    for image in (7, 30, 41):
        images.append({"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 480})
        for side in (60, 200):
            corner = rng.uniform(0, 200, 2)
            xy = corner + rng.uniform(0, side, (17, 2))
            points.append(xy)
            people.append({
                "id": len(people) + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
                "keypoints": np.concatenate([xy, np.full((17, 1), 2)], axis=1).reshape(-1).tolist(),
                "bbox": [*corner.tolist(), side, side], "area": side * side * 0.6,
            })  # fmt: skip
    content = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    return content, np.array([p["image_id"] for p in people]), np.stack(points)


def rows(image_ids, points):
    return coco_results(image_ids, points, np.ones(len(points)), np.zeros((len(points), 2)), np.ones(len(points)))


def test_perfect_keypoints_score_one(truth):
    content, image_ids, points = truth
    scores = average_precision(content, rows(image_ids, points), image_ids.tolist())
    assert list(scores) == list(STAT_NAMES)
    assert all(value == pytest.approx(1.0) for value in scores.values())


def test_a_shift_costs_ap_and_a_missing_person_costs_recall(truth):
    content, image_ids, points = truth
    shifted = average_precision(content, rows(image_ids, points + 8), image_ids.tolist())
    assert 0 < shifted["AP"] < 1 and shifted["AP (M)"] < shifted["AP (L)"]
    fewer = average_precision(content, rows(image_ids[1:], points[1:]), image_ids.tolist())
    assert fewer["AR"] == pytest.approx((PEOPLE - 1) / PEOPLE)


def test_only_the_given_images_count(truth):
    content, image_ids, points = truth
    scores = average_precision(content, rows(image_ids[:2], points[:2]), [7])
    assert scores["AP"] == pytest.approx(1.0)


def test_no_result_scores_nothing_and_absent_sizes_are_nan(truth):
    content, image_ids, points = truth
    assert set(average_precision(content, [], image_ids.tolist()).values()) == {0.0}
    large = [i for i in range(PEOPLE) if i % 2]
    content["annotations"] = [content["annotations"][i] for i in large]
    scores = average_precision(content, rows(image_ids[large], points[large]), image_ids.tolist())
    assert np.isnan(scores["AP (M)"]) and scores["AP (L)"] == pytest.approx(1.0)


def test_a_row_is_what_coco_asks_for():
    points = np.arange(34, dtype=np.float64).reshape(1, 17, 2)
    (row,) = coco_results(np.array([9]), points, np.array([0.5]), np.array([[3.0, 4.0]]), np.array([1.5]))
    assert (row["image_id"], row["category_id"], row["score"]) == (9, 1, 0.5)
    assert row["center"] == [3.0, 4.0] and row["scale"] == [1.5, 1.5]
    assert row["keypoints"][:6] == [0, 1, 1, 2, 3, 1] and len(row["keypoints"]) == 51
    json.dumps(row)
