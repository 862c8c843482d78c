"""The app: results of images and clips, sentences about what cannot be used, and the page in a browser."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser
from PIL import Image
from tiny_demo import TINY

import app
from datasets.people.video import VideoFrames
from models import DaNetConfig, load_predictor
from models.inference.uploads import Limits, Uploads
from utils.io.video import VideoFile


@pytest.fixture(scope="module")
def settings(weights):
    return {"checkpoint": str(weights), "body": "open", "device": "cpu", "network": DaNetConfig(**TINY)}


@pytest.fixture(scope="module")
def predictor(settings):
    return load_predictor(app.AppConfig(**settings))


@pytest.fixture
def uploads(predictor, tmp_path):
    (tmp_path / "results").mkdir()
    return Uploads(predictor, tmp_path / "results", Limits(pixels=60_000, frames=16))


@pytest.fixture
def photo(root):
    return root / "examples/rendered_2.jpg"


def write_clip(path, photo, frames):
    pixels = np.asarray(Image.open(photo))
    with VideoFile(path, (224, 224), 10.0) as video:
        for _ in range(frames):
            video.write(pixels)
    return path


# ----------------------------------------------------------------------------------------------------- results


def test_an_image_gives_views_and_files(uploads, photo):
    results = uploads.results(photo, "viton", is_crop=True)
    assert results.image.shape == results.iuv.shape == (224, 224, 3) and results.video is None
    assert [path.name for path in results.files] == ["rendered_2.glb", "rendered_2.npz", "rendered_2.jpg"]
    assert results.bodies == results.files[:1] and results.bodies[0].read_bytes()[:4] == b"glTF"
    assert cv2.imread(str(results.files[2])).shape == (1024, 768, 3)
    assert results.text == f"People: 1. Confidence: {results.confidence[0]:.2f}." and results.note == ""
    assert (results.iuv[..., 0] % 10 == 0).all() and results.iuv[..., 0].max() <= 240


def test_a_clip_gives_a_video_and_tracks(uploads, photo, tmp_path):
    done = []
    clip = write_clip(tmp_path / "clip.mp4", photo, frames=3)
    results = uploads.results(clip, "iuv-rgb", True, lambda *frames: done.append(frames))
    assert done == [(number, 3) for number in range(1, 4)]
    names = ["clip_people.mp4", "clip_track0.glb", "clip_track0.npz", "densepose_iuv-rgb.zip"]
    assert [path.name for path in results.files] == names and results.video == results.files[0]
    with zipfile.ZipFile(results.files[-1]) as archive:
        maps = sorted(Path(name).name for name in archive.namelist() if name.endswith(".png"))
    assert maps == [f"clip_{number:06d}_iuv.png" for number in range(3)]
    assert results.text.startswith("Frames: 3. People: 1. Confidence: ") and results.image is None
    colors = uploads.results(clip, "magicanimate", True).files[-1]
    assert colors.name == "clip_densepose.mp4" and colors.parent != results.files[-1].parent


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jpg", b"", "a.jpg: the file is empty"),
        ("a.jpg", b"a text, no image", "a.jpg: not an image in one of the formats JPEG"),
        ("a.png", (300, 300), "a.png: 300 x 300 pixels are more than 0.06 million; scale it down first"),
        ("a.png", (200, 120), "a.png: no person was found"),
        ("a.txt", b"text", r"a.txt: by its ending, this is neither an image \(.jpg .* nor a clip \(.mp4 "),
        ("a.mp4", b"text", "a.mp4' is no video that OpenCV can read"),
        ("long.mp4", 17, "long.mp4: the clip has more than 16 frames"),
        ("large.mp4", (300, 300), "large.mp4: 300 x 300 pixels are more than 0.06 million"),
        ("empty.mp4", (200, 120), "empty.mp4: no person was found"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(name, content, said, uploads, photo, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, int):
        write_clip(path, photo, content)
    elif path.suffix == ".png":
        Image.new("RGB", content, (90, 90, 90)).save(path)
    else:
        with VideoFile(path, content, 10.0) as video:
            for _ in range(3):
                video.write(np.full((*content[::-1], 3), 90, np.uint8))
    with pytest.raises(ValueError, match=said):
        uploads.results(path)
    assert not list(uploads.folder.iterdir())


def test_a_clip_that_is_longer_than_it_says_is_cut_off(uploads, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(Uploads, "_check_length", _after_the_header(Uploads._check_length))
    uploads.limits = Limits(frames=3)
    clip = write_clip(tmp_path / "clip.mp4", photo, frames=4)
    with pytest.raises(ValueError, match="clip.mp4: the clip has more than 3 frames"):
        uploads.results(clip, "viton", is_crop=True)


def test_a_frame_that_is_too_large_is_not_decoded(uploads, tmp_path, monkeypatch):
    with VideoFile(tmp_path / "large.mp4", (300, 300), 10.0) as video:
        video.write(np.zeros((300, 300, 3), np.uint8))
    monkeypatch.setattr(VideoFrames, "_read", lambda self: pytest.fail("a frame is decoded"))
    with pytest.raises(ValueError, match="large.mp4: 300 x 300 pixels are more than 0.06 million"):
        uploads.results(tmp_path / "large.mp4")


def test_an_unknown_preset_is_a_sentence(uploads, photo):
    with pytest.raises(ValueError, match="densepose takes any of viton, .* it was given nothing-known"):
        uploads.results(photo, "nothing-known")


def _after_the_header(check):
    calls = []

    def late(self, name, count):
        calls.append(count)
        if len(calls) > 1:
            check(self, name, count)

    return late


def test_the_end_of_the_server_ends_a_clip(uploads, photo, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", photo, frames=16)
    ends = []

    def end(done, count):
        ends.append(threading.Thread(target=uploads.end))
        ends[-1].start()

    text = uploads.results(clip, "viton", True, end).text
    for thread in ends:
        thread.join()
    assert int(text.split()[1].rstrip(".")) < 16 and "the run was stopped" in text


def test_older_results_are_removed(uploads, photo):
    old, new = uploads.folder / "old", uploads.folder / "new"
    for folder, age in ((old, 3700), (new, 3500)):
        folder.mkdir()
        os.utime(folder, (time.time() - age,) * 2)
    uploads.results(photo, "viton", is_crop=True)
    assert not old.exists() and new.exists() and len(list(uploads.folder.iterdir())) == 2


# ------------------------------------------------------------------------------------------------------ script


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "70000"], "port must be a number from 1 to 65535, got 70000."),
        (["--max_frames", "0"], "max_frames must be at least 1, got 0."),
        ([], "app.py needs gradio: pip install -r requirements-app.txt"),
    ],
)
def test_what_cannot_start_is_a_sentence(arguments, said, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    try:
        code = app.main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 1 and said in capsys.readouterr().err


def test_an_address_in_use_is_a_sentence(capsys, monkeypatch):
    monkeypatch.setattr(app, "require_packages", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert app.main(["--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert (
        "The page cannot be served: Address already in use" in said
        and "give another --host or --port." in said
    )


# ----------------------------------------------------------------------------------------------------- browser

HAS_GRADIO = importlib.util.find_spec("gradio") is not None
TOAST = "document.querySelector('.toast-body')?.innerText"
LINKS = "[...document.querySelectorAll('.file-preview a')].map(link => link.href)"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.skipif(not HAS_GRADIO, reason="needs requirements-app.txt")
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_in_a_browser(settings, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # is set back at the end
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:3000])
    config = app.AppConfig(**settings, port=free_port())
    with app.served(config) as address, Browser(tmp_path / "profile") as browser:
        folder = Path(os.environ["GRADIO_TEMP_DIR"]).parent
        browser.open(address)
        browser.wait("document.querySelector('input[type=file]') !== null")
        browser.upload("input[type=file]", photo)
        browser.wait("document.body.innerText.includes('People: 1.')")
        browser.wait("document.querySelector('canvas') !== null")  # of the 3D view
        links = [link for link in browser.value(LINKS) if "/results" not in link]
        assert {Path(link).name for link in links} >= {
            "rendered_2.glb",
            "rendered_2.npz",
            "rendered_2_iuv.png",
        }
        (body,) = [link for link in links if link.endswith(".glb")]
        assert urllib.request.urlopen(body).read(4) == b"glTF"
        for private in (__file__, str(photo.parent / "README.md")):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"{address}gradio_api/file={private}")
        browser.open(address)
        browser.wait("document.querySelector('input[type=file]') !== null")
        browser.upload("input[type=file]", tmp_path / "broken.jpg")
        said = browser.wait(TOAST)
        assert (
            "broken.jpg: damaged or cut off" in said and str(folder) not in said and "Traceback" not in said
        )
        asked = [a for a in browser.addresses if not a.startswith(("data:", "blob:", address))]
        assert asked == [] and browser.complaints == [] and folder.is_dir()
    assert not folder.exists()
