"""Users' images and boxes: every mode, orientation and kind of damage, and every kind of boxes file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.people.boxes import load_boxes
from datasets.people.crops import People
from datasets.people.images import list_images
from datasets.people.video_people import VideoPeople
from examples import box_to_crop
from models.inference.image_files import write_image
from utils.images import network_input, normalize
from utils.people import Detection, Frame
from utils.unused import EXAMPLES, Unused


def photo(height=60, width=40):
    """A smooth image with four different corners."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], -1).astype(np.uint8)


def save(path, array=None, **kwargs):
    Image.fromarray(photo() if array is None else array).save(path, **kwargs)
    return path


def test_whole_image_is_one_crop_padded_to_a_square(tmp_path):
    (person,) = People(save(tmp_path / "a.png", photo(100, 50)))
    assert (person.center, person.scale, person.image_size) == ((25.0, 50.0), 0.5, (50, 100))
    assert not person.crop[:, :50].any() and person.crop[:, 60:160].any()
    pixels = network_input([person.crop, person.crop], normalise=False)
    assert pixels.shape == (2, 3, 224, 224) and 0 <= pixels.min() <= pixels.max() <= 1
    assert torch.equal(network_input([person.crop]), normalize(pixels[:1]))


def test_no_two_images_share_an_output_name(tmp_path):
    names = ["a.jpg", "a.png", "a_jpg.jpg", "a_jpg_.png", "A_JPG__.bmp"]
    for name in names:
        save(tmp_path / name)
    stems = {p.path.name: p.stem for p in People(tmp_path)}
    assert len({stem.lower() for stem in stems.values()}) == len(names)
    assert stems["a_jpg.jpg"] == "a_jpg" and stems["a.png"] == "a_png"


def test_people_and_images_never_share_a_name(tmp_path):
    save(tmp_path / "a.png"), save(tmp_path / "a_1.png")
    (tmp_path / "b.json").write_text(json.dumps({"a.png": BOXES, "a_1.png": BOXES[:1]}))
    found = People(tmp_path, load_boxes(tmp_path / "b.json"))
    assert [p.stem for p in found] == ["a_0", "a_1_", "a_1"]


def test_earlier_results_are_no_input(tmp_path):
    save(tmp_path / "a.png"), save(tmp_path / "a_result.png"), save(tmp_path / ".hidden.png")
    (tmp_path / "a.npz").touch()
    assert [p.name for p in list_images(tmp_path)] == ["a.png", "a_result.png"]  # the user's own
    for name in ("a_result.png", "b_people.jpg", "c.densepose.png", "d.png"):
        write_image(tmp_path / name, np.zeros((9, 9, 3), np.uint8))
    assert [p.name for p in list_images(tmp_path)] == ["a.png", "d.png"]


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p / "none"])
def test_nothing_to_read_is_a_sentence(tmp_path, make):
    with pytest.raises(ValueError, match="no image"):
        People(make(tmp_path))


BOXES = [(2.0, 3.0, 20.0, 30.0), (10.0, 10.0, 25.0, 40.0)]
KINDS = {
    "plain": {"000000000042.png": BOXES},
    "annotations": {
        "images": [{"id": 7, "file_name": "000000000042.png"}],
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": b} for b in BOXES]
        + [{"image_id": 7, "category_id": 18, "bbox": BOXES[0]}, {"image_id": 7, "iscrowd": 1, "bbox": BOXES[0]}],
    },
    "detections": [{"image_id": 42, "category_id": 1, "bbox": b, "score": 0.9} for b in BOXES]
    + [{"image_id": 42, "category_id": 1, "bbox": BOXES[0], "score": 0.1}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_files(tmp_path, kind):
    (tmp_path / "b.json").write_text(json.dumps(KINDS[kind]))
    save(tmp_path / "000000000042.png"), save(tmp_path / "other.png")
    found = list(People(tmp_path, load_boxes(tmp_path / "b.json")))
    assert [p.box for p in found] == BOXES
    assert [p.stem for p in found] == ["000000000042_0", "000000000042_1"]
    assert np.array_equal(found[0].score, 0.9 if kind == "detections" else np.nan, equal_nan=True)
    assert found[0].center == (12.0, 18.0) and found[0].scale == pytest.approx(1.2 * 30 / 200)


def boxes_file(folder, content, encoding="utf-8"):
    path = folder / "b.json"
    path.write_text(json.dumps(content), encoding=encoding)
    return load_boxes(path)


def test_an_image_never_gets_the_boxes_of_another_name(tmp_path):
    """Ids count only where the annotations give no file name."""
    save(tmp_path / "other.jpg"), save(tmp_path / "holiday_1.jpg"), save(tmp_path / "nameless_2.jpg")
    annotations = [{"image_id": i, "category_id": 1, "bbox": BOXES[i - 1]} for i in (1, 2)]
    content = {"images": [{"id": 1, "file_name": "other.jpg"}, {"id": 2}], "annotations": annotations}
    found = People(tmp_path, boxes_file(tmp_path, content))
    assert {p.stem: p.box for p in found} == {"other": BOXES[0], "nameless_2": BOXES[1]}


@pytest.mark.parametrize(
    "content",
    [
        {"a/x.jpg": BOXES, "b/x.jpg": BOXES[:1]},
        {
            "images": [{"id": 1, "file_name": "a/x.jpg"}, {"id": 2, "file_name": "b/x.jpg"}],
            "annotations": [{"image_id": 1, "bbox": BOXES[0]}],
        },
    ],
    ids=["plain", "annotations"],
)
def test_names_that_differ_in_their_folder_only_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match="'a/x.jpg' and 'b/x.jpg' are the same file name"):
        boxes_file(tmp_path, content)


def test_boxes_without_an_image_are_named(tmp_path, caplog):
    save(tmp_path / "a_1.png")
    People(tmp_path, boxes_file(tmp_path, {"a_1.png": BOXES, "typo.png": BOXES, "none.png": []}))
    assert "(1)" in caplog.text and "typo.png" in caplog.text and "a_1.png" not in caplog.text
    caplog.clear()
    People(tmp_path, boxes_file(tmp_path, [{"image_id": i, "bbox": BOXES[0]} for i in range(1, 30)]))
    assert "(28)" in caplog.text and "image id 2," in caplog.text and "image id 25" not in caplog.text


def people_of(found: list[list[Detection]], fps: float = 30.0, stride: int = 1) -> tuple[list[int], VideoPeople]:
    """Number of people in each frame, for who is detected in it."""
    image, each = np.full((80, 60, 3), 90, np.uint8), iter(found)
    frames = (Frame(i, i / fps, image) for i in range(len(found)))
    people = VideoPeople(frames, lambda _: next(each), True, stride)
    return [len(frame.people) for frame in people], people


def test_who_is_not_drawn_in_a_video_is_counted_by_reason():
    one, unsure = (Detection((10.0, 5.0, 30.0, 60.0), score) for score in (0.9, 0.3))
    for frames in (1, 2, 3, 9):  # a person in all frames of a short video counts
        counts, people = people_of([[one]] * frames)
        assert counts == [1] * frames and not people.unused and people.min_seen == min(3, frames)
    counts, people = people_of([[unsure], [], [one], [one], [], []])
    assert counts == [0] * 6 and people.empty_frames == 3
    assert people.unused.counts == {
        "detections with a score below 0.35 that continue no track": 1,
        "detections of people who were not seen again soon enough to be sure of": 2,
        "people who were seen in fewer than 3 frames": 1,
    }


def test_between_searched_frames_people_are_on_the_way(frames=8, stride=3):
    """One walks through, one comes at frame 3 and stays, one is found once."""
    looks = []

    def find(image):
        number = int(image[0, 0, 0])
        looks.append(number)
        walker = Detection((10.0 + 2 * number, 5.0, 30.0, 60.0 + number), 0.9, np.ones((17, 3), np.float32))
        comer, mistake = (Detection((x, 4.0, 20.0, 60.0), 0.8) for x in (120.0, 200.0))
        return [walker, *([comer] if number >= 3 else []), *([mistake] if number == 6 else [])]

    images = (np.full((80, 240, 3), i, np.uint8) for i in range(frames))
    people = VideoPeople((Frame(i, i / 30, image) for i, image in enumerate(images)), find, False, stride)
    found = [{person.track: person.detection for person in frame.people} for frame in people]
    assert looks == [0, 3, 6, 7] and people.searched_frames == 4 and people.empty_frames == 0
    assert [sorted(each) for each in found] == [[0], [0], *[[0, 1]] * 6]
    for number, each in enumerate(found):
        assert each[0].box == pytest.approx((10 + 2 * number, 5, 30, 60 + number))
        is_between = number not in looks
        assert (each[0].keypoints is None) == np.isnan(each[0].score) == is_between
    assert all(each[1].box == (120, 4, 20, 60) for each in found[2:])
    assert people.unused.counts == {
        "detections of people who were not seen again soon enough to be sure of": 1,
        "people who were seen in fewer than 3 frames": 1,
    }


@pytest.mark.parametrize("stride", [1, 2, 5, 10])
def test_with_any_stride_all_frames_of_a_video_have_their_people(stride):
    one = Detection((10.0, 5.0, 30.0, 60.0), 0.9)
    for frames in (1, 2, 3, 11, 24):
        counts, people = people_of([[one]] * frames, stride=stride)
        assert counts == [1] * frames and not people.unused
        assert people.searched_frames == 1 + -(-(frames - 1) // stride)


def test_what_a_folder_holds_beside_images_is_counted(tmp_path):
    save(tmp_path / "a.png"), save(tmp_path / "b.png")
    for name in ("notes.txt", ".hidden.png", "clip.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    boxes = boxes_file(tmp_path, {"a.png": BOXES[:1], "gone.png": BOXES[:1]})
    unused = People(tmp_path, boxes).unused
    assert sorted(unused.counts.values()) == [1, 1, 1, 1, 2]
    assert unused.counts["hidden files"] == 1
    assert unused.examples["images without a person in the boxes file"] == ["b.png"]
    assert unused.examples["names in the boxes file without an image"] == ["gone.png"]
    assert "sub-folders, whose images are not looked at: 1" in unused.line()


def test_counts_add_up_and_examples_stay_few():
    one, two = Unused(), Unused()
    one.add_names("files", (f"{i}\udcff" for i in range(1000)))
    two.add("files", 3)
    two.add("boxes", 0)
    total = one.with_others([two])
    assert total.counts == {"files": 1003} and len(total.examples["files"]) == EXAMPLES
    assert json.loads(json.dumps(total.as_json()))["files"]["count"] == 1003
    assert total.line() == "Not used: files: 1003." and Unused().line() == "Everything that was given was used."


def test_the_script_draws_the_image_of_the_crop_rule(tmp_path):
    box_to_crop.main(["--out", str(tmp_path / "a.png")])
    drawn, shipped = (np.asarray(Image.open(p).convert("RGB"), float) for p in (tmp_path / "a.png", box_to_crop.OUT))
    assert drawn.shape == shipped.shape and np.abs(drawn - shipped).mean() < 3  # fonts differ a little
