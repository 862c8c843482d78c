"""The files of a video's tracks: exports in the frames' own times."""

from __future__ import annotations

import pytest
from export_people import ASSETS, make_motion

from utils.safe_io import load_npz
from utils.track_files import TrackFiles


def filled_files(out_dir, formats=(), tracks=(0,)) -> tuple[TrackFiles, dict]:
    """Tracks as of a camera that gives 12 frames a second instead of 25; and the facts to write them with."""
    motion, files = make_motion(), TrackFiles(out_dir, "camera0", ASSETS, formats)
    for track in tracks:
        for i, frame in enumerate(motion.frame_ids):
            row = {name: array[i] for name, array in motion.arrays.items()}
            files.add(track, row, {**row, "seconds": frame / 12})
    facts = {name: fact for name, fact in motion.facts.items() if name not in ("picture", "track_id")}
    return files, {**facts, "video": "camera 0", "fps": 25.0, "smoothed": False}


def test_exports_of_a_camera_have_its_true_times(tmp_path):
    files, facts = filled_files(tmp_path, ("amass", "vibe"))
    files.write(facts)
    track, vibe = (load_npz(tmp_path / f"camera0_track0{ending}") for ending in (".npz", ".vibe.npz"))
    assert float(track["fps"]) == 25.0 and vibe["seconds"] == pytest.approx(track["frame_ids"] / 12)
    assert float(load_npz(tmp_path / "camera0_track0.amass.npz")["mocap_framerate"]) == pytest.approx(12)
