"""Videos end to end without a network: people are followed, smoothed, drawn and written."""

from __future__ import annotations

import crossing
import numpy as np
import pytest
import torch
from video_runs import FPS, FRAMES, SIZE, KnownBodies, find_people, owner, run_video

from datasets.people.video import VideoFrames
from datasets.people.video_people import MIN_SEEN, VideoPeople
from utils.geometry import crop_to_full_weak
from utils.io import load_npz
from utils.skeleton import JOINT_NAMES
from utils.smoothing import BodySmoother, to_crop, to_image
from utils.structures import SMPLParams

# ----------------------------------------------------------------------------------------------------- smoothing


def test_a_place_in_the_image_is_that_of_the_full_weak_camera_and_back():
    rng = np.random.default_rng(0)
    cam, center, scale = np.array([0.8, 0.1, -0.2]), rng.uniform(0, 300, 2), 0.7
    origin, pixels_per_metre = to_image(cam, tuple(center), scale)
    full = crop_to_full_weak(
        torch.tensor(cam), torch.tensor(center), torch.tensor(scale).double(), torch.tensor(SIZE).double()
    ).numpy()
    assert pixels_per_metre == pytest.approx(full[0])
    assert origin == pytest.approx(np.array(SIZE) / 2 + full[0] * full[1:])
    assert to_crop(origin, pixels_per_metre, tuple(center), scale) == pytest.approx(cam)


def test_a_body_that_is_not_finite_passes_and_leaves_no_trace(clip):
    people = [p for frame in VideoPeople(VideoFrames(str(clip)), find_people(), False) for p in frame.people]
    person = [p for p in people if p.track == 0][:3]
    good = KnownBodies(0.0).params(person)
    bad = SMPLParams(good.cam.clone(), good.betas.clone(), good.rotmat.clone())
    bad.rotmat[1] = torch.nan
    smoother, reference = BodySmoother(), BodySmoother()
    out, expected = smoother(bad, person), reference(good[[0, 2]], [person[0], person[2]])
    assert out.rotmat[1].isnan().all()
    for name in ("cam", "betas", "rotmat"):
        assert torch.equal(getattr(out, name)[[0, 2]], getattr(expected, name))
        assert getattr(out, name).dtype == torch.float32


# ----------------------------------------------------------------------------------------------------- whole runs


def test_two_people_who_cross_are_two_tracks_and_a_video(clip, tmp_path, monkeypatch):
    result = run_video(clip, tmp_path, monkeypatch, formats=("bvh",))
    assert (result.run.video.frames, result.problems) == (FRAMES, []) and set(result.tracks) == {0, 1}
    assert set(result.batches[:-1]) == {8}, "people of several frames fill a batch"
    names = [f"two people_track{i}{ending}" for i in (0, 1) for ending in (".bvh", ".npz")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "two people_people.mp4"])
    for track in (0, 1):
        data = load_npz(tmp_path / f"two people_track{track}.npz")
        who = {
            owner(points, frame) for points, frame in zip(data["keypoints"], data["frame_ids"], strict=True)
        }
        assert len(who) == 1
        check_schema(data, result.tracks[track])
        check_places(data, crossing.crossing()[who.pop()])
    drawn = [frame.pixels for frame in VideoFrames(str(tmp_path / "two people_people.mp4"))]
    assert len(drawn) == FRAMES
    check_colors(drawn)


def check_schema(data: dict[str, np.ndarray], frames: int) -> None:
    shapes = {
        "rotmat": (24, 3, 3), "betas": (10,), "cam": (3,), "cam_t_full": (3,), "joints": (49, 3),
        "smpl_joints": (24, 3), "keypoints": (17, 3), "box": (4,), "center": (2,), "scale": (), "score": (),
        "frame_ids": (), "seconds": (), "confidence": (),
    }  # fmt: skip
    assert {name: data[name].shape for name in shapes} == {n: (frames, *s) for n, s in shapes.items()}
    facts = (
        "schema fps image_size focal_length_full principal_point smoothed joint_names smpl_joint_names video"
    )
    assert {*facts.split(), "axes", "units", "body_model", "weights", "track_id"} == set(data) - set(shapes)
    assert str(data["schema"]) == "danet-track-1" and not data["smoothed"]
    assert tuple(data["joint_names"]) == JOINT_NAMES and (np.diff(data["frame_ids"]) > 0).all()


def check_places(data: dict[str, np.ndarray], person: crossing.Walker) -> None:
    """The joints lie where the clip has them, in metres and in pixels."""
    frames = data["frame_ids"]
    assert data["smpl_joints"] == pytest.approx(person.joints[frames], abs=1e-4)
    assert data["cam_t_full"] == pytest.approx(person.cam_t[frames], abs=1e-3)
    assert data["seconds"] == pytest.approx(frames / FPS)


def check_colors(drawn: list[np.ndarray]) -> None:
    """Each person has a colour of their own, the same before and after the crossing."""
    colors = [
        [
            drawn[f][tuple(person.keypoints[f][[5, 6, 11, 12], 1::-1].mean(axis=0).astype(int))]
            for f in (8, 52)
        ]
        for person in crossing.crossing()
    ]
    (one, one_later), (two, two_later) = np.array(colors, int) / np.linalg.norm(colors, axis=2, keepdims=True)
    assert np.linalg.norm(one - one_later) < 0.5 * np.linalg.norm(one - two)
    assert np.linalg.norm(two - two_later) < 0.5 * np.linalg.norm(one - two)


def in_camera(folder) -> dict[int, np.ndarray]:
    """Joints of each person (by walking direction) in the camera's frame, NaN where unseen: [T,24,3]."""
    people = {}
    for path in folder.glob("*.npz"):
        data = load_npz(path)
        places = np.full((FRAMES, 24, 3), np.nan)
        places[data["frame_ids"]] = data["smpl_joints"] + data["cam_t_full"][:, None]
        people[owner(data["keypoints"][0], data["frame_ids"][0])] = places
    return people


def test_smoothing_takes_most_of_the_jitter_and_lags_little(clip, tmp_path, monkeypatch):
    found = {}
    for smooth in (False, True):
        with monkeypatch.context() as patch:
            folder = tmp_path / str(smooth)
            run_video(clip, folder, patch, smooth=smooth, noise=0.05, find=find_people(1, hidden=False))
        found[smooth] = in_camera(folder)
    for number, person in enumerate(crossing.crossing()):
        truth = person.joints + person.cam_t[:, None]
        jitter, error = [], []
        for smooth in (False, True):
            off = found[smooth][number] - truth
            jitter.append(np.nanmean(np.linalg.norm(np.diff(off, n=2, axis=0), axis=-1)))
            error.append(np.nanmean(np.linalg.norm(off[..., :2], axis=-1)))
        assert jitter[1] < jitter[0] / 3
        assert error[1] < error[0]


def test_frames_without_people_are_written_as_they_are(clip, tmp_path, monkeypatch):
    """Also where one person waits for a batch to fill; who is seen only shortly does not count."""
    person = crossing.crossing()[0]
    shown = {3, 4, *range(20, 20 + MIN_SEEN)}
    count = iter(range(FRAMES))

    def find(image):
        frame = next(count)
        return crossing.detections((person,), frame, np.random.default_rng(frame)) if frame in shown else []

    result = run_video(clip, tmp_path, monkeypatch, find=find, batch_size=5)
    assert (result.run.video.frames, result.tracks, result.batches) == (FRAMES, {0: MIN_SEEN}, [MIN_SEEN])
    before, after = (
        [frame.pixels.astype(int) for frame in VideoFrames(str(path))]
        for path in (clip, tmp_path / "two people_people.mp4")
    )
    away = np.array([np.abs(a - b).mean() for a, b in zip(before, after, strict=True)])
    assert away[[3, 4, 10, 40]].max() < 8


def test_a_prediction_that_is_not_finite_is_left_out_and_counted(clip, tmp_path, monkeypatch):
    """Past the smoothing, too."""
    row = KnownBodies.row

    def row_or_nan(self, person):
        cam, betas, rotmat = row(self, person)
        return cam, betas * (np.nan if round(person.seconds * FPS) == 10 else 1), rotmat

    monkeypatch.setattr(KnownBodies, "row", row_or_nan)
    result = run_video(clip, tmp_path, monkeypatch, smooth=True)
    (problem,) = result.problems
    assert result.run.video.frames == FRAMES and "2 predictions are left out, each of which is not finite" in problem
    data = load_npz(tmp_path / "two people_track0.npz")
    assert 10 not in data["frame_ids"] and np.isfinite(data["joints"]).all()
