"""The person detector: what goes into the network and what comes out, tiles, merging, and the real network once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.people import detector
from datasets.people.crops import People
from datasets.people.detector import MoveNet, box_iou, letterbox, suppress, tiles, to_detection
from datasets.people.openpose import OPENPOSE25_TO_COCO17, KeypointFiles
from utils.images import read_image
from utils.people import Detection
from utils.skeleton import OPENPOSE25_NAMES

COCO17 = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()


class MarkFinder:
    """A session that finds white squares on black: their corners and, as 17 keypoints, their middle."""

    def __init__(self, score=0.9):
        self.score, self.seen = score, []

    def run(self, _, feeds):
        image = feeds["picture"][0]
        self.seen.append(image.shape)
        people = np.zeros((1, 6, 56), np.float32)
        rows, columns = np.nonzero(image[..., 0] > 127)
        if len(rows):
            box = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], np.float32)
            box /= np.array([*image.shape[:2]] * 2)
            middle = [*((box[:2] + box[2:]) / 2), 0.5]
            people[0, 0] = [*middle * 17, *box, self.score]
        return [people]


def marked(height, width, x, y, side):
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    return image


@pytest.mark.parametrize(("height", "width"), [(333, 500), (500, 211), (480, 480), (120, 50)])
def test_points_come_back_to_where_they_were_in_rectangular_images(height, width):
    """A point's way into the network's 0..1 and back; the network answers (y, x)."""
    canvas, factor = letterbox(np.zeros((height, width, 3), np.uint8))
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (19, 2)) * (width, height)
    points[17:] = np.sort(points[17:], axis=0)
    asked = points * factor / (canvas.shape[2], canvas.shape[1])
    row = np.concatenate([np.c_[asked[:17, ::-1], np.full(17, 0.5)].ravel(), asked[17:, ::-1].ravel(), [0.7]])
    found = to_detection(row, canvas.shape[1:3], factor, (width, height))
    assert np.allclose(found.keypoints[:, :2], points[:17], atol=1e-3) and (found.keypoints[:, 2] == 0.5).all()
    assert np.allclose(found.box, [*points[17], *(points[18] - points[17])], atol=1e-6)
    assert found.score == 0.7


def test_boxes_end_at_the_image_and_nonsense_is_dropped():
    row = np.zeros(56)
    row[51:] = [-0.5, 0.25, 2.0, 0.5, 0.9]
    found = to_detection(row, (256, 256), (1.0, 1.0), (256, 200))
    assert found.box == (64.0, 0.0, 64.0, 200.0)
    for broken in ([0.5, 0.5, 0.5, 0.7, 1], [0, 1.5, 1, 2, 1], [np.nan, 0, 1, 1, 1], [0, 0, 1, 1, np.inf]):
        row[51:] = broken
        assert to_detection(row, (256, 256), (1.0, 1.0), (256, 200)) is None


def test_low_scores_are_passed_over():
    image = marked(200, 200, 50, 50, 60)
    finder = MoveNet(MarkFinder(0.2))
    assert finder.detect(image) == [] == finder.detect(image)
    assert finder.unused.counts == {"people whom the detector gives a score from 0.1 to 0.25 only": 2}
    assert not MoveNet(MarkFinder(0.05)).unused
    assert len(MoveNet(MarkFinder(0.2), min_score=0.1).detect(image)) == 1


@pytest.mark.parametrize("size", [(640, 480), (512, 512), (2000, 300), (301, 1201)])
@pytest.mark.parametrize("parts", [2, 4])
def test_tiles_cover_the_image_and_overlap(size, parts):
    squares = tiles(*size, parts)
    covered = np.zeros(size[::-1], int)
    for (x, y), side in squares:
        assert (
            x >= 0
            and y >= 0
            and (x + side <= size[0] or side > size[0])
            and (y + side <= size[1] or side > size[1])
        )
        covered[y : y + side, x : x + side] += 1
    assert covered.min() >= 1 and covered.max() >= 2 and len(squares) <= (9, 25)[parts == 4]


def test_large_images_get_a_second_pass_that_counts_no_person_twice():
    session = MarkFinder()
    (found,) = MoveNet(session).detect(marked(600, 800, 190, 160, 40))
    assert len(session.seen) == 1 + len(tiles(800, 600))
    assert np.allclose(found.box, [190, 160, 40, 40], atol=4)
    session = MarkFinder()
    MoveNet(session, tiled=False).detect(marked(600, 800, 190, 160, 40))
    MoveNet(session).detect(marked(400, 500, 190, 160, 40))
    assert len(session.seen) == 2


def test_half_people_at_the_edge_of_a_tile_are_dropped_but_not_at_the_edge_of_the_image():
    finder = MoveNet(MarkFinder())
    image = marked(400, 400, 150, 150, 100)
    assert finder._in_tile(image, (0, 0), 200) == []
    assert len(finder._in_tile(image, (0, 0), 300)) == 1
    assert len(finder._in_tile(marked(400, 400, 0, 0, 100), (0, 0), 200)) == 1


def test_suppression_keeps_the_better_of_two_and_neighbours():
    one, same, near = (Detection((x, 0, 100, 100), s) for x, s in ((0, 0.5), (20, 0.8), (90, 0.3)))
    assert suppress([one, same, near]) == [same, near]
    assert suppress([one, same, near], max_overlap=0.7) == [same, one, near]
    assert box_iou(one.box, same.box) == pytest.approx(80 / 120)
    assert box_iou(one.box, (100, 0, 5, 5)) == 0 == box_iou(one.box, (0, 300, 5, 5))


def test_a_face_is_not_another_person_but_a_child_in_front_is():
    points = np.column_stack([np.linspace(40, 60, 17), np.linspace(10, 190, 17), np.full(17, 0.9)])
    adult = Detection((0, 0, 100, 200), 0.8, points)
    face_points = points.copy()
    face_points[4:, 2] = 0.1  # only the first are sure
    face_points[4:, :2] += 50
    face = Detection((30, 0, 40, 50), 0.5, face_points)
    child = Detection((30, 60, 40, 80), 0.5, points * (0.4, 0.4, 1) + (25, 62, 0))
    assert suppress([face, adult, child]) == [adult, child]
    assert suppress([Detection(face.box, 0.5), adult]) == [adult, Detection(face.box, 0.5)]


def test_the_shipped_network_finds_the_people_of_the_examples(root):
    finder = MoveNet()
    for name in ("grace_hopper", "rendered_1", "rendered_2", "rendered_3", "rendered_4"):
        image = read_image(root / f"examples/{name}.jpg")
        best = finder.detect(image)[0]
        assert best.score > 0.4, name
        assert best.box[3] > 0.7 * image.shape[0], name
        confident = best.keypoints[best.keypoints[:, 2] > 0.3, :2]
        x, y, w, h = best.box
        inside = (confident > (x - 0.1 * w, y - 0.1 * h)) & (confident < (x + 1.1 * w, y + 1.1 * h))
        assert len(confident) >= 5 and inside.mean() > 0.95, name


def test_the_shipped_network_leaves_processors_to_others():
    options = detector.load_session().get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_missing_or_damaged_network_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="git checkout -- data/open"):
        detector.load_session(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match="may be damaged"):
        detector.load_session(tmp_path / "bad.onnx")


def save(path, image):
    Image.fromarray(image).save(path)
    return path


def test_auto_takes_one_persons_crop_whole_and_looks_for_people_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.people.crops.MoveNet", lambda: MoveNet(MarkFinder()))
    save(tmp_path / "a.png", marked(200, 200, 40, 40, 120))
    save(tmp_path / "b.png", marked(200, 300, 60, 60, 80))
    save(tmp_path / "c.png", marked(400, 400, 60, 60, 80))
    save(tmp_path / "d.png", marked(400, 400, 0, 0, 0))
    whole, cut, small, empty = People(tmp_path, detector="auto")
    assert whole.full_image is None and whole.scale == 1.0 and whole.box == (0, 0, 200, 200)
    assert whole.score == pytest.approx(0.9) and whole.keypoints.shape == (17, 3)
    assert cut.full_image.path == tmp_path / "b.png" and cut.keypoints.shape == (17, 3)
    assert cut.scale == pytest.approx(1.2 * 80 / 200, abs=0.02) and cut.score == pytest.approx(0.9)
    assert small.full_image is not None and "no person was found" in empty.reason
    assert [p.full_image is None for p in People(tmp_path, detector="none")] == [True] * 4
    assert all(np.isnan(person.score) for person in People(tmp_path, detector="none"))
    assert [p.full_image is None for p in list(People(tmp_path, detector="movenet"))[:3]] == [False] * 3
    with pytest.raises(ValueError, match="choose one of auto, none, movenet"):
        People(tmp_path, detector="other")


MAIN, HALF, FAR = (50, 20, 120, 180), (0, 20, 60, 170), (20, 90, 60, 80)
GROWN = tuple(5 * value for value in MAIN)


@pytest.mark.parametrize(
    ("size", "boxes", "expected"),
    [
        ((224, 224), [], True),  # a close portrait, perhaps
        ((224, 220), [FAR, MAIN], True),  # a person who fills it, before a bystander
        ((224, 224), [MAIN, HALF], True),  # who is cut by the crop
        ((224, 224), [MAIN, (100, 20, 120, 180)], False),  # two of one size
        ((224, 224), [FAR], False),  # too small to be what was cropped for
        ((224, 224), [(0, 0, 60, 120)], False),  # in a corner
        ((224, 200), [MAIN], False),  # not square
        ((224, 200), [], False),
        ((1120, 1120), [GROWN], True),
        ((1120, 1120), [GROWN, FAR], False),  # all in it are to be found
        ((1120, 1120), [(300, 300, 400, 700)], False),  # a photograph of a person
        ((300, 300), [], False),
    ],
)
def test_which_images_are_one_persons_crop(size, boxes, expected):
    assert detector.is_one_crop(size, boxes) is expected


def test_bystanders_of_a_crop_are_counted():
    class Finder:
        def detect(self, image):
            return [Detection(FAR, 0.9), Detection(MAIN, 0.4)]

    taken = detector.CropOrPeople(Finder())
    (found,) = taken.detect(np.zeros((224, 224, 3), np.uint8))
    assert (found.box, found.score, found.is_whole, found.bystanders) == ((0, 0, 224, 224), 0.4, True, 1)
    assert list(taken.unused.counts.values()) == [1]


def test_six_people_at_a_look_may_not_be_all():
    rows = np.zeros((1, 6, 56), np.float32)
    rows[0, :, 51:] = [[0, i / 6, 1, (i + 1) / 6, 0.9] for i in range(6)]
    finder = MoveNet(SimpleNamespace(run=lambda *_: [rows]))
    assert len(finder.detect(marked(200, 200, 0, 0, 8))) == 6
    assert list(finder.unused.counts.values()) == [1] and "may be missing" in finder.unused.line()


def openpose(points):
    body = np.zeros((25, 3))
    body[: len(points)] = points
    return {"pose_keypoints_2d": body.ravel().tolist()}


def test_keypoints_files_give_boxes_of_their_confident_points(tmp_path):
    (tmp_path / "json").mkdir()
    (
        save(tmp_path / "a.png", marked(200, 300, 60, 60, 80)),
        save(tmp_path / "b.png", marked(200, 300, 60, 60, 80)),
    )
    people = [openpose([(50, 40, 0.9), (90, 160, 0.3), (290, 190, 0.2)]), openpose([(5, 5, 0.9)])]
    (tmp_path / "json/a_keypoints.json").write_text(json.dumps({"people": people}))
    (tmp_path / "json/c_keypoints.json").write_text("{}")
    (person,) = People(tmp_path, KeypointFiles(tmp_path / "json"))
    assert (person.stem, person.box, person.center) == ("a", (50, 40, 40, 120), (70, 100))
    assert person.scale == pytest.approx(120 / 200 * 1.2)
    assert person.keypoints.shape == (17, 3) and person.keypoints[0] == pytest.approx([50, 40, 0.9])
    assert [OPENPOSE25_NAMES[i] for i in OPENPOSE25_TO_COCO17] == COCO17


def test_a_folder_of_keypoints_that_is_not_there_or_of_other_images(tmp_path):
    save(tmp_path / "a.png", marked(200, 300, 60, 60, 80))
    with pytest.raises(ValueError, match="no folder"):
        KeypointFiles(tmp_path / "none")
    with pytest.raises(ValueError, match="None of the images in .* has a person in the folder of keypoints"):
        People(tmp_path, KeypointFiles(tmp_path))
