"""Memory of long runs of the demo: what is kept of a person is a name, however many came before."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from types import SimpleNamespace

import crossing
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.people.crops import People
from datasets.people.video_people import VideoPeople
from models.inference.image_files import ImageFiles
from models.inference.image_run import BATCHES_AT_ONCE, WRITE_BEHIND, WRITERS, ImageRun
from models.inference.video_files import VideoFiles
from models.inference.video_run import READ_AHEAD, VideoRun
from utils.io.row_store import RowStore
from utils.people import Detection, Frame
from utils.script import StopSignals
from utils.structures import SMPLParams

BATCH = 8


class Bodies:
    """In place of the predictor: upright bodies, which counts how many of them are alive."""

    facts = {"body_model": "danet-open-1", "weights": "none"}
    assets = crossing.assets()

    def __init__(self):
        self.alive = self.most = self.made = 0
        self.lock = threading.RLock()  # a collection within it may end a body
        self.at: dict[int, int] = {}  # bodies made -> blocks of memory that Python's objects hold then

    def predict(self, images, adjust=None, with_scores=False, follow=None, with_parts=True):
        count = len(images)
        params = SMPLParams(torch.ones(count, 3), torch.zeros(count, 10), torch.eye(3).repeat(count, 24, 1, 1))
        params = params if adjust is None else adjust(params, range(count))
        return [self._body(params[i]) for i in range(count)]

    def _body(self, params: SMPLParams) -> dict[str, np.ndarray]:
        vertices = np.zeros((6890, 3), np.float32)
        weakref.finalize(vertices, self._die)
        with self.lock:  # two batches are predicted at once
            self.alive, self.made = self.alive + 1, self.made + 1
            self.most = max(self.most, self.alive)
            if self.made % 200 == 0:
                gc.collect()  # what waits for it would count as kept
                self.at[self.made] = sys.getallocatedblocks()
        return {
            "cam": params.cam.numpy(), "betas": params.betas.numpy(), "rotmat": params.rotmat.numpy(),
            "vertices": vertices, "joints": np.zeros((49, 3)), "smpl_joints": np.zeros((24, 3)),
            "iuv": np.ones((3, 56, 56), np.uint8), "confidence": np.float32(0.8),
        }  # fmt: skip

    def _die(self) -> None:
        with self.lock:
            self.alive -= 1

    def growth(self, since: int) -> float:
        """Blocks a body from this many bodies on; an array is one at least, a name another."""
        last = max(self.at)
        return (self.at[last] - self.at[since]) / (last - since)


class NoFiles(ImageFiles):
    """Writes nothing."""

    def write_person(self, *_):
        return True

    def write_people(self, *_):
        pass


def run_images(tmp_path, count: int, found: list[Detection]) -> Bodies:
    """A run over as many images, each with these people."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    Image.new("RGB", (32, 48), "grey").save(tmp_path / "in/0.bmp")
    for i in range(1, count):
        os.link(tmp_path / "in/0.bmp", tmp_path / f"in/{i}.bmp")
    people = People(tmp_path / "in", detector=SimpleNamespace(detect=lambda image: found))
    files, bodies = NoFiles(tmp_path / "out", crossing.assets()), Bodies()
    with ImageRun(bodies, files, BATCH, None) as run:
        for crop in run.read_ahead(people, people.paths, StopSignals()):
            run.add(crop)
        written = [outcome.stem for outcome in run.finish() if outcome.stem]
    assert len(written) == bodies.made == count * len(found)
    return bodies


@pytest.fixture(autouse=True)
def small_pixels(monkeypatch):
    """Cutting out and scaling are most of the time."""
    for module in ("crops", "video_people"):
        monkeypatch.setattr(f"datasets.people.{module}.crop_image", lambda *_: np.zeros((8, 8, 3), np.uint8))


def test_people_of_crops_and_of_full_images_are_let_go(tmp_path):
    at_once = BATCH * (2 * BATCHES_AT_ONCE + 1) + WRITE_BEHIND + WRITERS
    for name, count, found in (
        ("crops", 800, [Detection((0.0, 0.0, 32.0, 48.0), is_whole=True)]),
        ("full", 400, [Detection((2.0, 2.0, 20.0, 40.0))] * 2),
    ):
        (tmp_path / name).mkdir()
        bodies = run_images(tmp_path / name, count, found)
        assert bodies.most < at_once + 10 and bodies.growth(since=200) < 5  # an outcome is 3


class Frames:
    """A video of grey frames."""

    size, fps, is_camera, broken, missing, name = (32, 48), 30.0, False, None, 0, "grey.mp4"

    def __init__(self, count: int):
        self.count = count

    def __iter__(self):
        for i in range(self.count):
            yield Frame(i, i / self.fps, np.full((48, 32, 3), 90, np.uint8))


def test_people_of_a_video_are_let_go_and_stand_in_its_files(tmp_path, monkeypatch):
    """One person stays, and every few frames another one is elsewhere."""
    monkeypatch.setattr("utils.io.row_store.BLOCK", 2**16)
    monkeypatch.setattr("models.inference.video_run.draw_people", lambda image, *_: image)
    bodies, numbers = Bodies(), iter(range(10**6))

    def find(image):
        i = next(numbers) // 12
        keypoints = np.ones((17, 3), np.float32)
        return [
            Detection((2.0, 2.0, 8.0, 40.0), 0.9, keypoints),
            Detection((16.0 + i % 3, 2.0 + 9 * (i % 5), 9.0, 8.0 + i % 2), 0.9, 1000.0 * (i + 1) * keypoints),
        ]

    frames, files = Frames(300), VideoFiles(tmp_path, "grey", crossing.assets())
    people = VideoPeople(frames, find, True)
    with VideoRun(frames, people, bodies, files, BATCH, True, None, StopSignals()) as run:
        for frame in run.read_ahead():
            run.add(frame)
        outcomes = run.finish()
    assert files.tracks[0] == 300 and len(outcomes) == len(files.tracks) > 20
    assert bodies.most < BATCH + 2 * (2 * READ_AHEAD + BATCH) and bodies.growth(since=200) < 5  # rows are 13
    with np.load(tmp_path / "grey_track0.npz") as data:
        assert data["frame_ids"].tolist() == list(range(300)) and data["keypoints"].shape == (300, 17, 3)


# ------------------------------------------------------------------------------------------------------ what waits


def test_rows_come_back_from_the_file_and_from_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.io.row_store.BLOCK", 200)
    spool = RowStore(tmp_path, {"b": (2,)})
    monkeypatch.setattr("utils.io.row_store.TemporaryFile", fail)  # a full disk, for a while
    for i in range(60):
        if i == 20:
            monkeypatch.undo()
            monkeypatch.setattr("utils.io.row_store.BLOCK", 200)
        optional = {} if i in (7, 9) else {"b": np.full(2, i, np.float32)}
        spool.add(i % 2, {"a": i, "c": np.full((2, 3), i / 2), **optional})
    assert spool.counts == {0: 30, 1: 30} and spool._stored > 500 and list(tmp_path.iterdir()) == []
    first, second = spool.arrays(0), spool.arrays(1)
    assert set(first) == {"a", "b", "c"} and set(second) == {"a", "c"}
    assert first["a"].tolist() == list(range(0, 60, 2)) and second["a"].tolist() == list(range(1, 60, 2))
    assert first["c"].shape == (30, 2, 3) and first["b"][:, 1].tolist() == first["a"].tolist()


def fail(*_, **__):
    raise OSError(28, "No space left on device")
