"""How runs over videos end: asked to, by errors, on disks that are full; and what they leave of earlier runs."""

from __future__ import annotations

import crossing
import pytest
from video_runs import FRAMES, find_until, run_video

from models.inference.video_files import VideoFiles
from utils.io import load_npz
from utils.io.marks import DEMO
from utils.script import StopSignals

EARLIER = DEMO.encode()


@pytest.fixture
def earlier(tmp_path):
    """Files of an earlier run, which has more people and another format."""
    names = ["two people_people.mp4", *(f"two people_track{i}{e}" for i in (0, 7) for e in (".npz", ".glb"))]
    for name in names:
        (tmp_path / name).write_bytes(EARLIER)
    return names


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail():
    raise RuntimeError("out of memory")


# ------------------------------------------------------------------------------------------------ stopped, failed


def test_a_stopped_run_leaves_a_video_and_tracks(clip, tmp_path, monkeypatch):
    stop = StopSignals()
    find = find_until(20, lambda: setattr(stop, "asked", "SIGINT"))
    result = run_video(clip, tmp_path, monkeypatch, find=find, stop=stop)
    assert result.problems == ["the run was stopped (SIGINT) after 20 frames"] and result.tracks == {0: 20, 1: 20}
    assert result.run.video.frames == 20 == crossing.frames_in(tmp_path / "two people_people.mp4")
    assert len(load_npz(tmp_path / "two people_track1.npz")["rotmat"]) == 20


def test_a_failing_run_leaves_what_it_has(clip, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="out of memory"):
        run_video(clip, tmp_path, monkeypatch, find=find_until(30, fail))
    assert crossing.frames_in(tmp_path / "two people_people.mp4") >= 10
    assert len(load_npz(tmp_path / "two people_track0.npz")["rotmat"]) >= 10


def test_an_error_is_reported_though_nothing_can_be_written(clip, tmp_path, monkeypatch, caplog):
    for name in ("two people_people.mp4", "two people_track0.npz"):
        (tmp_path / name / "x").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_video(clip, tmp_path, monkeypatch, find=find_until(30, fail))
    assert "two people_people.mp4' cannot be written" in caplog.text
    assert "the files of track 0 cannot be written" in caplog.text


# ---------------------------------------------------------------------------------------------------- earlier runs


def test_results_of_an_earlier_run_are_found_and_replaced(clip, tmp_path, monkeypatch, earlier):
    others = ["two people_track9.txt", "two people_tracks.npz", "other_track0.npz"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    files = VideoFiles(tmp_path, "two people", crossing.assets())
    assert [path.name for path in files.existing()] == sorted(earlier)
    run_video(clip, tmp_path, monkeypatch)
    ours = ["two people_people.mp4", "two people_track0.npz", "two people_track1.npz"]
    assert set(contents(tmp_path)) == {*others, *ours}
    assert EARLIER not in contents(tmp_path).values()


def test_results_of_an_earlier_run_stay_when_no_video_can_be_begun(clip, tmp_path, monkeypatch, earlier):
    monkeypatch.setattr("utils.io.video.CODEC", "none")
    with pytest.raises(OSError, match="cannot be encoded by none"):
        run_video(clip, tmp_path, monkeypatch)
    assert contents(tmp_path) == dict.fromkeys(earlier, EARLIER)


# ------------------------------------------------------------------------------------------------------ full disks


def test_tracks_are_written_where_the_video_is_too_large(clip, tmp_path, monkeypatch, earlier):
    with crossing.files_of_at_most(200_000):
        result = run_video(clip, tmp_path, monkeypatch)
    assert set(result.tracks) == {0, 1} and result.run.video.frames == FRAMES
    (said,) = result.problems
    assert "two people_people.mp4' cannot be written: the file grows larger than allowed here" in said
    left = contents(tmp_path)
    assert set(left) == {"two people_people.mp4", "two people_track0.npz", "two people_track1.npz"}
    assert left["two people_people.mp4"] == EARLIER


def test_files_that_cannot_be_written_are_named(clip, tmp_path, monkeypatch):
    with crossing.files_of_at_most(10_000):
        result = run_video(clip, tmp_path, monkeypatch)
    video, *tracks = result.problems
    assert "two people_people.mp4' cannot be written" in video
    for i, said in enumerate(tracks):
        assert said.startswith(f"the files of track {i} cannot be written to '{tmp_path}': ")
        assert f"track{i}.npz' cannot be written: the file grows larger than allowed here" in said
    assert len(tracks) == 2
    assert result.tracks == {} and contents(tmp_path) == {}
