"""What a run does not use is counted with its reason; short videos need no more frames than they have."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from datasets.people.boxes import load_boxes
from datasets.people.crops import People
from datasets.people.openpose import KeypointFiles
from datasets.people.video_people import VideoPeople
from utils.people import Detection, Frame
from utils.unused import EXAMPLES, Unused

PERSON = Detection((10.0, 5.0, 30.0, 60.0), 0.9)


def people_of(found: list[list[Detection]], fps: float = 30.0) -> tuple[list[int], VideoPeople]:
    """Number of people in each frame, for who is detected in it."""
    picture, each = np.full((80, 60, 3), 90, np.uint8), iter(found)
    frames = (Frame(i, i / fps, picture) for i in range(len(found)))
    people = VideoPeople(frames, lambda _: next(each), smooth=True)
    return [len(frame.people) for frame in people], people


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
def test_whoever_is_in_all_frames_of_a_short_video_counts(frames):
    counts, people = people_of([[PERSON]] * frames)
    assert counts == [1] * frames and not people.unused and people.min_seen == min(3, frames)


def test_who_is_not_drawn_in_a_video_is_counted_by_reason():
    unsure = Detection((10.0, 5.0, 30.0, 60.0), 0.3)
    counts, people = people_of([[unsure], [], [PERSON], [PERSON], [], []])
    assert counts == [0] * 6 and people.empty_frames == 3
    assert people.unused.counts == {
        "detections with a score below 0.35 that continue no track": 1,
        "detections of people who were not seen again soon enough to be sure of": 2,
        "people who were seen in fewer than 3 frames": 1,
    }


def test_what_a_folder_holds_beside_pictures_is_counted(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 60)).save(tmp_path / name)
    for name in ("notes.txt", ".hidden.png", "clip.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    content = {"a.png": [[1, 2, 30, 40]], "gone.png": [[1, 2, 30, 40]]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    unused = People(tmp_path, load_boxes(tmp_path / "boxes.json")).unused
    assert sorted(unused.counts.values()) == [1, 1, 1, 1, 2]
    assert unused.counts["hidden files"] == 1
    assert unused.examples["images without a person in the boxes file"] == ["b.png"]
    assert unused.examples["names in the boxes file without an image"] == ["gone.png"]
    assert "sub-folders, whose images are not looked at: 1" in unused.line()


def test_people_without_sure_keypoints_are_counted(tmp_path):
    Image.new("RGB", (80, 90)).save(tmp_path / "a.png")
    sure = [value for i in range(25) for value in (10 + i, 10 + 2 * i, 0.9)]
    people = [{"pose_keypoints_2d": sure}, {"pose_keypoints_2d": [0.0] * 75}]
    (tmp_path / "a_keypoints.json").write_text(json.dumps({"people": people}))
    found = People(tmp_path, KeypointFiles(tmp_path))
    assert len(list(found)) == 1
    assert found.left_out.counts == {"people with less than 2 keypoints above 0.2": 1} and not found.unused


def test_counts_add_up_and_examples_stay_few():
    one, two = Unused(), Unused()
    one.add_names("files", (f"{i}\udcff" for i in range(1000)))
    two.add("files", 3)
    two.add("boxes", 0)
    total = one.with_others([two])
    assert total.counts == {"files": 1003} and len(total.examples["files"]) == EXAMPLES
    assert json.loads(json.dumps(total.as_json()))["files"]["count"] == 1003
    assert total.line() == "Not used: files: 1003." and Unused().line() == "Everything that was given was used."
