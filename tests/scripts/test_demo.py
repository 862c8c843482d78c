"""The demo from end to end, with a tiny network of random weights on the open body."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_demo import FLAGS, TINY

import demo
from models import SMPL, DaNetConfig, build_danet
from models.inference import image_files
from utils.checkpoint import export_safetensors
from utils.io import writers as safe_write
from utils.skeleton import JOINT_NAMES


def run(weights, source, out, *more):
    if not {"--boxes", "--keypoints", "--detector"} & set(more):
        more = ("--detector", "none", *more)
    return demo.main(
        [*FLAGS, "--checkpoint", str(weights), "--img_dir", str(source), "--out_dir", str(out), *more]
    )


@pytest.fixture
def images(tmp_path, root):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.open(root / "examples/astronaut.jpg").resize((300, 260)).save(folder / "b.jpg")
    Image.open(root / "examples/grace_hopper.jpg").resize((120, 200)).save(folder / "a.webp")
    return folder


def test_a_folder_gives_a_panel_and_plain_data_for_each_image(weights, images, tmp_path):
    assert run(weights, images, tmp_path / "out", "--batch_size", "1") == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"a.npz", "a_result.png", "b.npz", "b_result.png", "run.json"}
    panel = np.asarray(Image.open(tmp_path / "out/a_result.png"))
    assert panel.shape == (224, 4 * 224 + 336 + 224, 4) and (panel[:, :-224, 3] == 255).all()
    with np.load(tmp_path / "out/a.npz") as data:
        shapes = {name: data[name].shape for name in data.files}
        assert shapes["vertices"] == (6890, 3) and shapes["rotmat"] == (24, 3, 3) and shapes["betas"] == (10,)
        assert shapes["iuv"] == (3, 56, 56) and shapes["part_iuv"] == (24, 3, 56, 56)
        assert data["iuv"].dtype == data["part_iuv"].dtype == np.uint8 and data["part_iuv"][:, 0].max() <= 24
        assert tuple(data["joint_names"]) == JOINT_NAMES and shapes["joints"] == (49, 3)
        assert str(data["body_model"]) == "danet-open-1" and str(data["picture"]) == "a.webp"
        assert data["image_size"].tolist() == [120, 200] and data["box"].tolist() == [0, 0, 120, 200]
        s, tx, ty = data["cam"]
        assert np.allclose(data["cam_t"], [tx, ty, 2 * 5000 / (224 * s + 1e-9)], rtol=1e-5)
        assert len(str(data["weights"])) == 12



def test_exports_lie_beside_the_npz_and_hold_the_same_body(weights, images, tmp_path):
    assert (
        run(weights, images / "a.webp", tmp_path / "out", "--export", "obj", "4dhumans", "densepose") == 0
    )
    names = ["a.4dhumans.npz", "a.densepose.png", "a.npz", "a.obj", "a_result.png", "run.json"]
    found = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert [name for name in found if not name.endswith("_people.jpg")] == names
    with np.load(tmp_path / "out/a.npz") as ours, np.load(tmp_path / "out/a.4dhumans.npz") as theirs:
        assert np.array_equal(ours["smpl_joints"], theirs["3d_joints"][0, :24])
        assert np.array_equal(ours["cam_t_full"], theirs["camera"][0])


def test_reference_input_feeds_other_pixels(weights, images, tmp_path):
    run(weights, images / "a.webp", tmp_path / "ours")
    run(weights, images / "a.webp", tmp_path / "theirs", "--reference_input")
    with np.load(tmp_path / "ours/a.npz") as ours, np.load(tmp_path / "theirs/a.npz") as theirs:
        assert not np.allclose(ours["rotmat"], theirs["rotmat"])


def test_bad_files_are_named_and_the_rest_goes_on(weights, images, tmp_path, capsys):
    (images / "cut.jpg").write_bytes((images / "b.jpg").read_bytes()[:2000])
    (images / "empty.png").write_bytes(b"")
    assert run(weights, images, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "cut.jpg: damaged or cut off" in said and "empty.png: the file is empty" in said
    assert (tmp_path / "out/a.npz").is_file() and not (tmp_path / "out/cut.npz").exists()
    assert "body: danet-open-1" in said and "weights: tiny.safetensors" in said
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert [(p["stem"], p["picture"], p["is_earlier"]) for p in record["people"]] == [
        ("a", "a.webp", False), ("b", "b.jpg", False),
    ]  # fmt: skip
    assert [entry["picture"] for entry in record["skipped"]] == ["cut.jpg", "empty.png"]
    assert record["facts"]["body_model"] == "danet-open-1" and record["seconds"]["whole run"] > 0


def test_a_prediction_that_is_not_finite_is_named_and_not_written(
    weights, images, tmp_path, capsys, monkeypatch
):
    forward = SMPL.forward

    def broken(self, *args):
        body = forward(self, *args)
        body.vertices[0, 5] = float("nan")
        return body

    monkeypatch.setattr(SMPL, "forward", broken)
    assert run(weights, images, tmp_path / "out") == 2
    assert "a.webp: the prediction of 'a' is not finite" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"b.npz", "b_result.png", "run.json"}


def test_weights_learned_on_another_body_are_warned_of(images, tmp_path, capsys):
    state = build_danet(DaNetConfig(**TINY)).state_dict()
    for body, warned in (("smpl", True), ("danet-open-1", False)):
        export_safetensors(tmp_path / "w.safetensors", state, {"body": body})
        assert run(tmp_path / "w.safetensors", images / "a.webp", tmp_path / "out", "--overwrite") == 0
        said = capsys.readouterr().err
        assert ("learned on the body 'smpl', but this run poses 'danet-open-1'" in said) is warned
        assert ("Give --body smpl to match" in said) is warned


def test_boxes_give_several_people(weights, images, tmp_path, capsys):
    (tmp_path / "boxes.json").write_text(
        json.dumps({"b.jpg": [[10, 10, 100, 200], [150, 20, 90, 180], [9, 9, 0, 0]]})
    )
    more = ("--boxes", str(tmp_path / "boxes.json"), "--height", "1.9")
    assert run(weights, images, tmp_path / "out", *more) == 2
    assert "Each person is given the height of 1.9 m, also where there are several: b.jpg." in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "out").glob("*.npz")} == {"b_0.npz", "b_1.npz"}
    with np.load(tmp_path / "out/b_1.npz") as data:
        assert data["center"].tolist() == [195.0, 110.0] and data["scale"] == pytest.approx(1.2 * 180 / 200)


def test_detected_people_stand_in_the_full_image(weights, images, tmp_path, root, capsys):
    Image.open(root / "examples/rendered_1.jpg").resize((300, 300)).save(images / "c.png")
    two = np.concatenate(
        [np.asarray(Image.open(root / f"examples/rendered_{i}.jpg")) for i in (2, 1)], axis=1
    )
    Image.fromarray(two).save(images / "d.png")
    out = tmp_path / "out"
    assert (
        run(weights, images, out, "--detector", "auto", "--focal_length", "400", "--batch_size", "1") == 0
    )
    assert "5 people have a low confidence (below 0.5): a, b, c, d_0, d_1." in capsys.readouterr().err
    names = {p.name for p in out.iterdir()}
    assert {"a_people.jpg", "d_people.jpg", "d_0.npz", "d_1_result.png"} <= names
    assert "c.npz" in names and "c_people.jpg" not in names  # one person's crop
    assert Image.open(out / "d_people.jpg").size == (448, 224)
    for name in ("d_0.npz", "d_1.npz"):
        with np.load(out / name) as data:
            points, box = data["detected_keypoints"], data["box"]
            assert points.shape == (17, 3) and 0.25 <= data["score"] <= 1
            known = points[points[:, 2] > 0.3, :2]
            assert (known > box[:2] - 15).all() and (known < box[:2] + box[2:] + 15).all()
            assert str(data["people_picture"]) == "d_people.jpg"
            assert data["focal_length_full"] == 400 and data["principal_point"].tolist() == [224, 112]
            s, tx, ty = data["cam"]
            metre = s * 100 * data["scale"]  # pixels
            shift = (data["center"] - [224, 112]) / metre
            assert np.allclose(data["cam_t_full"], [tx + shift[0], ty + shift[1], 400 / metre], rtol=1e-4)
    with np.load(out / "c.npz") as data:
        assert "people_picture" not in data.files and 0.25 < data["score"] < 1 and data["confidence"] < 0.5
    record = json.loads((out / "run.json").read_text())
    assert set(record["low_confidence"]["people"]) == {"a", "b", "c", "d_0", "d_1"}  # of random weights


def test_keypoints_give_people_too(weights, images, tmp_path):
    body = np.zeros((25, 3))
    body[:3] = [[50, 30, 0.9], [80, 150, 0.9], [60, 60, 0.9]]
    content = {"people": [{"pose_keypoints_2d": body.ravel().tolist()}]}
    (tmp_path / "a_keypoints.json").write_text(json.dumps(content))
    assert run(weights, images, tmp_path / "out", "--keypoints", str(tmp_path)) == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"a.npz", "a_people.jpg", "a_result.png", "run.json"}
    with np.load(tmp_path / "out/a.npz") as data:
        assert data["box"].tolist() == [50, 30, 30, 120] and data["detected_keypoints"][0, 0] == 50


def test_results_that_are_there_are_kept_unless_overwrite_is_given(weights, images, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.npz").write_bytes(b"mine")
    assert run(weights, images, out, "--overwrite") == 2
    assert "a.webp: its result 'a.npz' is none of our results, so it is kept" in capsys.readouterr().err
    assert (out / "a.npz").read_bytes() == b"mine" and not (out / "a_result.png").exists()
    first = (out / "b.npz").stat()
    (out / "a.npz").unlink()
    assert run(weights, images, out) == 2
    assert "b.jpg: its result 'b.npz' is there; --overwrite replaces results" in capsys.readouterr().err
    assert run(weights, images, out, "--export", "obj") == 1  # nothing is left to do
    assert "b.jpg: its result 'b.npz', without 'b.obj' is there" in capsys.readouterr().err
    assert os.path.samestat(first, (out / "b.npz").stat())
    (out / "b_result.png").unlink()  # as a run that was killed may leave it
    (out / "a.npz").unlink()
    assert run(weights, images, out) == 0
    assert (out / "b_result.png").is_file() and (out / "a.npz").is_file()
    assert run(weights, images, out, "--overwrite") == 0
    assert not os.path.samestat(first, (out / "b.npz").stat())


def test_a_foreign_record_or_page_ends_the_run_before_the_network(weights, images, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("run.json", "index.html"):
        (out / name).write_text('{"mine": true}')
        assert run(weights, images, out, "--html", "--overwrite") == 1
        assert f"{name}' is none of our results" in capsys.readouterr().err
        assert [path.read_text() for path in out.iterdir()] == ['{"mine": true}']
        (out / name).unlink()


def test_the_record_and_the_page_keep_the_people_of_earlier_runs(weights, images, tmp_path):
    out = tmp_path / "out"
    assert run(weights, images, out, "--html") == 0
    Image.open(images / "a.webp").save(images / "aa.png")
    assert run(weights, images, out, "--html") == 2
    record = json.loads((out / "run.json").read_text())
    people = [(entry["stem"], entry["is_earlier"]) for entry in record["people"]]
    assert people == [("a", True), ("aa", False), ("b", True)]
    assert [entry["picture"] for entry in record["skipped"]] == ["a.webp", "b.jpg"]
    page = (out / "index.html").read_text()
    assert all(f'data-stem="{stem}"' in page for stem in ("a", "aa", "b"))
    (out / "run.json").write_text('{"schema": "danet-run-1", no record')
    assert run(weights, images, out) == 1
    assert json.loads((out / "run.json").read_text())["people"] == []


def test_an_image_of_the_run_is_never_replaced(weights, images, tmp_path, capsys):
    Image.open(images / "b.jpg").save(images / "a_people.jpg")  # the user's own
    mine = (images / "a_people.jpg").read_bytes()
    assert run(weights, images, images, "--detector", "movenet", "--overwrite") == 2
    assert "a.webp: its result 'a_people.jpg' is none of our results" in capsys.readouterr().err
    assert (images / "a_people.jpg").read_bytes() == mine and not (images / "a.npz").exists()
    assert (images / "b.npz").is_file()
    assert run(weights, images / "a.webp", images, "--detector", "movenet", "--overwrite") == 1
    assert (images / "a_people.jpg").read_bytes() == mine
    assert run(weights, images / "a.webp", images) == 0  # taken whole, it has no image of all people


def test_names_that_are_too_long_or_no_text_cost_their_own_image_only(weights, images, tmp_path, capsys):
    long, bytes_name = images / ("l" * 248 + ".jpg"), images / os.fsdecode(b"c\xff.jpg")
    for path in (long, bytes_name):
        path.write_bytes((images / "b.jpg").read_bytes())
    assert run(weights, images, tmp_path / "out", "--export", "obj", "densepose", "--html") == 2
    assert "the name is too long; give shorter ones" in capsys.readouterr().err
    written = {os.fsencode(p.name) for p in (tmp_path / "out").iterdir()}
    assert {b"a.obj", b"b.obj", b"c\xff.obj", b"c\xff.npz", b"index.html"} <= written
    assert "c\ufffd.jpg" in (tmp_path / "out" / os.fsdecode(b"c\xff.obj")).read_text()


def test_a_folder_that_cannot_be_written_to_is_said_at_once(weights, images, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert run(weights, images, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert f"The folder '{tmp_path / 'out'}' cannot be written to" in said and "doctor" in said


def test_earlier_results_outlive_a_full_disk(weights, images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    given = ("--export", "obj", "--overwrite")
    assert run(weights, images, out, *given) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.name != "run.json"}

    def full(stem, names, person):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(image_files, "write_exports", full)
    assert run(weights, images, out, "--reference_input", *given) == 1
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.name != "run.json"} == before


def test_a_full_disk_costs_the_files_that_do_not_fit_and_leaves_no_half_ones(
    weights, images, tmp_path, capsys, monkeypatch
):
    move = safe_write.move

    def fill_up(temporary, path, replace):
        if path.name.startswith(("a", ".")) or path.parent.name.startswith("."):  # fits
            return move(temporary, path, replace)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safe_write, "move", fill_up)
    assert run(weights, images, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "b.jpg: the results 'b' cannot be written" in said and "the disk is full; make room" in said
    assert "the record of the run cannot be written" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.npz", "a_result.png"}


def test_a_stop_signal_leaves_whole_results_and_lists_the_rest(
    weights, images, tmp_path, capsys, monkeypatch
):
    for number in range(12):
        (images / f"c{number}.jpg").write_bytes((images / "b.jpg").read_bytes())
    forward, calls = SMPL.forward, []

    def forward_and_stop(self, *args):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(self, *args)

    monkeypatch.setattr(SMPL, "forward", forward_and_stop)
    assert run(weights, images, tmp_path / "out", "--batch_size", "1") == 2
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert len(record["people"]) + len(record["skipped"]) == 14 and 2 <= len(record["people"]) < 14
    assert {entry["reason"] for entry in record["skipped"]} == {"not looked at: the run was stopped (SIGINT)"}
    for entry in record["people"]:
        with np.load(tmp_path / "out" / f"{entry['stem']}.npz") as data:
            assert data["vertices"].shape == (6890, 3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--boxes", "nowhere.json"], "boxes file 'nowhere.json' cannot be read"),
        (["--device", "cuda:7"], "'device' is given twice"),
        (["--batch_size", "0"], "batch_size must be at least 1"),
        (["--boxes", __file__], "is not valid JSON"),
        (["--boxes", "b.json", "--detector", "movenet"], "Give one of --detector, --boxes and --keypoints"),
        (["--keypoints", "nowhere"], "no folder 'nowhere' of OpenPose results"),
        (["--focal_length", "-3"], "focal_length must be a positive number"),
        (["--reference_input", "--misc", "img_dir", "[x"], "is not valid YAML"),
        (["--export", "fbx"], "export takes any of obj, ply"),
    ],
)
def test_settings_that_cannot_work(weights, images, tmp_path, capsys, more, said):
    try:
        code = run(weights, images, tmp_path / "out", *more)
    except SystemExit as stop:
        code = stop.code
    assert code == 1 and said in capsys.readouterr().err


def test_nothing_readable_is_exit_code_1(weights, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert run(weights, tmp_path / "in", tmp_path / "out") == 1
    (tmp_path / "in/a.jpg").write_bytes(b"")
    assert run(weights, tmp_path / "in", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "holds no image" in said and "the reasons stand above" in said


def test_hostile_weights_run_nothing(images, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": Evil()}))
    given = ["--checkpoint", str(tmp_path / "evil.pt"), "--img_dir", str(images)]
    assert demo.main([*FLAGS, *given]) == 1
    with pytest.raises(SystemExit) as stop:
        demo.main(given)
    assert stop.value.code == 1
    assert not (tmp_path / "ran").exists() and "evil.pt" in capsys.readouterr().err



def test_opendr_is_accepted_and_missing_in_one_line(weights, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "opendr", None)  # as if it were not installed
    assert run(weights, images / "a.webp", tmp_path / "out", "--use_opendr") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "WARNING opendr" in line]
    assert len(lines) == 1 and "the panel shows the built-in renderer's views only" in lines[0]
    assert Image.open(tmp_path / "out/a_result.png").size == (1456, 224)
