"""Frames in and out: video files and cameras are read, and MP4 files written, whole or with words."""

from __future__ import annotations

import os
import struct

import av
import crossing
import cv2
import numpy as np
import pytest

from datasets.people.video import MIN_STEP, VideoFrames
from utils.io.marks import DEMO, is_marked
from utils.io.video import VideoFile

SIZE, FPS, FRAMES = (320, 240), crossing.FPS, crossing.FRAMES


def test_frames_of_a_file_come_in_order_with_their_times(clip):
    frames = VideoFrames(str(clip))
    assert (frames.size, frames.fps, frames.count, frames.stem) == (SIZE, FPS, FRAMES, "two people")
    got = list(frames)
    assert [frame.number for frame in got] == list(range(FRAMES))
    assert [frame.seconds for frame in got] == pytest.approx(np.arange(FRAMES) / FPS)
    assert frames.broken is None
    for number in (0, 59):
        assert got[number].pixels.shape == (240, 320, 3) and got[number].pixels.dtype == np.uint8
        true = crossing.image(crossing.crossing(), number)
        x, y = crossing.crossing()[0].keypoints[number][11, :2].astype(int)
        red, _, blue = got[number].pixels[y, x].astype(int)
        assert red > blue + 50, "RGB, not BGR"
        assert np.abs(got[number].pixels.astype(int).mean(2) - true.mean(2)).mean() < 20


def test_frames_are_upright_as_the_file_asks(tmp_path):
    """Telephones write images lying on their side, and a quarter turn into the track's header."""
    path = tmp_path / "portrait.mp4"
    left_half = np.zeros((48, 64, 3), np.uint8)
    left_half[:, :32] = 255
    with VideoFile(path, (64, 48), 30.0) as video:
        for _ in range(3):
            video.write(left_half)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frames = VideoFrames(str(path))
    assert frames.size == (48, 64)
    image = next(iter(frames)).pixels
    assert image[:28].mean() > 200 and image[36:].mean() < 50


def test_a_file_that_breaks_off_gives_the_frames_before(tmp_path):
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (64, 48))
    for number in range(40):
        writer.write(np.full((48, 64, 3), number * 5, np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = VideoFrames(str(path))
    count = len(list(frames))
    assert 5 < count < 30
    assert f"announces 40 frames, {count} could be read" in frames.broken


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "no video file"),
        ("text.mp4", b"not a video", "no video that OpenCV can read"),
        ("empty.avi", b"", "no video that OpenCV can read"),
        ("still.jpg", b"x", "is an image"),
    ],
)
def test_what_is_no_video_is_refused_in_words(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        VideoFrames(str(tmp_path / name))


class FakeCamera:
    """Three frames, then unplugged; says nothing of its rate, and changes its size."""

    def __init__(self, source):
        self.left = [
            np.zeros((48, 64, 3), np.uint8),
            np.zeros((48, 64), np.uint8),
            np.ones((96, 128, 3), np.uint8),
        ]

    def isOpened(self):
        return True

    def get(self, what):
        return 0.0

    def read(self):
        return (True, self.left.pop(0)) if self.left else (False, None)

    def release(self):
        self.left = []


def test_a_camera_gives_frames_of_one_size_until_it_is_unplugged(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    frames = VideoFrames("0")
    assert (frames.count, frames.fps, frames.stem) == (None, 30.0, "camera0")
    got = list(frames)
    assert [frame.pixels.shape for frame in got] == [(48, 64, 3)] * 3
    assert all(a.seconds < b.seconds for a, b in zip(got, got[1:], strict=False))
    assert "stopped after 3 frames" in frames.broken


def test_frames_of_a_camera_have_times_apart_even_where_the_clock_stands_still(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    ticks = iter([7.0, 7.0, 7.0, 7.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    assert [frame.seconds for frame in VideoFrames("0")] == pytest.approx([0.0, MIN_STEP, 2 * MIN_STEP])


def test_a_camera_that_is_not_there_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(FakeCamera, "isOpened", lambda self: False)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    with pytest.raises(ValueError, match="no camera 3"):
        VideoFrames("3")
    monkeypatch.setattr(FakeCamera, "isOpened", lambda self: True)
    monkeypatch.setattr(FakeCamera, "read", lambda self: (False, None))
    with pytest.raises(ValueError, match="No frame could be read from camera 3"):
        VideoFrames("3")


@pytest.mark.parametrize("fps", [12.5, 23.976, 29.97, 60.0, 66.6667, 119.987, 239.867])
@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_a_written_video_is_read_back(tmp_path, size, fps):
    frames = [np.full((size[1], size[0], 3), (10 * i, 200 - 10 * i, 50), np.uint8) for i in range(12)]
    with VideoFile(tmp_path / "sub" / "x.mp4", size, fps) as video:
        for frame in frames:
            video.write(frame)
        assert not video.path.exists()
    again = VideoFrames(str(video.path))
    assert again.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert again.fps == pytest.approx(fps, rel=1e-4)
    got = [frame.pixels for frame in again]
    assert len(got) == 12
    for before, after in zip(frames, got, strict=True):
        assert np.abs(after[: size[1], : size[0]].astype(int) - before).mean() < 6
    assert [path.name for path in video.path.parent.iterdir()] == ["x.mp4"]
    assert is_marked(video.path, DEMO)
    with av.open(str(video.path)) as container:  # what browsers play
        (stream,) = container.streams
        assert (stream.codec.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 12)


def test_a_video_that_cannot_be_written_is_an_error_in_words(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="70000 x 48 px and 30 frames a second cannot be encoded by libx264"):
        VideoFile(tmp_path / "y.mp4", (70000, 48), 30.0)
    monkeypatch.setattr("utils.io.video.CODEC", "none")
    with pytest.raises(OSError, match="cannot be encoded by none"):
        VideoFile(tmp_path / "y.mp4", (64, 48), 30.0)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        VideoFile(tmp_path / "file" / "y.mp4", (64, 48), 30.0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_that_is_no_text_is_refused(clip, tmp_path):
    path = tmp_path / os.fsdecode(b"c\xff.mp4")
    path.write_bytes(clip.read_bytes())
    with pytest.raises(ValueError, match="rename the file"):
        VideoFrames(str(path))


def test_a_full_disk_is_named_and_an_older_file_stays(tmp_path, monkeypatch):
    older = tmp_path / "x.mp4"
    older.write_bytes(b"older")
    said = r"x\.mp4' cannot be written: the file grows larger than allowed here"
    with (
        crossing.files_of_at_most(3000),
        pytest.raises(OSError, match=said),
        VideoFile(older, (64, 48), 30.0) as video,
    ):
        for grain in np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8):
            video.write(grain)
    assert older.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1
