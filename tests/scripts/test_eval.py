"""Both evaluation scripts from end to end: synthetic sets in the real sets' files, a tiny network of random weights."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from labelled import write_image, write_photographs
from tiny_demo import NETWORK
from torchvision.models.resnet import Bottleneck, ResNet

import eval as evaluation
import eval_coco
from datasets.synthetic.generator import load_resources
from datasets.synthetic.sets import write_sets
from models.evaluation.average_precision import STAT_NAMES
from models.evaluation.joints import PosedBodies
from models.hmr import build_hmr
from utils.io import load_npz
from utils.report.page import data_uri

PEOPLE = 3
PCK_NAMES = ["PCK@0.2 body", "PCK@0.2 centres"]
FLAGS = [*NETWORK, "--device", "cpu", "--batch_size", "2"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_sets(folder, load_resources("eval"), PEOPLE, seed=0, overwrite=True)
    return folder


@pytest.fixture(autouse=True)
def charts(request, monkeypatch):
    """Drawn once of each kind of protocol: they take most of an evaluation of few people. test_report.py has them."""
    if request.node.name not in ("test_every_protocol[h36m-p2-warp]", "test_every_protocol[lsp-warp]"):
        empty = data_uri("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
        monkeypatch.setattr("utils.report.charts._svg_uri", lambda *_: empty)


@pytest.fixture
def own_sets(sets, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(sets, tmp_path / "own")
    return tmp_path / "own"


def arguments(folder, weights, out, *more):
    more = more if "--num_workers" in more else (*more, "--num_workers", 0)
    given = ["--data_dir", str(folder), "--checkpoint", str(weights), "--output_dir", str(out)]
    return [*FLAGS, *given, *map(str, more)]


def run(folder, weights, out, *more):
    return evaluation.main(arguments(folder, weights, out, *more))


def read(out, name):
    tree = json.loads((out / name / "protocol.json").read_text())
    return tree, load_npz(out / name / "errors.npz")


@pytest.mark.parametrize(
    ("dataset", "crop_mode"),
    [*((name, "warp") for name in evaluation.SETS if name not in evaluation.PHOTOGRAPHS), ("lsp", "legacy")],
)
def test_every_protocol(dataset, crop_mode, sets, weights, tmp_path, capsys):
    result = tmp_path / "result.npz"
    more = ("--dataset", dataset, "--crop_mode", crop_mode, "--check", "--result_file", result)
    assert run(sets, weights, tmp_path / "out", *more, "--synthetic_size", PEOPLE) == 0
    tree, errors = read(tmp_path / "out", f"{dataset}_danet")
    assert tree["samples"] == {"in the set": PEOPLE, "scored": PEOPLE, "unreadable": []}
    assert tree["crop mode"].startswith(crop_mode) and len(tree["weights_id"]) == 12
    assert "certified" in capsys.readouterr().err and isinstance(tree["certificate"], list)
    rows = load_npz(result)
    assert rows["pose"].shape == (PEOPLE, 72) and rows["betas"].shape == (PEOPLE, 10)
    if dataset == "lsp":
        assert list(tree["scores"]) == ["mask accuracy", "mask F1", "part accuracy", "part F1"]
        assert all(0 <= s["value"] <= 1 for s in tree["scores"].values())
        assert errors["part_counts"].shape == (PEOPLE, 8, 7)
    else:
        joints = 17 if dataset == "mpi-inf-3dhp" else 14
        assert errors["joint_error"].shape == (PEOPLE, joints) and rows["pred_joints"].shape == (
            PEOPLE,
            17,
            3,
        )
        assert tree["scores"]["MPJPE"]["value"] == pytest.approx(errors["mpjpe"].mean() * 1000, rel=1e-5)
        assert tree["scores"]["PA-MPJPE"]["value"] < tree["scores"]["MPJPE"]["value"]
        assert ("PVE" in tree["scores"]) == (dataset in ("3dpw", "synthetic"))
    assert ("Actions, mm" in tree["tables"]) == (dataset == "h36m-p2")
    page = (tmp_path / "out" / f"{dataset}_danet" / "report.html").read_text()
    assert page.count("<img") - page.count("data:image/svg") == min(PEOPLE, 6) * 2 and "Best samples" in page
    assert not (tmp_path / "out" / f"{dataset}_danet" / "unfinished").exists()


def test_coco_on_val2014_and_on_any_folder(sets, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert eval_coco.main(arguments(sets, weights, out)) == 0
    tree, errors = read(out, "coco_val2014_danet")
    assert list(tree["scores"]) == [*STAT_NAMES, *PCK_NAMES] and errors["keypoints"].shape == (PEOPLE, 17, 2)
    rows = json.loads((out / "results" / "keypoints_val2014_results_danet.json").read_text())
    assert len(rows) == PEOPLE and len(rows[0]["keypoints"]) == 51
    ann_file = sets / "coco" / "annotations" / "person_keypoints_val2014.json"
    given = ("--ann_file", ann_file, "--img_root", sets / "coco" / "val2014")
    assert eval_coco.main(arguments(sets, weights, tmp_path / "again", *given)) == 0
    other, _ = read(tmp_path / "again", "coco_val2014_danet")
    assert other["scores"] == tree["scores"]
    assert all(name in capsys.readouterr().out for name in STAT_NAMES[:1])


def test_coco_with_detections(sets, weights, tmp_path):
    ann_file = sets / "coco" / "annotations" / "person_keypoints_val2014.json"
    people = [a for a in json.loads(ann_file.read_text())["annotations"] if a["num_keypoints"]]
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.7} for a in people[:3]]
    (tmp_path / "found.json").write_text(json.dumps(found))
    given = ("--ann_file", ann_file, "--img_root", sets / "coco" / "val2014")
    detections = ("--detections", tmp_path / "found.json")
    assert eval_coco.main(arguments(sets, weights, tmp_path, *given, *detections)) == 0
    rows = json.loads((tmp_path / "results" / "keypoints_val2014_results_danet.json").read_text())
    assert len(rows) == 3 and {row["score"] for row in rows} == {0.7}
    tree, _ = read(tmp_path, "coco_val2014_danet")
    assert "detections" in tree["boxes"]


def test_photographs(weights, tmp_path, capsys):
    """Masks beside photographs, and held-out photographs with pseudo-labels."""
    names = ("a.jpg", "b.jpg", "c.jpg")
    write_photographs(tmp_path, names)
    for name in names:
        shutil.copy(tmp_path / "train" / name, tmp_path / "masks" / name)
    (tmp_path / "held_out.txt").write_text("c.jpg\na.jpg\n")
    assert run(tmp_path, weights, tmp_path, "--dataset", "masks", "--masks_root", tmp_path / "masks") == 0
    tree, errors = read(tmp_path, "masks_danet")
    assert list(tree["scores"]) == ["IoU map", "IoU body"] and tree["samples"]["scored"] == 3
    assert tree["scores"]["IoU body"]["value"] == pytest.approx(errors["body_iou"].mean())
    given = ("--photos_root", tmp_path, "--photos_held_out", tmp_path / "held_out.txt")
    assert run(tmp_path, weights, tmp_path, "--dataset", "photos", *given) == 0
    tree, errors = read(tmp_path, "photos_danet")
    assert list(tree["scores"]) == ["IoU map", "IoU body", *PCK_NAMES] and tree["samples"]["scored"] == 2
    assert errors["map_mask"].shape == (2, 392) and (errors["imgname"] == ["c.jpg", "a.jpg"]).all()


def test_masks_that_cannot_be_used_are_skipped(weights, tmp_path, capsys):
    names = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    write_photographs(tmp_path / "photos", names)
    folder = (tmp_path / "photos/train").rename(tmp_path / "both")
    for path in (tmp_path / "photos/masks").iterdir():
        path.rename(folder / path.name)
    (folder / "b.png").write_bytes(b"damaged")
    write_image(folder / "c.png", np.zeros((200, 200), np.uint8))
    write_image(folder / "d.png", np.full((90, 60), 255, np.uint8))
    given = ("--dataset", "masks", "--masks_root", folder)
    assert run(tmp_path, weights, tmp_path / "out", *given) == 2
    said = capsys.readouterr().err
    for words in ("b.png: not an image", "c.png: the mask shows no person", "d.png: the mask has 60 x 90 pixels"):
        assert words in said
    tree, _ = read(tmp_path / "out", "masks_danet")
    assert tree["samples"]["scored"] == 1
    (folder / "a.png").write_bytes(b"damaged")
    assert run(tmp_path, weights, tmp_path / "out", *given, "--overwrite") == 1


def test_densepose_of_maps_detections_and_bodies(sets, weights, tmp_path, capsys):
    path = sets / "coco" / "annotations" / "densepose_coco_2014_minival.json"
    content = json.loads(path.read_text())
    kept = {entry["id"] for entry in content["images"][:2]}
    for name, key in (("images", "id"), ("annotations", "image_id")):
        content[name] = [entry for entry in content[name] if entry[key] in kept]
    for entry in content["annotations"]:
        entry |= {name: entry[name][:20] for name in entry if name.startswith("dp_") and name != "dp_masks"}
    ann_file = tmp_path / "densepose_minival2014.json"
    ann_file.write_text(json.dumps(content))
    given = ("--densepose", "--ann_file", ann_file, "--img_root", sets / "coco" / "val2014")
    written = ("--write_bodies", tmp_path / "bodies.json")
    assert eval_coco.main(arguments(sets, weights, tmp_path, *given, *written)) == 0
    tree, errors = read(tmp_path, "densepose_minival2014_danet")
    assert [name for name in tree["scores"] if name.startswith("map")] == [
        "map: AP (GPS)", "map: AR (GPS)", "map: AP (GPSm)", "map: AR (GPSm)", "map: mean GPS",
    ]  # fmt: skip
    assert errors["gps_body"].shape[0] == 2 and "open" in tree["geodesic distances"]
    assert tree["tables"]["AP and AR"][0][1:] == list(STAT_NAMES) and "DensePose labels" in tree["boxes"]
    assert eval_coco.main(arguments(sets, weights, tmp_path, *given, "--bodies", tmp_path / "bodies.json")) == 0
    again, _ = read(tmp_path, "densepose_minival2014_bodies")
    same = "body: mean GPS"
    assert again["scores"][same]["value"] == pytest.approx(tree["scores"][same]["value"], abs=0.02)

    people = [entry for entry in content["annotations"] if "dp_x" in entry]
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.7} for a in people[:1]]
    (tmp_path / "found.json").write_text(json.dumps(found))
    detected = (*given, "--detections", tmp_path / "found.json")
    assert eval_coco.main(arguments(sets, weights, tmp_path / "detected", *detected)) == 0
    fewer, _ = read(tmp_path / "detected", "densepose_minival2014_danet")
    assert "detections" in fewer["boxes"] and fewer["samples"]["scored"] == 1

    del content["info"]  # points of official SMPL
    ann_file.write_text(json.dumps(content))
    assert eval_coco.main(arguments(sets, weights, tmp_path / "smpl", *given)) == 1
    assert "lie on the surface of the body 'smpl'" in capsys.readouterr().err
    assert eval_coco.main(arguments(tmp_path, weights, tmp_path / "none", "--densepose")) == 1
    assert "neither densepose_coco_2014_minival.json nor" in capsys.readouterr().err


def test_an_unreadable_image_is_reported_and_counted(own_sets, weights, tmp_path, capsys):
    image = sorted((own_sets / "h36m" / "images").iterdir())[0]
    image.write_bytes(image.read_bytes()[:100])
    assert run(own_sets, weights, tmp_path / "out", "--dataset", "h36m-p2") == 2
    tree, errors = read(tmp_path / "out", "h36m-p2_danet")
    assert tree["samples"]["scored"] == PEOPLE - 1 == errors["scored"].sum()
    assert tree["samples"]["unreadable"][0]["name"] == f"images/{image.name}"
    assert np.isnan(errors["mpjpe"]).sum() == 1 and image.name in capsys.readouterr().err
    assert tree["scores"]["MPJPE"]["value"] == pytest.approx(np.nanmean(errors["mpjpe"]) * 1000, rel=1e-5)


def interrupt(sets, weights, out, monkeypatch):
    """Ctrl-C in the second batch."""
    calls, score = [], PosedBodies.score

    def failing(self, *given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(self, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PosedBodies, "score", failing)
        run(sets, weights, out, "--dataset", "3dpw")


def test_an_interrupted_run_continues_with_the_same_numbers(sets, weights, tmp_path, monkeypatch, capsys):
    assert run(sets, weights, tmp_path / "whole", "--dataset", "3dpw") == 0
    interrupt(sets, weights, tmp_path / "out", monkeypatch)
    assert run(sets, weights, tmp_path / "out", "--dataset", "3dpw", "--resume", "--crop_mode", "legacy") == 1
    assert "another crop_mode" in capsys.readouterr().err
    assert run(sets, weights, tmp_path / "out", "--dataset", "3dpw", "--resume") == 0
    assert "1 batches are done already" in capsys.readouterr().err
    whole, out = read(tmp_path / "whole", "3dpw_danet"), read(tmp_path / "out", "3dpw_danet")
    assert whole[0]["scores"] == out[0]["scores"] and not (tmp_path / "out" / "3dpw_danet" / "unfinished").exists()
    for name in whole[1]:
        np.testing.assert_array_equal(whole[1][name], out[1][name])


def test_foreign_files_are_never_replaced_and_results_only_on_demand(
    sets, weights, tmp_path, capsys, monkeypatch
):
    out, labels = tmp_path / "3dpw_danet", sets / "dataset_extras" / "3dpw_test.npz"
    given, before = ("--dataset", "3dpw", "--result_file"), labels.read_bytes()
    (out / "unfinished").mkdir(parents=True)
    (out / "unfinished" / "mine.txt").write_text("mine")
    assert run(sets, weights, tmp_path, *given, tmp_path / "r.npz") == 1
    assert "was not made by an evaluation" in capsys.readouterr().err
    (out / "unfinished" / "mine.txt").rename(tmp_path / "mine.txt")
    assert run(sets, weights, tmp_path, *given, tmp_path / "r.npz") == 0
    first = (tmp_path / "r.npz").stat(), (out / "report.html").stat()
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "BaseDataset", None)  # all this is said before
        assert run(sets, weights, tmp_path, *given, tmp_path / "r2.npz") == 1
        assert "protocol.json' is there; --overwrite replaces" in capsys.readouterr().err
        for target in (labels, weights, tmp_path / "mine.txt", "/dev/null", tmp_path):
            assert run(sets, weights, tmp_path, *given, target, "--overwrite") == 1
            assert str(target) in capsys.readouterr().err
    assert labels.read_bytes() == before and (tmp_path / "mine.txt").read_text() == "mine"
    assert os.path.samestat(first[1], (out / "report.html").stat())
    assert run(sets, weights, tmp_path, *given, tmp_path / "r.npz", "--overwrite") == 0
    assert not os.path.samestat(first[0], (tmp_path / "r.npz").stat())


def test_the_hmr_baseline(sets, tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.models.resnet50", lambda weights: ResNet(Bottleneck, [1, 1, 1, 1]))
    torch.manual_seed(0)
    torch.save({"model": build_hmr().state_dict()}, tmp_path / "hmr.pt")
    given = arguments(sets, tmp_path / "hmr.pt", tmp_path, "--dataset", "h36m-p1", "--regressor", "hmr")
    assert evaluation.main(given) == 0
    tree, _ = read(tmp_path, "h36m-p1_hmr")
    assert tree["regressor"] == "hmr"


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        (lambda s: s * 1000, [], "Is it millimetres?"),
        (lambda s: s + 2, [], "Subtract it from all joints"),
        (lambda s: s + 0.002, ["--check"], "did not pass --check"),
    ],
)
def test_wrong_ground_truth_is_refused_before_anything_is_scored(
    own_sets, weights, tmp_path, change, flags, said, capsys
):
    path = own_sets / "dataset_extras" / "h36m_valid_protocol1.npz"
    arrays = load_npz(path)
    arrays["S"][..., :3] = change(arrays["S"][..., :3])
    np.savez(path, **arrays)
    assert run(own_sets, weights, tmp_path / "out", "--dataset", "h36m-p1", *flags) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        ("dataset_extras/h36m_valid_protocol2.npz", "h36m_valid_protocol2.npz"),
        ("h36m", "h36m"),
    ],
)
def test_what_is_missing_is_named_at_start(own_sets, weights, tmp_path, remove, said, capsys):
    target = own_sets / remove
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert run(own_sets, weights, tmp_path / "out", "--dataset", "h36m-p2") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and said in lines[0] and "utils.doctor" in lines[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--regressor", "hmr"], "give --checkpoint"),
        (["--batch_size", "0"], "at least 1"),
        (["--dataset", "up3d"], "takes one of"),
        (["--num_workers", "-1"], "negative"),
    ],
)
def test_wrong_settings_are_sentences(given, said, sets, tmp_path, capsys):
    try:
        code = evaluation.main([*given, "--data_dir", str(sets), "--output_dir", str(tmp_path)])
    except SystemExit as stop:
        code = stop.code
    assert code == 1 and said in capsys.readouterr().err


def test_coco_annotations_and_images_belong_together(capsys):
    with pytest.raises(SystemExit):
        eval_coco.main(["--ann_file", "a.json"])
    assert "belong together" in capsys.readouterr().err
