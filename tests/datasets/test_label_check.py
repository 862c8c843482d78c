"""Labels that cannot be, or hardly: units, axes, forms and absurd numbers of label files, named before any network."""

from __future__ import annotations

import numpy as np
import pytest
from labelled import waves, write_image, write_labels

from datasets import BaseDataset
from utils.io import DataFileError

N, SIDE = 5, 200


def standing():
    """S of people of 1.5 m from ankles to neck in a camera's frame: y down, the pelvis at the origin."""
    joints = np.zeros((N, 24, 4))
    for row, (x, y) in enumerate([(1, 8), (1, 4), (1, 0), (-1, 0), (-1, 4), (-1, 8)]):  # legs
        joints[:, row, :2] = 0.1 * x, 0.1 * y
    joints[:, 6:12, 1], joints[:, 12, 1], joints[..., 3] = -0.4, -0.5, 1
    return joints


def arrays(**changes):
    legs = np.zeros((24, 3))
    legs[[4, 5], 1], legs[[7, 8], 1] = 0.4, 0.8
    return {
        "imgname": np.array([f"images/{i}.png" for i in range(N)]), "center": np.full((N, 2), 100.0),
        "scale": np.full(N, 0.6), "part": np.tile([120.0, 100.0, 1.0], (N, 24, 1)), "S": standing(),
        "pose": np.full((N, 72), 0.3), "shape": np.full((N, 10), 0.5), "smpl_joints": np.tile(legs, (N, 1, 1)),
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    for name in arrays()["imgname"]:
        write_image(folder / "mpii" / str(name), waves(SIDE, SIDE))

    def people(**changes):
        write_labels(folder, "mpii_train", **arrays(**changes))
        return BaseDataset("mpii", folder)

    return people


def changed(field, change):
    values = arrays()[field].copy()
    change(values)
    return {field: values}


def scaled(field, factor):
    return {field: arrays()[field] * factor}


def one(field, value):
    return changed(field, lambda values: values.__setitem__(3, value))


IMPOSSIBLE = {
    "one far joint": (
        changed("S", lambda s: s.__setitem__((3, 1, 0), -1e6)),
        r"S of item 3 has 1e\+06 m from joint to joint, which no body has \(1 such people\)",
    ),
    "one shape": (one("shape", 500), "shape of item 3 has 500 as its largest number"),
    "millimetres": (scaled("S", (1e3, 1e3, 1e3, 1)), "S: thighs and shins are 400 long .* Is it millimetres"),
    "centimetres": (scaled("S", (100, 100, 100, 1)), "thighs and shins are 40 long .* Is it centimetres"),
    "body in millimetres": (scaled("smpl_joints", 1e3), "smpl_joints: thighs .* Is it millimetres"),
    "degrees": (scaled("pose", 180 / np.pi), "axis-angles in radians. Are these degrees"),
    "a box in pixels": (scaled("scale", 200), "boxes are 120 times as large as their images"),
    "shares": (scaled("center", 1 / SIDE), "all box centres lie in 0..1"),
    "shares of keypoints": (scaled("part", (1 / SIDE, 1 / SIDE, 1)), "all labelled keypoints lie in 0..1"),
    "other pictures": (scaled("center", 90), "no box touches its image; the first is around"),
    "300 shape numbers": ({"shape": np.zeros((N, 300))}, r"shape has the shape \(5, 300\); expected .* Keep the first"),
    "text": ({"scale": np.full(N, "0.6")}, "scale holds <U3; expected numbers"),
    "truths": ({"S": standing() > 0}, "S holds bool; expected numbers"),
    "objects": ({"scale": np.array(["0.6"] * N, object)}, "scale holds <U3; expected numbers"),
    "huge scale": (one("scale", 1e308), "scale of item 3 is 1e[+]308, expected at most 5,000"),
    "huge centre": (one("center", -1e300), "center of item 3 is -1e[+]300, expected at most 1,000,000"),
    "huge joint": (one("S", 1e200), "S of item 3 is 1e[+]200"),
    "huge keypoint": (one("part", np.inf), "part of item 3 is not finite"),
    "huge pose": (one("pose", 1e9), "pose of item 3 is 1e[+]09, expected at most 1,000"),
    "huge integers": ({"scale": np.full(N, 2**63 - 1)}, "scale of item 0 is 9.22337e[+]18"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_what_cannot_be_is_refused_with_its_file(people, kind):
    changes, said = IMPOSSIBLE[kind]
    with pytest.raises(DataFileError, match=f"mpii_train.npz.*{said}"):
        people(**changes)


ODD = {
    "upside down": (scaled("S", (1, -1, 1, 1)), "are upside down"),
    "a giant": (scaled("S", (3, 3, 3, 1)), "thighs and shins are 1.2 m long"),
    "percent": (scaled("part", (1, 1, 100)), "confidences of keypoints reach 100; expected 0 to 1"),
    "far keypoints": (scaled("part", (9, 9, 1)), "100% of the labelled keypoints lie far outside"),
    "no keypoints": (scaled("part", (1, 1, 0)), "none of its keypoints is labelled"),
    "shapes": (scaled("shape", 30), "5 people have a shape number beyond 10"),
    "one elsewhere": (one("center", 900.0), "1 of 5 boxes looked at lie outside their images"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_unusual_is_suspected(people, kind):
    changes, said = ODD[kind]
    (sentence,) = people(**changes).suspicions
    assert said in sentence and "mpii_train.npz" in sentence


def test_plain_labels_are_not_suspected_and_fields_without_use_are_counted(people):
    good = people(foo=np.zeros(2), bar=np.zeros(3))
    assert not good.suspicions
    assert good.left_out == {"fields of the label file that nothing reads (bar, foo)": 2}
