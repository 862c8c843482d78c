"""Runs over the clip of two people who cross, with the true bodies in place of a network."""

from __future__ import annotations

from itertools import takewhile
from types import SimpleNamespace
from typing import NamedTuple

import crossing
import numpy as np
import torch

from datasets.people.video import VideoFrames
from datasets.people.video_people import VideoPeople
from models.inference.run_record import Outcome
from models.inference.video_files import VideoFiles
from models.inference.video_run import VideoRun
from utils.script import StopSignals
from utils.smoothing import to_crop
from utils.structures import SMPLParams

SIZE, FPS, FRAMES = (320, 240), crossing.FPS, crossing.FRAMES
FACTS = {"body_model": "danet-open-1", "weights": "none"}


def find_people(noise: int = 0, hidden: bool = True):
    """A detector that counts its frames."""
    rng, count = np.random.default_rng(noise), iter(range(FRAMES))
    return lambda image: crossing.detections(crossing.crossing(), next(count), rng, hidden)


def find_until(frame: int, act):
    """The same detector, which calls `act` when it is given that frame (1, 2, ...)."""
    find, count = find_people(), iter(range(1, FRAMES + 1))

    def find_or_act(image):
        if next(count) == frame:
            act()
        return find(image)

    return find_or_act


class KnownBodies:
    """In place of the network: the true bodies, which it knows by time and place, with noise."""

    def __init__(self, noise: float):
        self.noise, self.rng, self.people = noise, np.random.default_rng(0), crossing.crossing()
        self.batches: list[int] = []

    def predict_for(self, run_people):
        """`predict` for the people that pass by in `run_people` (a list that fills as they are cut out)."""

        def predict(images, adjust=None, with_scores=False, follow=None, with_parts=True):
            batch = [run_people.pop(0) for _ in range(len(images))]
            self.batches.append(len(batch))
            params = self.params(batch)
            if adjust is not None:
                params = adjust(params, range(len(images)))
            with torch.inference_mode():
                body = crossing.smpl()(params.rotmat, params.betas)
            return [
                {
                    "cam": params.cam[i].numpy(), "betas": params.betas[i].numpy(),
                    "rotmat": params.rotmat[i].numpy(), "vertices": body.vertices[i].numpy(),
                    "joints": body.joints[i].numpy(), "smpl_joints": body.smpl_joints[i].numpy(),
                    "iuv": np.full((3, 56, 56), self.seen(batch[i]), np.uint8), "confidence": np.float32(0.8),
                }
                for i in range(len(batch))
            ]  # fmt: skip

        return predict

    def seen(self, person) -> int:
        """The part that the whole map of a person shows; 0: the map is empty."""
        return 1

    def params(self, batch) -> SMPLParams:
        rows = [self.row(person) for person in batch]
        cam, betas, rotmat = (np.stack(values).astype(np.float32) for values in zip(*rows, strict=True))
        return SMPLParams(torch.from_numpy(cam), torch.from_numpy(betas), torch.from_numpy(rotmat))

    def row(self, person) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frame = round(person.seconds * FPS)
        true = self.people[owner(person.detection.keypoints, frame)]
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


class VideoResult(NamedTuple):
    """A run that has ended, its outcomes and the sizes of the batches."""

    run: VideoRun
    outcomes: list[Outcome]
    batches: list[int]

    @property
    def tracks(self) -> dict[int, int]:
        """Number of frames of each person who was written."""
        files, written = self.run.files, {outcome.stem for outcome in self.outcomes}
        return {track: count for track, count in files.tracks.items() if files.track_stem(track) in written}

    @property
    def problems(self) -> list[str]:
        return [outcome.reason for outcome in self.outcomes if outcome.reason]


def run_video(
    clip,
    out_dir,
    monkeypatch,
    *,
    smooth=False,
    noise=0.0,
    formats=(),
    find=None,
    stop=None,
    batch_size=8,
    camera=False,
):
    """A run over the clip with the known bodies."""
    seen, person_of = [], VideoPeople._person

    def watched(self, *args):
        person = person_of(self, *args)
        if person is not None:
            seen.append(person)
        return person

    monkeypatch.setattr(VideoPeople, "_person", watched)
    bodies, frames = KnownBodies(noise), VideoFrames(str(clip))
    frames.is_camera = camera
    stop = stop or StopSignals()
    people = VideoPeople(takewhile(lambda _: not stop.asked, frames), find or find_people(), smooth)
    predictor = SimpleNamespace(predict=bodies.predict_for(seen), facts=FACTS)
    files = VideoFiles(out_dir, frames.stem, crossing.assets(), formats, overwrite=True)
    with VideoRun(frames, people, predictor, files, batch_size, smooth, None, stop) as run:
        for frame in run.read_ahead():
            run.add(frame)
        return VideoResult(run, run.finish(), bodies.batches)
