"""The demo on videos, with a tiny network of random weights on the open body."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_demo import FLAGS

import demo
from utils.body import load_open_body, standing_height
from utils.io.video import VideoFile


@pytest.fixture
def clip(tmp_path, root):
    pixels = np.asarray(Image.open(root / "examples/rendered_1.jpg"))
    with VideoFile(tmp_path / "clip.mp4", (224, 224), 10.0) as video:
        for _ in range(6):
            video.write(pixels)
    return tmp_path / "clip.mp4"


def run_video(weights, clip, out, *more):
    given = ["--checkpoint", str(weights), "--video", str(clip), "--out_dir", str(out), "--detector", "none"]
    return demo.main([*FLAGS, *given, *more])


def test_a_video_gives_a_video_and_a_file_for_each_person(weights, clip, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_video(weights, clip, out, "--smooth", "--height", "1.8", "--export", "glb", "amass") == 0
    assert {p.name for p in out.iterdir()} == {
        "clip_people.mp4", "clip_track0.npz", "clip_track0.glb", "clip_track0.amass.npz", "run.json",
    }  # fmt: skip
    record = json.loads((out / "run.json").read_text())
    (person,) = record["people"]
    assert (person["stem"], person["picture"], person["is_earlier"]) == ("clip_track0", "clip.mp4", False)
    assert record["skipped"] == []
    with np.load(out / "clip_track0.npz") as data:
        assert data["rotmat"].shape == (6, 24, 3, 3) and data["smoothed"] and data["fps"] == 10
        assert person["confidence"] == pytest.approx(data["confidence"].mean(), abs=1e-3)
        assert data["confidence"].shape == (6,) and np.isnan(data["score"]).all()
        assert str(data["body_model"]) == "danet-open-1" and str(data["video"]) == "clip.mp4"
        heights = standing_height(load_open_body(), data["betas"])
        assert data["body_scale"] * heights == pytest.approx(1.8) and record["facts"]["height"] == "1.8"
    assert "Frames: 6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("av", "--video needs av: pip install -r requirements-video.txt"),
        ("pygltflib", "--export glb needs pygltflib: pip install -r requirements-export.txt"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_done(
    weights, clip, tmp_path, capsys, monkeypatch, package, said
):
    monkeypatch.setitem(sys.modules, package, None)
    assert run_video(weights, clip, tmp_path / "out", "--export", "glb") == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_single_frame_is_a_person_where_no_detector_looks(weights, tmp_path):
    with VideoFile(tmp_path / "one.mp4", (64, 64), 10.0) as video:
        video.write(np.full((64, 64, 3), 90, np.uint8))
    more = ("--smooth", "--export", "bvh", "--detector_stride", "5")
    assert run_video(weights, tmp_path / "one.mp4", tmp_path / "out", *more) == 0
    unused = json.loads((tmp_path / "out/run.json").read_text())["unused"]["settings without effect"]
    assert unused["examples"] == ["detector_stride 5: --detector none takes every frame whole"]
    with np.load(tmp_path / "out/one_track0.npz") as data:
        assert data["frame_ids"].tolist() == [0]


def test_results_of_a_video_are_kept_unless_overwrite_is_given(weights, clip, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    for content, said in ((b"mine", "none of our results"), (b"danet-demo-1", "--overwrite replaces results")):
        (tmp_path / "out/clip_people.mp4").write_bytes(content)
        assert run_video(weights, clip, tmp_path / "out") == 1
        assert said in capsys.readouterr().err
        assert (tmp_path / "out/clip_people.mp4").read_bytes() == content
    assert run_video(weights, clip, tmp_path / "out", "--overwrite") == 0
    assert (tmp_path / "out/clip_people.mp4").stat().st_size > 1000


def test_a_video_without_people_is_exit_code_1_and_said(weights, tmp_path, capsys):
    with VideoFile(tmp_path / "grey.mp4", (320, 240), 10.0) as video:
        for _ in range(5):
            video.write(np.full((240, 320, 3), 90, np.uint8))
    given = ["--checkpoint", str(weights), "--video", str(tmp_path / "grey.mp4"), "--detector_stride", "3"]
    assert demo.main([*FLAGS, *given, "--out_dir", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "grey.mp4: no person was found" in said and "a smaller --detector_stride finds people" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--video", "nowhere.mp4"], "no video file 'nowhere.mp4'"),
        (["--video", __file__], "is no video that OpenCV can read"),
        (["--height", "180"], "height is a number of metres from 0.3 to 2.7, got 180"),
        (["--static_camera"], "static_camera is for --video"),
        (["--smooth"], "smooth is for --video"),
        (["--video", "a.mp4", "--detector_stride", "11"], "--detector_stride must lie between 1 and 10, got 11"),
        (["--video", "a.mp4", "--html"], "html is for images"),
        (["--video", "a.mp4", "--boxes", "b.json"], "boxes is for images"),
        (["--video", "a.mp4", "--export", "obj"], "export of a video takes any of glb"),
    ],
)
def test_settings_of_videos_that_cannot_work(weights, tmp_path, capsys, more, said):
    try:
        code = demo.main([*FLAGS, "--checkpoint", str(weights), "--out_dir", str(tmp_path), *more])
    except SystemExit as stop:
        code = stop.code
    assert code == 1 and said in capsys.readouterr().err
