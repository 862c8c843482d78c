"""The files of a video's tracks: exports in the frames' own times; whole or not at all, and then named."""

from __future__ import annotations

import dataclasses
import errno
import os

import numpy as np
import pytest
from export_people import ASSETS, make_motion

from models.inference.video_files import VideoFiles
from utils.export import write_exports
from utils.export.steps import FOOT_JOINTS
from utils.io import REASONS, load_npz


def filled_files(out_dir, formats=(), tracks=(0,), motion=None) -> tuple[VideoFiles, dict]:
    """Tracks as of a camera that gives 12 frames a second instead of 25; and the facts to write them with."""
    files = VideoFiles(out_dir, "camera0", ASSETS, formats, overwrite=True, static_camera=motion is not None)
    motion = motion or make_motion()
    for track in tracks:
        for i, frame in enumerate(motion.frame_ids):
            row = {name: array[i] for name, array in motion.arrays.items()}
            files.add(track, row, {**row, "seconds": frame / 12})
    facts = {name: fact for name, fact in motion.facts.items() if name not in ("picture", "track_id")}
    return files, {**facts, "video": "camera 0", "fps": 25.0, "smoothed": False}


def test_exports_of_a_camera_have_its_true_times(tmp_path):
    files, facts = filled_files(tmp_path, ("amass", "vibe"))
    assert files.write(facts, remove_older=True) == {}
    track, vibe = (load_npz(tmp_path / f"camera0_track0{ending}") for ending in (".npz", ".vibe.npz"))
    assert float(track["fps"]) == 25.0 and vibe["seconds"] == pytest.approx(track["frame_ids"] / 12)
    assert float(load_npz(tmp_path / "camera0_track0.amass.npz")["mocap_framerate"]) == pytest.approx(12)


def standing_motion():
    """A person who punches in one place."""
    motion = make_motion("punch")
    place = np.tile(np.float32([0.2, 0.1, 4.0]), (len(motion), 1))
    return dataclasses.replace(motion, arrays={**motion.arrays, "cam_t_full": place})


def test_before_a_static_camera_all_tracks_and_exports_share_a_world(tmp_path):
    files, facts = filled_files(tmp_path, ("csv",), tracks=(0, 1), motion=standing_motion())
    assert files.write(facts, remove_older=True) == {}
    one, two = (load_npz(tmp_path / f"camera0_track{track}.npz") for track in (0, 1))
    assert np.array_equal(one["world_from_camera"], two["world_from_camera"])
    assert one["camera_height"] == two["camera_height"] == files.ground.depth
    table = np.genfromtxt(tmp_path / "camera0_track0.csv", delimiter=",", names=True)
    for axis, place in zip("xyz", one["world_pelvis"].T, strict=True):
        assert np.allclose(table[f"pelvis_{axis}_m"], place, atol=1e-5)
    feet = one["joints"][:, FOOT_JOINTS] - one["smpl_joints"][:, :1]
    heights = (feet @ one["world_from_camera"].T + one["world_pelvis"][:, None])[..., 1]
    assert one["foot_contacts"].any() and np.abs(heights[one["foot_contacts"]]).max() < 0.08


def test_without_anyone_who_stands_there_is_no_world(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.export.world.MOST_BEND", 0.0)
    files, facts = filled_files(tmp_path, motion=standing_motion())
    assert files.write(facts, remove_older=True) == {} and files.ground is None
    assert "world_pelvis" not in load_npz(tmp_path / "camera0_track0.npz")


def test_a_track_that_cannot_be_written_is_named_and_keeps_no_other_from_it(tmp_path, monkeypatch):
    """Its older files stay as they were, all of them; those that no person has any more go."""
    older = {f"camera0_track{i}{ending}": b"older" for i in (0, 7) for ending in (".npz", ".amass.npz")}
    for name, content in older.items():
        (tmp_path / name).write_bytes(content)

    def write_or_fail(stem, formats, motion):
        if motion.facts["track_id"] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_exports(stem, formats, motion)

    monkeypatch.setattr("models.inference.video_files.write_exports", write_or_fail)
    files, facts = filled_files(tmp_path, ["amass"], tracks=(0, 1))
    reason = f"the files of track 0 cannot be written to '{tmp_path}': {REASONS[errno.ENOSPC]}"
    assert files.write(facts, remove_older=True) == {0: reason}
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: left.pop(name) for name in older if "track0" in name} == {
        name: b"older" for name in older if "track0" in name
    }
    assert set(left) == {"camera0_track1.npz", "camera0_track1.amass.npz"}
