"""Videos end to end without a network: people are followed, smoothed, drawn and written."""

from __future__ import annotations

import crossing
import numpy as np
import pytest
import torch

from datasets.video import VideoFrames
from datasets.video_people import MIN_SEEN, VideoPeople
from datasets.video_run import VideoRun
from datasets.video_smoothing import BodySmoother, to_crop, to_picture
from utils.geometry import crop_to_full_weak
from utils.pipeline import Seconds
from utils.safe_io import load_npz
from utils.skeleton import JOINT_NAMES
from utils.stopping import StopSignals
from utils.structures import SMPLParams
from utils.track_files import TrackFiles
from utils.video_file import frames_in

SIZE, FPS, FRAMES = (320, 240), crossing.FPS, crossing.FRAMES
FACTS = {"body_model": "danet-open-1", "weights": "none"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "two people.mp4"
    crossing.write_clip(path)
    return path


def find_people(noise: int = 0, hidden: bool = True):
    """A detector that counts its frames."""
    rng, count = np.random.default_rng(noise), iter(range(FRAMES))
    return lambda picture: crossing.detections(crossing.crossing(), next(count), rng, hidden)


class KnownBodies:
    """In place of the network: the true bodies, which it knows by time and place, with noise."""

    def __init__(self, noise: float):
        self.noise, self.rng, self.people = noise, np.random.default_rng(0), crossing.crossing()
        self.batches: list[int] = []

    def predict_for(self, run_people):
        """`predict` for the people that pass by in `run_people` (a list that fills as they are cut out)."""

        def predict(images, adjust=None):
            batch = [run_people.pop(0) for _ in range(len(images))]
            self.batches.append(len(batch))
            params = self.params(batch)
            if adjust is not None:
                params = adjust(params, slice(0, len(images)))
            with torch.inference_mode():
                body = crossing.smpl()(params.rotmat, params.betas)
            return [
                {
                    "cam": params.cam[i].numpy(), "betas": params.betas[i].numpy(),
                    "rotmat": params.rotmat[i].numpy(), "vertices": body.vertices[i].numpy(),
                    "joints": body.joints[i].numpy(), "smpl_joints": body.smpl_joints[i].numpy(),
                }
                for i in range(len(batch))
            ]  # fmt: skip

        return predict

    def params(self, batch) -> SMPLParams:
        rows = [self.row(person) for person in batch]
        cam, betas, rotmat = (np.stack(values).astype(np.float32) for values in zip(*rows, strict=True))
        return SMPLParams(torch.from_numpy(cam), torch.from_numpy(betas), torch.from_numpy(rotmat))

    def row(self, person) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frame = round(person.seconds * FPS)
        true = self.people[owner(person.found.keypoints, frame)]
        x, y, z = true.cam_t[frame]
        focal = crossing.focal_length(SIZE)
        origin = np.array(SIZE) / 2 + focal * np.array([x, y]) / z + self.rng.normal(0, 40 * self.noise, 2)
        cam = to_crop(origin, focal / z * np.exp(self.rng.normal(0, self.noise)), person.center, person.scale)
        noise = torch.from_numpy(self.rng.normal(0, self.noise, (24, 3)).astype(np.float32))
        turned = true.rotmat[frame] @ torch.linalg.matrix_exp(skew(noise)).numpy()
        return cam, true.betas + self.rng.normal(0, 3 * self.noise, 10), turned


def skew(v: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros(len(v))
    x, y, z = v.unbind(1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)


def owner(keypoints: np.ndarray, frame: int) -> int:
    """0: who walks to the right."""
    people = crossing.crossing()
    return int(np.argmin([np.abs(keypoints[:, :2] - p.keypoints[frame][:, :2]).mean() for p in people]))


def run_video(
    clip, out_dir, monkeypatch, *, smooth=False, noise=0.0, formats=(), find=None, stop=None, batch_size=8
):
    """A run over the clip with the known bodies; the summary, and the sizes of the batches."""
    seen, person_of = [], VideoPeople._person

    def watched(self, *args):
        person = person_of(self, *args)
        if person is not None:
            seen.append(person)
        return person

    monkeypatch.setattr(VideoPeople, "_person", watched)
    bodies, frames = KnownBodies(noise), VideoFrames(str(clip))
    run = VideoRun(
        frames, find or find_people(), bodies.predict_for(seen),
        TrackFiles(out_dir, frames.stem, crossing.assets(), formats), FACTS, Seconds(),
        batch_size, smooth, normalise=True, focal_length=None,
    )  # fmt: skip
    return run.run(stop or StopSignals()), bodies.batches


# ----------------------------------------------------------------------------------------------------- smoothing


def test_a_place_in_the_picture_is_that_of_the_full_weak_camera_and_back():
    rng = np.random.default_rng(0)
    cam, center, scale = np.array([0.8, 0.1, -0.2]), rng.uniform(0, 300, 2), 0.7
    origin, pixels_per_metre = to_picture(cam, tuple(center), scale)
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
    summary, batches = run_video(clip, tmp_path, monkeypatch, formats=("bvh",))
    assert (summary.frames, summary.broken, summary.stopped, summary.bad_predictions) == (FRAMES, None, "", 0)
    assert summary.fps > 0 and set(summary.tracks) == {0, 1}
    assert set(batches[:-1]) == {8}, "people of several frames fill a batch"
    names = [f"two people_track{i}{ending}" for i in (0, 1) for ending in (".bvh", ".npz")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "two people_people.mp4"])
    for track in (0, 1):
        data = load_npz(tmp_path / f"two people_track{track}.npz")
        who = {
            owner(points, frame) for points, frame in zip(data["keypoints"], data["frame_ids"], strict=True)
        }
        assert len(who) == 1
        check_schema(data, summary.tracks[track])
        check_places(data, crossing.crossing()[who.pop()])
    drawn = [frame.pixels for frame in VideoFrames(str(tmp_path / "two people_people.mp4"))]
    assert len(drawn) == FRAMES
    check_colors(drawn)


def check_schema(data: dict[str, np.ndarray], frames: int) -> None:
    shapes = {
        "rotmat": (24, 3, 3), "betas": (10,), "cam": (3,), "cam_t_full": (3,), "joints": (49, 3),
        "smpl_joints": (24, 3), "keypoints": (17, 3), "box": (4,), "center": (2,), "scale": (), "score": (),
        "frame_ids": (), "seconds": (),
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


def test_a_stopped_run_leaves_a_video_and_tracks(clip, tmp_path, monkeypatch):
    stop, find = StopSignals(), find_people()

    def find_until(picture):
        find_until.count += 1
        if find_until.count == 20:
            stop.asked = "SIGINT"
        return find(picture)

    find_until.count = 0
    summary, _ = run_video(clip, tmp_path, monkeypatch, find=find_until, stop=stop)
    assert summary.stopped == "SIGINT" and summary.broken is None
    assert summary.frames == 20 == frames_in(tmp_path / "two people_people.mp4")
    assert summary.tracks == {0: 20, 1: 20}
    assert len(load_npz(tmp_path / "two people_track1.npz")["rotmat"]) == 20


def test_a_failing_run_leaves_what_it_has(clip, tmp_path, monkeypatch):
    find = find_people()

    def find_until(picture):
        find_until.count += 1
        if find_until.count == 30:
            raise RuntimeError("out of memory")
        return find(picture)

    find_until.count = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        run_video(clip, tmp_path, monkeypatch, find=find_until)
    assert frames_in(tmp_path / "two people_people.mp4") >= 10
    assert len(load_npz(tmp_path / "two people_track0.npz")["rotmat"]) >= 10


def test_frames_without_people_are_written_as_they_are(clip, tmp_path, monkeypatch):
    """Also where one person waits for a batch to fill; who is seen only shortly is nobody."""
    person = crossing.crossing()[0]
    shown = {3, 4, *range(20, 20 + MIN_SEEN)}
    count = iter(range(FRAMES))

    def find(picture):
        frame = next(count)
        return crossing.detections((person,), frame, np.random.default_rng(frame)) if frame in shown else []

    summary, batches = run_video(clip, tmp_path, monkeypatch, find=find, batch_size=5)
    assert (summary.frames, summary.tracks, batches) == (FRAMES, {0: MIN_SEEN}, [MIN_SEEN])
    before, after = (
        [frame.pixels.astype(int) for frame in VideoFrames(str(path))]
        for path in (clip, tmp_path / "two people_people.mp4")
    )
    away = np.array([np.abs(a - b).mean() for a, b in zip(before, after, strict=True)])
    assert away[[3, 4, 10, 40]].max() < 8


@pytest.mark.parametrize("smooth", [False, True])
def test_a_prediction_that_is_not_finite_is_left_out_and_counted(clip, tmp_path, monkeypatch, smooth):
    row = KnownBodies.row

    def row_or_nan(self, person):
        cam, betas, rotmat = row(self, person)
        return cam, betas * (np.nan if round(person.seconds * FPS) == 10 else 1), rotmat

    monkeypatch.setattr(KnownBodies, "row", row_or_nan)
    summary, _ = run_video(clip, tmp_path, monkeypatch, smooth=smooth)
    assert (summary.frames, summary.bad_predictions) == (FRAMES, 2)
    data = load_npz(tmp_path / "two people_track0.npz")
    assert 10 not in data["frame_ids"] and np.isfinite(data["joints"]).all()


def test_results_of_an_earlier_run_are_found_and_replaced(clip, tmp_path, monkeypatch):
    others = ["two people_track9.txt", "two people_tracks.npz", "other_track0.npz"]
    stale = ["two people_track7.npz", "two people_track7.glb"]
    for name in [*others, *stale]:
        (tmp_path / name).write_bytes(b"")
    files = TrackFiles(tmp_path, "two people", crossing.assets())
    assert sorted(path.name for path in files.existing()) == sorted(stale)
    run_video(clip, tmp_path, monkeypatch)
    left = {path.name for path in tmp_path.iterdir()}
    assert set(others) < left and not set(stale) & left


def test_export_formats_of_stills_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="obj"):
        TrackFiles(tmp_path, "x", crossing.assets(), ["obj"])
