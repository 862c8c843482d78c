"""`demo.py --densepose` on images and videos, with a tiny network of random weights on the open body."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image
from tiny_demo import FLAGS

import demo
from models.inference.dense_files import DenseFiles, charts_warning
from models.inference.dense_video import DenseVideo
from models.inference.run_record import MapsOfImage, RunRecord, with_earlier_maps
from utils.io.video import VideoFile

ROOT = Path(__file__).resolve().parents[2]
VIRIDIS_0 = (68, 1, 84)


def run(weights, out, *more):
    return demo.main([*FLAGS, "--checkpoint", str(weights), "--out_dir", str(out), *more])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two people on a transparent image, an image without people, and some too small, too narrow or damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    one, two = (np.asarray(Image.open(ROOT / f"examples/rendered_{i}.jpg")) for i in (2, 1))
    both = Image.fromarray(np.concatenate([one, two], axis=1)).convert("RGBA")
    both.putalpha(200)
    both.save(folder / "two_0.png")
    Image.new("RGB", (64, 48), (90, 90, 90)).save(folder / "empty.jpg")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (20000, 20), (90, 90, 90)).save(folder / "narrow.png")
    (folder / "cut.jpg").write_bytes((ROOT / "examples/rendered_1.jpg").read_bytes()[:2000])
    return folder


SIZES = {"two_0": (448, 224), "empty": (64, 48), "dot": (1, 1), "narrow": (20000, 20)}


@pytest.fixture(scope="module")
def results(weights, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    presets = ["viton", "iuv-rgb", "uv-npz"]
    assert run(weights, out, "--img_dir", str(pictures), "--detector", "movenet", "--densepose", *presets) == 2
    return out


def test_every_image_that_can_be_read_has_its_maps(results):
    maps = results / "densepose"
    names = ["two_0.png", "empty.jpg", "dot.png", "narrow.png"]
    assert {p.name for p in (maps / "viton/image-densepose").iterdir()} == set(names)
    assert all(Image.open(maps / "viton/image-densepose" / name).size == (768, 1024) for name in names)
    for stem, size in SIZES.items():
        pixels = np.asarray(Image.open(maps / f"iuv-rgb/{stem}_iuv.png"))
        assert pixels.shape == (*size[::-1], 3) and pixels[..., 0].any() == (stem == "two_0")
    assert np.load(maps / "uv-npz/dense/two_5_uv.npz")["uv"].shape == (2, 224, 448)
    assert {p.suffix for p in (maps / "uv-npz/dense").iterdir()} == {".png", ".npz"}
    record = json.loads((results / "run.json").read_text())
    listed = {entry["picture"]: entry for entry in record["densepose"]}
    assert set(listed) == set(names) and not any(entry["is_earlier"] for entry in listed.values())
    assert listed["two_0.png"]["files"] == [
        "densepose/viton/image-densepose/two_0.png", "densepose/iuv-rgb/two_0_iuv.png",
        "densepose/uv-npz/dense/two_5.png", "densepose/uv-npz/dense/two_5_uv.npz",
    ]  # fmt: skip
    assert {entry["picture"] for entry in record["skipped"]} == {"empty.jpg", "dot.png", "narrow.png", "cut.jpg"}
    assert record["facts"]["densepose"] == "viton iuv-rgb uv-npz" and record["facts"]["dense_source"] == "map"


def test_both_people_are_on_the_map_in_their_boxes(results):
    part = np.asarray(Image.open(results / "densepose/iuv-rgb/two_0_iuv.png"))[..., 0]
    boxes = [np.load(results / f"two_0_{i}.npz")["box"] for i in (0, 1)]
    inside = np.zeros_like(part, bool)
    for x, y, width, height in boxes:
        box = (slice(max(0, int(y)), int(y + height) + 1), slice(max(0, int(x)), int(x + width) + 1))
        assert (part[box] > 0).mean() > 0.05
        inside[box] = True
    assert not part[~inside].any()


def test_maps_that_are_missing_are_added_and_others_stay(results, weights, pictures, capsys):
    map_of_two = results / "densepose/iuv-rgb/two_0_iuv.png"
    before, kept = map_of_two.read_bytes(), results / "densepose/iuv-rgb/empty_iuv.png"
    first, npz = kept.stat().st_mtime_ns, (results / "two_0_0.npz").stat().st_mtime_ns
    map_of_two.unlink()
    (results / "densepose/iuv-rgb/narrow_iuv.png").write_bytes(b"mine")
    given = ("--img_dir", str(pictures), "--detector", "movenet", "--densepose", "iuv-rgb")
    assert run(weights, results, *given) == 2
    assert map_of_two.read_bytes() == before
    assert kept.stat().st_mtime_ns == first and (results / "two_0_0.npz").stat().st_mtime_ns == npz
    assert "'densepose/iuv-rgb/narrow_iuv.png' is none of our results" in capsys.readouterr().err
    assert (results / "densepose/iuv-rgb/narrow_iuv.png").read_bytes() == b"mine"
    entries = {e["picture"]: e for e in json.loads((results / "run.json").read_text())["densepose"]}
    assert [entries[name]["is_earlier"] for name in ("two_0.png", "empty.jpg")] == [False, True]


def test_images_that_a_boxes_file_leaves_out_have_background(weights, pictures, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps({"two_0.png": [[20, 10, 150, 200], [0, 0, 0, 0]]}))
    given = ("--img_dir", str(pictures), "--boxes", str(tmp_path / "boxes.json"), "--dense_source", "body")
    assert run(weights, tmp_path / "out", *given, "--densepose", "parts") == 2
    parts = {p.stem: np.asarray(Image.open(p)) for p in (tmp_path / "out/densepose/parts/densepose").iterdir()}
    assert {name: label.shape[::-1] for name, label in parts.items()} == SIZES
    assert not parts["empty"].any()


def test_two_images_that_would_share_a_map_are_said(tmp_path):
    files = DenseFiles(tmp_path, ["uv-npz"], "map", atlas=None)
    files.write("a.jpg", "a", (30, 20), [])
    with pytest.raises(FileExistsError, match="'densepose/uv-npz/dense/a_5.png' is the map of 'a.jpg', too"):
        files.write("a_0.jpg", "a_0", (30, 20), [])


def test_of_two_images_that_would_share_a_map_the_first_has_it_in_every_process(tmp_path):
    """Also where a process works on the other one alone, or an earlier run wrote the map; other presets are whole."""
    stems = {Path("a.jpg"): "a", Path("a_0.jpg"): "a_0"}
    for overwrite in (False, True):
        files = DenseFiles(tmp_path, ["uv-npz", "parts"], "map", None, overwrite, stems)
        assert files.is_missing("a_0.jpg", "a_0") is not overwrite
        with pytest.raises(FileExistsError, match="'densepose/uv-npz/dense/a_5.png' is the map of 'a.jpg', too"):
            files.write("a_0.jpg", "a_0", (30, 20), [])
        assert [each.files for each in files.maps] == [("densepose/parts/densepose/a_0.png",)]
        assert [path.name for path in tmp_path.rglob("*.*")] == ["a_0.png"]


def test_the_record_keeps_maps_of_other_presets(tmp_path):
    DenseFiles(tmp_path, ["parts", "leffa"], "map", None).write("a.jpg", "a", (9, 9), [])
    names = [f"densepose/{name}" for name in ("parts/densepose/a.png", "leffa/a_densepose.png")]
    first = MapsOfImage("a.jpg", (*names, "densepose/gone.png"))
    RunRecord((), {}, {}, maps=(first,)).save(tmp_path)
    mine = MapsOfImage("a.jpg", ("densepose/iuv-rgb/a_iuv.png", names[1]))
    (found,) = with_earlier_maps([mine], tmp_path, ["a.jpg"])
    assert found.files == (*mine.files, names[0]) and not found.is_earlier
    (alone,) = with_earlier_maps([], tmp_path, [])
    assert alone.files == tuple(names) and alone.is_earlier


@pytest.mark.parametrize(
    ("source", "body", "weights", "is_warned"),
    [
        ("body", "danet-open-1", {}, True), ("body", "smpl", {"body": "danet-open-1"}, False),
        ("map", "smpl", {"body": "danet-open-1"}, True), ("map", "danet-open-1", {}, False),
    ],
)  # fmt: skip
def test_charts_that_are_not_denseposes_are_warned_of(source, body, weights, is_warned):
    """Weights of 2020 say nothing of their body: they were trained on the official one."""
    atlas, report = SimpleNamespace(model_id=body), SimpleNamespace(meta=weights)
    said = charts_warning(["viton", "iuv-bgr", "leffa"], source, report, atlas)
    assert said.startswith("U and V of iuv-bgr, leffa are those of the open atlas") is is_warned
    assert charts_warning(["viton", "parts"], source, report, atlas) == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--densepose", "vitton"], "densepose takes any of viton, parts, uv-npz, iuv-rgb"),
        (["--dense_source", "mesh"], "dense_source"),
    ],
)
def test_settings_that_cannot_work(weights, pictures, tmp_path, capsys, more, said):
    try:
        code = run(weights, tmp_path / "out", "--img_dir", str(pictures), *more)
    except SystemExit as stop:
        code = stop.code
    assert code == 1 and said in capsys.readouterr().err and not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------- videos


def write_clip(path, pixels, frames):
    with VideoFile(path, pixels.shape[1::-1], 10.0) as video:
        for _ in range(frames):
            video.write(pixels)
    return path


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", np.asarray(Image.open(ROOT / "examples/rendered_1.jpg")), 5)


def frames_of(path):
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_video_of_colours_and_files_of_each_frame(weights, clip, tmp_path):
    out, more = tmp_path / "out", ("--densepose", "magicanimate", "dreampose")
    given = ("--video", str(clip), "--detector", "none")
    assert run(weights, out, *given, *more, "--dense_source", "body", "--smooth") == 0
    shown = frames_of(out / "densepose/magicanimate/clip_densepose.mp4")
    assert len(shown) == 5 and shown[0].shape == (224, 224, 3)
    arrays = sorted((out / "densepose/dreampose").iterdir())
    assert [p.name for p in arrays] == [f"clip_{i:06d}_densepose.npy" for i in range(5)]
    uv = np.load(arrays[2])
    person = (uv > 0).any(axis=0)
    assert uv.shape == (2, 224, 224) and 0.02 < person.mean() < 0.9
    is_purple = np.abs(shown[2].astype(int) - VIRIDIS_0).max(axis=-1) < 16
    assert (is_purple[~person]).mean() > 0.97 and is_purple[person].mean() < 0.2
    (entry,) = json.loads((out / "run.json").read_text())["densepose"]
    assert entry["files"] == ["densepose/magicanimate/clip_densepose.mp4", "densepose/dreampose/clip_*_densepose.npy"]
    check_what_is_replaced(out)


def check_what_is_replaced(out):
    """Nothing unasked; with --overwrite also the frames that a longer clip left."""
    for presets, name in ((["magicanimate"], "clip_densepose.mp4"), (["dreampose"], "clip_000000_densepose.npy")):
        with pytest.raises(FileExistsError, match=f"{name}' is there; --overwrite"):
            DenseVideo(DenseFiles(out, presets, "map", atlas=None), "clip.mp4", "clip").require_free()
    files = DenseFiles(out, ["magicanimate", "dreampose"], "map", atlas=None, overwrite=True)
    mine = out / "densepose/dreampose/clip_000009_densepose.npy"
    mine.write_bytes(b"mine")
    shorter = DenseVideo(files, "clip.mp4", "clip")
    with pytest.raises(FileExistsError, match="clip_000009_densepose.npy' is none of our results"):
        shorter.require_free()
    shorter.open((224, 224), 10.0)
    for number in range(3):
        shorter.write(number, (224, 224), [])
    assert shorter.close() == []
    assert len(frames_of(out / "densepose/magicanimate/clip_densepose.mp4")) == 3
    left = sorted(p.name for p in (out / "densepose/dreampose").iterdir())
    assert left == [f"clip_{i:06d}_densepose.npy" for i in (0, 1, 2, 9)] and mine.read_bytes() == b"mine"
    assert not np.load(out / "densepose/dreampose" / left[1]).any()


def test_a_video_without_people_is_background(weights, tmp_path):
    write_clip(tmp_path / "grey.mp4", np.full((48, 64, 3), 90, np.uint8), 4)
    out = tmp_path / "out"
    assert run(weights, out, "--video", str(tmp_path / "grey.mp4"), "--densepose", "magicanimate", "parts") == 2
    for frame in frames_of(out / "densepose/magicanimate/grey_densepose.mp4"):
        assert np.abs(frame.astype(int) - VIRIDIS_0).max() < 6
    labels = sorted((out / "densepose/parts/densepose").iterdir())
    assert len(labels) == 4 and all(Image.open(p).size == (64, 48) for p in labels)


def test_frames_that_cannot_be_written_cost_their_files_only(weights, clip, tmp_path, monkeypatch, capsys):
    def full(path, *_):
        if "000002" in path.name:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.inference.dense_video.write_map", full)
    given = ("--video", str(clip), "--detector", "none", "--densepose", "parts", "controlnet")
    assert run(weights, tmp_path / "out", *given) == 2
    assert "maps from frame 2 on cannot be written: the disk is full" in capsys.readouterr().err
    assert len(frames_of(tmp_path / "out/densepose/controlnet/clip_densepose.mp4")) == 5
