"""Fits to photographs: known bodies that come back, interrupted runs, acceptance, and what is wrong with the files."""

from __future__ import annotations

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import waves, write_image

from data.open.build import fit_photos
from data.open.build.photo_fits import Limits, PhotoFits, refusals
from datasets.base_dataset import BaseDataset
from datasets.registry import PathsConfig
from models.fitting import photo_fit
from models.fitting.landmarks import BONES, LANDMARKS, LandmarkBody, point_numbers
from models.fitting.objective import load_pose_prior
from models.fitting.outlines import GRID, read_outline
from models.fitting.photo_fit import rotations, torso_rotation
from utils.geometry import project_to_crop
from utils.io import load_npz
from utils.renderer import IUV_Renderer

NAMES = ("a.jpg", "b.jpg", "c.jpg", "held.jpg")
SIDE = 240
HIPS = (23, 24)


def posed_people(smpl):
    """Four bodies, seen from the front and from the side, one of them with a raised knee and arm."""
    rng, prior = np.random.default_rng(4), load_pose_prior()
    rotvec = np.zeros((4, 24, 3), np.float32)
    rotvec[:, 1:] = prior.mean.view(23, 3).numpy() + rng.normal(0, 0.12, (4, 23, 3))
    rotvec[:, 0] = [[np.pi, 0, 0], [2.2, 0, 2.2], [2.9, 0, 0.9], [np.pi, 0, 0]]
    rotvec[2, 1], rotvec[2, 4], rotvec[2, 17] = [-1.1, 0, -0.1], [1.2, 0, 0], [0, 0.3, -0.4]
    rotvec, betas = torch.from_numpy(rotvec).flatten(1), torch.from_numpy(rng.normal(0, 0.5, (4, 10))).float()
    return smpl(rotations(rotvec), betas), torch.tensor([[0.85, 0.0, 0.2]]).expand(4, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory, assets, smpl):
    """A folder of photographs, masks and labels of the people; `truth` is their joints [4,24,3] and pixels."""
    root = tmp_path_factory.mktemp("photos")
    body, cam = posed_people(smpl)
    masks = IUV_Renderer(out_size=SIDE, atlas=assets.atlas).verts2uvimg(body.vertices, cam)[:, 0] > 0
    numbers, rows, _ = point_numbers()
    points, world = np.full((4, 33, 2), SIDE / 2.0), np.zeros((4, 33, 3))
    points[:, numbers] = (project_to_crop(body.joints[:, rows], cam).numpy() + 1) * (SIDE / 2)
    world[:, numbers] = body.joints[:, rows]
    boxes = []
    for name, mask in zip(NAMES, masks.numpy(), strict=True):
        write_image(root / "train" / name, waves(SIDE, SIDE))
        write_image(
            root / "masks" / f"{name[0] if name != 'held.jpg' else 'held'}.png", mask.astype(np.uint8) * 255
        )
        y, x = np.nonzero(mask)
        boxes.append([x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1])
    labels = {
        "name": np.array(NAMES), "size": np.full((4, 2), SIDE), "keypoints_2d": points, "visibility": np.ones((4, 33)),
        "world_3d": world - world[:, HIPS].mean(axis=1, keepdims=True), "mask_box": np.array(boxes, float),
        "detection_score": np.ones(4), "flag": np.ones(4),
    }  # fmt: skip
    np.savez(root / "blazepose_labels.npz", **labels)
    (root / "held_out.txt").write_text("held.jpg\n")
    pixels = (project_to_crop(body.joints[:, 25:], cam).numpy() + 1) * (SIDE / 2)
    return root, labels, (body.joints[:, 25:].numpy(), pixels)


def run(root, data_dir, *more, labels=None):
    labels = labels or root / "blazepose_labels.npz"
    where = ("--labels", str(labels), "--photos_root", str(root), "--data_dir", str(data_dir))
    held_out = () if "--photos_held_out" in more else ("--photos_held_out", str(root / "held_out.txt"))
    return fit_photos.main([*where, *held_out, *more])


def result(data_dir, ending=".npz"):
    return data_dir / "dataset_extras" / f"photos_train{ending}"


@pytest.fixture
def quick(monkeypatch, assets):
    """Fits of a few steps, all of which are accepted with `ANY`; no sheet."""
    monkeypatch.setattr(fit_photos, "resolve_body", lambda body: assets)
    monkeypatch.setattr(photo_fit, "STEPS", 4)
    monkeypatch.setattr(fit_photos, "write_sheet", lambda path, *_: None)


ANY = ("--max_error", "9", "--max_direction", "9", "--max_prior", "1e9", "--max_beta", "99", "--min_iou", "0")


# ------------------------------------------------------------------------------------------------------------- fits


def test_known_bodies_come_back_as_a_training_set(source, tmp_path, capsys):
    """Joints within 30 mm (about the hips) and 1 px; the data set `photos` reads the file."""
    root, _, (joints, pixels) = source
    assert run(root, tmp_path, "--min_iou", "0.85") == 0
    said = capsys.readouterr().out
    assert "3 of 3 bodies accepted" in said and "left out" not in said
    people = BaseDataset("photos", tmp_path, PathsConfig(photos_root=str(root)))
    labels = people.labels
    assert labels.imgname.tolist() == ["train/a.jpg", "train/b.jpg", "train/c.jpg"]
    assert labels.maskname.tolist() == ["masks/a.png", "masks/b.png", "masks/c.png"]
    assert labels.body_model == "danet-open-1" and people.sample(0).mask.any() and people.sample(0).has_smpl
    apart = labels.joints_3d[..., :3] - labels.joints_3d[:, 14:15, :3] - (joints[:3] - joints[:3, 14:15])
    assert np.linalg.norm(apart, axis=-1).mean(axis=1).max() < 0.03
    assert np.linalg.norm(labels.keypoints[:, 25:, :2] - pixels[:3], axis=-1).mean(axis=1).max() < 1
    assert (labels.joints_3d[:, 14, :3] == 0).all() and (labels.keypoints[:, 25:, 2] == 1).all()
    assert result(tmp_path, ".jpg").is_file() and not result(tmp_path, ".unfinished.npz").exists()


def test_interrupted_runs_end_with_the_same_file(source, tmp_path, monkeypatch, quick, capsys):
    """Stopped by a signal within the first of three batches, killed within the second one, then finished."""
    root, one = source[0], ("--batch_size", "1", *ANY)
    assert run(root, tmp_path / "unbroken", *one) == 0
    fill, calls = fit_photos.BatchFitter._fill, []

    def disturbed(self, *given):
        calls.append(len(calls))
        if calls[-1] == 0:
            signal.raise_signal(signal.SIGTERM)
        if calls[-1] == 1:
            raise KeyboardInterrupt
        fill(self, *given)

    monkeypatch.setattr(fit_photos.BatchFitter, "_fill", disturbed)
    assert run(root, tmp_path, *one) == 1 and "SIGTERM: 1 photographs so far" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path, *one)
    with pytest.raises(SystemExit):
        run(root, tmp_path, *ANY)
    assert "was begun with other labels or settings" in capsys.readouterr().err
    assert run(root, tmp_path, *one) == 0 and len(calls) == 4
    found, wanted = load_npz(result(tmp_path)), load_npz(result(tmp_path / "unbroken"))
    assert found.keys() == wanted.keys() and all(np.array_equal(found[n], wanted[n]) for n in wanted)


def test_the_next_start_counts_where_it_is_better(smpl, source, quick, monkeypatch):
    """Sure fits stay; the others get the start that ends lower: the mean pose, for a raised knee the sitting one."""
    root = source[0]
    photos, rows = fit_photos.open_photographs(arguments(root))
    evidence = photos.evidence(rows, [photos.seen(row) for row in rows])
    fitter = photo_fit.PhotoFitter(smpl)
    mean, sitting = fitter.starts(evidence)
    assert not torch.equal(mean.rotvec[:, 3:], sitting.rotvec[:, 3:])
    first, second = fitter(evidence, [sitting]), fitter(evidence, [mean])
    assert (first.objective < second.objective).tolist() == [False, False, True]
    for starts in ([sitting, mean], [mean, sitting]):
        best = fitter(evidence, starts)
        assert torch.equal(best.rotvec[:2], second.rotvec[:2]) and torch.equal(
            best.rotvec[2], first.rotvec[2]
        )
    monkeypatch.setattr(photo_fit, "UNSURE_ERROR", 9.0)
    monkeypatch.setattr(photo_fit, "UNSURE_DIRECTION", 9.0)
    assert torch.equal(fitter(evidence, [sitting, mean]).rotvec, first.rotvec)


def arguments(root):
    where = ["--labels", str(root / "blazepose_labels.npz"), "--photos_root", str(root)]
    return fit_photos.make_parser().parse_args([*where, "--photos_held_out", str(root / "held_out.txt")])


def test_a_networks_answer_is_a_start(source, tmp_path, quick, monkeypatch):
    """The network sees the crops of a batch, and its weights belong to the identity of a run."""
    seen = []

    class Network:
        def __init__(self, weights):
            assert weights.name == "w.safetensors"

        def __call__(self, crops):
            seen.extend(crop.shape for crop in crops)
            return photo_fit.Start(torch.zeros(len(crops), 72), torch.zeros(len(crops), 10))

    monkeypatch.setattr(fit_photos, "NetworkStarts", Network)
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    assert run(source[0], tmp_path, "--weights", str(tmp_path / "w.safetensors"), *ANY) == 0
    assert seen == [(224, 224, 3)] * 3


# ----------------------------------------------------------------------------------------------------------- pieces


def test_points_of_the_body(smpl):
    """The reduced body has the joints and vertices of the whole one; left is left, and bones join known points."""
    body, cam = posed_people(smpl)
    rotvec = torch.randn(2, 72) * 0.3
    joints, surface = LandmarkBody(smpl)(rotations(rotvec), torch.ones(2, 10), with_surface=True)
    whole = smpl(rotations(rotvec), torch.ones(2, 10))
    torch.testing.assert_close(joints, whole.joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(surface, whole.vertices[:, ::14], atol=1e-5, rtol=0)
    for number, (name, _) in LANDMARKS.items():
        side = "left" if number % 2 else "right"
        assert side in name if number > 5 else True
    assert {end for first, second, _ in BONES for end in (first, second)} <= LANDMARKS.keys()


def test_the_first_rotation_is_that_of_the_torso(smpl):
    rest = LandmarkBody(smpl).rest_joints
    true = rotations(torch.randn(3, 72))[:, 0]
    world = torch.zeros(3, 33, 3)
    world[:, list(photo_fit.TORSO_POINTS)] = rest[list(photo_fit.TORSO_JOINTS)] @ true.transpose(1, 2) + 1
    torch.testing.assert_close(torso_rotation(rest, world), true, atol=1e-4, rtol=0)


def test_the_photographs_edge_is_no_outline():
    """A person cut off at the right edge of the photograph, which ends at column 80."""
    mask, photograph = np.zeros((GRID, GRID), bool), np.zeros((GRID, GRID), bool)
    mask[30:61, 40:80] = photograph[:, :80] = True
    outline = read_outline(mask, photograph)
    cells = (outline.points + 1) * (GRID / 2) - 0.5
    assert outline.is_seen and cells[:, 0].max() == 78 and cells[:, 0].min() == 40
    assert (outline.distance[:, 80:] == 0).all() and outline.distance[45, 30] == pytest.approx(10 * 2 / GRID)
    assert not read_outline(np.zeros_like(mask), photograph).is_seen


def test_acceptance():
    limits = Limits(0.02, 0.15, 120.0, 3.0, 0.5)
    fits = PhotoFits.blank(list("abcdefg"), ["", "", "", "", "", "", "few points"])
    fits = replace(fits, iou=np.ones(7, np.float32))
    fits.error[1], fits.direction[2], fits.prior[3], fits.betas[4, 2], fits.iou[5] = (
        0.03,
        np.nan,
        121,
        -3.5,
        0.4,
    )
    assert refusals(fits, limits).tolist() == ["", "error", "direction", "prior", "beta", "iou", "few points"]
    assert limits.reasons().keys() >= set(refusals(fits, limits).tolist()) - {""}


# ------------------------------------------------------------------------------------------------------ wrong files


def test_what_is_wrong_is_said_before_the_work(source, tmp_path, capsys):
    root, labels, _ = source

    def said(*more, **changes):
        arrays = {k: v for k, v in (labels | changes).items() if v is not None}
        np.savez(tmp_path / "labels.npz", **arrays)
        with pytest.raises(SystemExit) as stop:
            run(root, tmp_path, *more, labels=tmp_path / "labels.npz")
        assert stop.value.code == 1
        return capsys.readouterr().err

    assert "lacks world_3d: it is no file of datasets.preprocess.photos" in said(world_3d=None)
    assert "visibility is not [4, 33] finite numbers" in said(visibility=np.ones((4, 17)))
    assert "names a photograph twice" in said(name=np.array(["a.jpg"] * 4))
    names = np.array(["a.jpg", "b.jpg", "x.jpg", "y.jpg"])
    assert "2 of the 4 labelled photographs are not below" in said(name=names)
    write_image(root / "train/x.jpg", waves(SIDE, SIDE))
    write_image(root / "train/y.jpg", waves(SIDE, SIDE))
    assert "2 of the 4 masks of photographs are not below" in said(name=names)
    (tmp_path / "all.txt").write_text("\n".join(NAMES))
    assert "no photograph but held-out ones" in said("--photos_held_out", str(tmp_path / "all.txt"))
    assert "--batch_size is 0" in said("--batch_size", "0")
    assert "There is no weights file 'none.safetensors'" in said("--weights", "none.safetensors")
    result(tmp_path).parent.mkdir()
    np.savez(result(tmp_path, ".unfinished.npz"), a=1)
    assert "is no file of an unfinished run" in said()
    np.savez(result(tmp_path), a=1)
    assert "is none of our results" in said("--overwrite")


def test_what_cannot_be_fitted_is_counted(source, tmp_path, quick, monkeypatch, capsys):
    """A mask of another size, a person with too few points; other limits are quick, results are not replaced."""
    root, labels, _ = source
    visibility = np.ones((4, 33))
    visibility[1, 13:] = 0.1
    changed = labels | {
        "visibility": visibility,
        "size": np.array([[SIDE, SIDE]] * 2 + [[SIDE, 99], [SIDE, SIDE]]),
    }
    np.savez(tmp_path / "labels.npz", **changed)
    with pytest.raises(SystemExit):
        run(root, tmp_path, "--min_iou", "2", labels=tmp_path / "labels.npz")
    written = capsys.readouterr()
    assert "No body was accepted; no file was written" in written.err and not result(tmp_path).exists()
    monkeypatch.setattr(fit_photos.BatchFitter, "_fill", None)  # nothing is fitted again
    assert run(root, tmp_path, *ANY, labels=tmp_path / "labels.npz") == 2
    said = capsys.readouterr().out
    assert "1 of 3 bodies accepted" in said and "left out 1: photograph or mask cannot be used" in said
    assert "left out 1: too few points" in said and len(load_npz(result(tmp_path))["imgname"]) == 1
    with pytest.raises(SystemExit):
        run(root, tmp_path, *ANY, labels=tmp_path / "labels.npz")
    assert "--overwrite replaces results" in capsys.readouterr().err
