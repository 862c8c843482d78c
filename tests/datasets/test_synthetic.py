"""Synthetic people: determinism, labels that fit picture and body, held-out material, limits, sides."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datasets.synthetic import dataset as synthetic
from datasets.synthetic import split as synthetic_split
from datasets.synthetic.appearance import draw_outfit
from datasets.synthetic.background import FAMILIES, crop_picture, make_background
from datasets.synthetic.body import make_assets, pose_body, project
from datasets.synthetic.dataset import MAX_SCALE, MIN_SCALE, SyntheticPeople
from datasets.synthetic.pose import (
    LIMIT_HIGH,
    LIMIT_LOW,
    TURN,
    blend,
    draw_pose,
    load_motions,
    mirror_pose,
    reach,
)
from datasets.synthetic.preview import part_map
from datasets.synthetic.split import Split
from datasets.synthetic.texture import make_tile
from models.smpl import SMPL
from models.targets import TargetBuilder
from utils.body import load_open_atlas, load_open_body
from utils.renderer import IUV_Renderer
from utils.skeleton import SMPL_FLIP
from utils.structures import collate_samples


@pytest.fixture(scope="module")
def people() -> SyntheticPeople:
    return SyntheticPeople(1000, seed=5)


@pytest.fixture(scope="module")
def samples(people):
    return [people[i] for i in range(12)]


def same(first, second) -> bool:
    values = []
    first.map(lambda t: (values.append(t), t)[1])
    others = iter(values)
    equal = []
    second.map(lambda t: (equal.append(torch.equal(t, next(others))), t)[1])
    return all(equal) and first.name == second.name


def test_a_person_follows_from_seed_epoch_and_index_alone(people, samples):
    again = SyntheticPeople(7, seed=5)
    assert same(again[3], samples[3])
    assert not torch.equal(SyntheticPeople(7, seed=6)[3].image, samples[3].image)
    again.set_epoch(1)
    assert not torch.equal(again[3].image, samples[3].image)
    again.set_epoch(0)
    assert same(again[3], samples[3])


def test_workers_make_the_same_people(people, samples):
    loader = DataLoader(people, batch_size=4, sampler=range(8), num_workers=2, collate_fn=collate_samples)
    batches = list(loader)
    assert torch.equal(torch.cat([b.image for b in batches]), torch.stack([s.image for s in samples[:8]]))
    assert torch.equal(torch.cat([b.rotvec for b in batches]), torch.stack([s.rotvec for s in samples[:8]]))
    assert batches[1].name == tuple(s.name for s in samples[4:8])


def test_samples_have_the_shapes_of_every_data_set(samples):
    batch = collate_samples(samples)
    assert batch.image.shape == (12, 3, 224, 224)
    assert batch.image.dtype == batch.keypoints.dtype == torch.float32
    assert batch.keypoints.shape == (12, 49, 3)
    assert batch.joints_3d.shape == batch.smpl_keypoints.shape[:2] + (4,) == (12, 24, 4)
    assert batch.has_smpl.all()
    assert batch.has_joints_3d.all()
    assert not batch.has_dense.any()
    assert batch.dense.xy.shape == (12, 196, 2)
    assert batch.dense.ann_labels.shape == (12, 56, 56)
    assert batch.dataset == ("synthetic",) * 12
    assert samples[2].name == "train_5_0_2"


def test_labels_camera_and_rendered_maps_agree(people, samples):
    """The body layer and the camera fitted to the keypoints give back the labels and the part map."""
    renders = [people.render(i) for i in range(12)]
    smpl, renderer = SMPL(load_open_body()), IUV_Renderer(atlas=load_open_atlas())
    targets = TargetBuilder(smpl, renderer)(collate_samples(samples))
    cam = torch.from_numpy(np.stack([r.cam for r in renders]))
    batch = collate_samples(samples)
    assert targets.has_iuv.all()
    torch.testing.assert_close(targets.cam, cam, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(targets.centers[..., :2], batch.smpl_keypoints[..., :2], atol=5e-4, rtol=0)
    vertices = torch.from_numpy(np.stack([r.vertices for r in renders]))
    torch.testing.assert_close(targets.vertices, vertices, atol=1e-5, rtol=0)
    for render, sample in zip(renders, samples, strict=True):
        xy = project(render.smpl_joints, render.cam)[:, :2] / 112 - 1
        np.testing.assert_allclose(sample.smpl_keypoints[:, :2].numpy(), xy, atol=1e-4)
    maps = torch.stack([torch.from_numpy(part_map(r, people.assets, 56)) for r in renders])
    agree = targets.iuv.index.argmax(1) == maps
    assert agree.float().mean() > 0.998


def test_the_picture_shows_the_labelled_body(people):
    """Painted on a plain ground, the person covers the body's silhouette up to cloth and hair."""
    overlap = []
    for index in range(8):
        render = people.render(index)
        rng = np.random.default_rng(index)
        outfit = draw_outfit(rng, people.split, people.assets, people.figure)
        outfit = replace(outfit, skirt=False, cut=outfit.cut._replace(hair_drop=-9.0))
        body = pose_body(people.assets, render.rotvec, render.betas)
        picture = np.full((224, 224, 3), -1, np.float32)
        synthetic._paint(people, picture, body, render.cam, outfit)
        seen, truth = (picture > -0.5).all(2), part_map(render, people.assets) > 0
        overlap.append((seen & truth).sum() / (seen | truth).sum())
    assert min(overlap) > 0.85
    assert np.mean(overlap) > 0.92


def test_values_stay_in_their_ranges(people):
    for index in range(60):
        render = people.render(index)
        assert MIN_SCALE - 1e-6 <= render.cam[0] <= MAX_SCALE + 1e-6
        assert np.abs(render.betas).max() <= 2.5
        assert render.image.shape == (224, 224, 3)
        assert render.image.dtype == np.uint8
        pose = render.rotvec.reshape(24, 3)[1:]
        assert (pose >= LIMIT_LOW[1:] - 1e-5).all()
        assert (pose <= LIMIT_HIGH[1:] + 1e-5).all()
        keypoints = people.to_sample(render, index).keypoints
        inside = (keypoints[:, :2].abs() <= 1).all(1)
        assert torch.equal(keypoints[:, 2] == 1, inside)
        assert inside[25:].sum() >= 4
    assert np.unique([people.render(i).image.mean() for i in range(10)]).size == 10


def test_views_come_from_all_sides_and_people_mostly_stand(people):
    rng = np.random.default_rng(0)
    fronts, ups = [], []
    for _ in range(150):
        pose = draw_pose(rng, people.motions, people.clips, people.assets.joint_template)
        root = synthetic.draw_view(rng, pose)[0]
        matrix = cv2.Rodrigues(root)[0]
        fronts.append(-matrix[2, 2])  # +1 faces the camera
        ups.append(-matrix[1, 1])
    fronts = np.array(fronts)
    assert (fronts > 0.5).mean() > 0.3
    assert (fronts < -0.5).mean() > 0.08
    assert (np.array(ups) > 0.7).mean() > 0.7


def test_left_and_right(people):
    """An upright person who faces the camera has the left hand on the picture's right side."""
    pose = np.zeros((24, 3))
    pose[0] = TURN.as_rotvec()
    body = pose_body(people.assets, pose, np.zeros(10))
    assert body.smpl_joints[22, 0] > 0.5
    assert body.smpl_joints[15, 1] < body.smpl_joints[0, 1] < body.smpl_joints[7, 1]  # y is down
    nose = body.joints[0]
    assert nose[2] < body.smpl_joints[15, 2]  # nearer than the head's middle
    render = replace(people.render(0), vertices=body.vertices, cam=np.float32([0.9, 0, 0.2]))
    parts = part_map(render, people.assets)
    columns = np.arange(224)[None].repeat(224, 0)
    assert columns[parts == 4].mean() > 112 > columns[parts == 3].mean()
    assert (parts == 2).sum() > 10 * (parts == 1).sum()  # the front of the torso


def test_mirrored_pose_mirrors_the_body(people):
    rng = np.random.default_rng(3)
    pose = draw_pose(rng, people.motions, people.clips, people.assets.joint_template)
    joints = pose_body(people.assets, pose, np.zeros(10)).smpl_joints
    mirrored = pose_body(people.assets, mirror_pose(pose), np.zeros(10)).smpl_joints
    np.testing.assert_allclose(mirrored[list(SMPL_FLIP)] * [-1, 1, 1], joints, atol=0.02)


def test_blend_goes_from_one_pose_to_the_other():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 0.6, (2, 24, 3))
    np.testing.assert_allclose(blend(first, second, 0.0), first, atol=1e-9)
    np.testing.assert_allclose(blend(first, second, 1.0), second, atol=1e-9)
    half = blend(first, second, np.repeat([0.0, 1.0], 12))
    np.testing.assert_allclose(half, np.concatenate([first[:12], second[12:]]), atol=1e-9)


@pytest.mark.parametrize("side", [1, -1])
def test_an_arm_reaches_its_target(side):
    rng = np.random.default_rng(1)
    for _ in range(20):
        target = rng.normal(0, 0.2, 3) + [side * 0.15, 0, 0.1]
        shoulder, elbow = reach(target, rng.normal(0, 1, 3), 0.28, 0.25, side)
        forearm = cv2.Rodrigues(np.array([0.0, -side * elbow, 0.0]))[0]
        along = np.array([side, 0.0, 0.0])
        wrist = shoulder @ (along * 0.28 + forearm @ along * 0.25)
        np.testing.assert_allclose(shoulder @ shoulder.T, np.eye(3), atol=1e-6)
        length = np.linalg.norm(target)
        if 0.15 < length < 0.52:
            np.testing.assert_allclose(wrist, target, atol=1e-6)


def test_evaluation_material_is_held_out():
    train, held_out = Split("train"), Split("eval")
    names = list(load_motions().names)
    assert set(synthetic_split.HELD_OUT_CLIPS) <= set(names)
    assert set(train.clips(names)) | set(held_out.clips(names)) == set(range(len(names)))
    assert not set(train.clips(names)) & set(held_out.clips(names))
    families = tuple(FAMILIES)
    assert set(held_out.backgrounds(families)) == set(families)
    assert set(families) - set(train.backgrounds(families)) == set(synthetic_split.HELD_OUT_BACKGROUNDS)
    rng = np.random.default_rng(0)
    for draw in ("texture_seed", "background_seed"):
        ours = {getattr(train, draw)(rng) for _ in range(3000)}
        theirs = {getattr(held_out, draw)(rng) for _ in range(3000)}
        assert max(ours) < min(theirs)
    assert not set(train.pictures(35)) & set(held_out.pictures(35))


def test_the_splits_show_other_people():
    train, held_out = SyntheticPeople(2, seed=1).render(0), SyntheticPeople(2, seed=1, split="eval").render(0)
    assert not np.array_equal(train.image, held_out.image)
    assert not np.array_equal(train.betas, held_out.betas)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_backgrounds_fill_the_picture(family):
    for clutter in (0.0, 1.0):
        picture = make_background(family, 17, clutter)
        assert picture.shape == (224, 224, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
        np.testing.assert_array_equal(picture, make_background(family, 17, clutter))


def test_textures_differ_by_seed():
    tiles = [make_tile(seed) for seed in range(20)]
    assert all(t.shape == (64, 64, 3) and t.min() >= 0 and t.max() <= 1 for t in tiles)
    assert len({round(float(t.mean()), 4) for t in tiles}) > 15


def test_own_backgrounds_are_used(tmp_path):
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), np.full((80, 120, 3), (0, 255, 0), np.uint8))
    pure = (np.array([0, 255, 0]) == 255).argmax()
    people = SyntheticPeople(20, difficulty=0.0, backgrounds=tmp_path)
    corners = np.array([people.render(i).image[5, 5] for i in range(20)], np.int32)
    green = corners[:, pure] - np.delete(corners, pure, axis=1).max(1)
    assert (green > 80).sum() >= 5


def test_a_background_of_too_many_pixels_is_not_decoded(tmp_path, caplog):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "large.png")
    tracemalloc.start()
    assert crop_picture(tmp_path / "large.png", np.random.default_rng(0)) is None
    assert tracemalloc.get_traced_memory()[1] < 5_000_000 and "large.png' is not used" in caplog.text
    tracemalloc.stop()


def test_wrong_values_are_refused(people, tmp_path):
    with pytest.raises(ValueError, match="positive number"):
        SyntheticPeople(0)
    with pytest.raises(ValueError, match="seed is -1 but must not be negative"):
        SyntheticPeople(3, seed=-1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        SyntheticPeople(3, difficulty=2)
    with pytest.raises(ValueError, match="train, eval"):
        SyntheticPeople(3, split="test")
    with pytest.raises(IndexError, match=r"0\.\.999"):
        people.render(1000)
    with pytest.raises(FileNotFoundError, match="No pictures for backgrounds"):
        SyntheticPeople(3, backgrounds=tmp_path)
    official = replace(load_open_body(), model_id="smpl")
    with pytest.raises(ValueError, match="belongs to the body"):
        make_assets(official, load_open_atlas(), None, None)


def test_preview_writes_a_sheet(tmp_path, capsys):
    out = tmp_path / "sheet.jpg"
    assert synthetic.main(["--preview", str(out), "--count", "3", "--split", "eval"]) == 0
    assert cv2.imread(str(out)).shape == (448, 8 * 224, 3)
    assert "3 people of the eval split" in capsys.readouterr().out


def test_preview_needs_no_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic.main(["--preview", "--count", "1"])
    assert cv2.imread("output/people.jpg").shape == (448, 8 * 224, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--count 1", "required: --preview"),
        ("--preview x.xyz", "Cannot write a picture to 'x.xyz'; its name must end in .jpg or .png."),
        ("--preview --count 0", "give a positive number"),
        ("--preview --seed -1", "must not be negative"),
        ("--preview --backgrounds nowhere", "No pictures for backgrounds"),
        ("--preview /dev/null/a.jpg --count 1", "/dev/null"),
    ],
)
def test_a_preview_that_cannot_be_made_is_a_sentence(given, said, capsys):
    with pytest.raises(SystemExit) as stop:
        synthetic.main(given.split())
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and said in lines[0]
