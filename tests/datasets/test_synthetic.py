"""Synthetic people: determinism, labels that fit image and body, held-out material, limits, sides."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datasets.synthetic.__main__ import main
from datasets.synthetic.appearance import draw_outfit
from datasets.synthetic.background import FAMILIES, make_background, random_crop
from datasets.synthetic.body import make_assets, pose_body
from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.synthetic.generator import MAX_SCALE, MIN_SCALE, Camera, paint
from datasets.synthetic.pose import LIMIT_HIGH, LIMIT_LOW, blend, draw_pose, load_motions, mirror_pose, reach
from datasets.synthetic.preview import part_map
from datasets.synthetic.split import HELD_OUT_BACKGROUNDS, HELD_OUT_CLIPS, Split
from models.smpl import SMPL
from models.targets import TargetBuilder
from utils.body import load_open_atlas, load_open_body
from utils.renderer import IUV_Renderer
from utils.skeleton import SMPL_FLIP
from utils.structures import collate_samples

FULL = Draw()


@pytest.fixture(scope="module")
def people() -> SyntheticPeople:
    return SyntheticPeople(1000, seed=5)


@pytest.fixture(scope="module")
def samples(people):
    return [people[i] for i in range(12)]


@pytest.fixture(scope="module")
def renders(people):
    return [people.render(i, FULL) for i in range(12)]


def tensors(sample) -> list[torch.Tensor]:
    values = []
    sample.map(lambda t: (values.append(t), t)[1])
    return values


def test_a_person_follows_from_seed_epoch_and_index_alone(samples):
    again = SyntheticPeople(7, seed=5)
    assert all(map(torch.equal, tensors(again[3]), tensors(samples[3]))) and again[3].name == "train_5_0_3"
    others = (
        SyntheticPeople(7, seed=6)[3],
        SyntheticPeople(7, seed=5, split="eval")[3],
        again.sample(3, Draw(epoch=1)),
    )
    for other in others:
        assert not torch.equal(other.image, samples[3].image)
        assert not torch.equal(other.betas, samples[3].betas) and other.name != samples[3].name


def test_labels_alone_are_those_of_the_image(samples):
    sample = SyntheticPeople(7, seed=5, draw=Draw(labels_only=True))[3]
    assert sample.image.std(dim=(1, 2)).max() == 0
    assert all(map(torch.equal, tensors(sample)[1:], tensors(samples[3])[1:]))


def test_workers_make_the_same_people(people, samples):
    loader = DataLoader(people, batch_size=4, sampler=range(8), num_workers=2, collate_fn=collate_samples)
    batches = list(loader)
    for name in ("image", "rotvec", "keypoints"):
        made = torch.cat([getattr(batch, name) for batch in batches])
        assert torch.equal(made, torch.stack([getattr(sample, name) for sample in samples[:8]]))
    assert batches[1].name == tuple(s.name for s in samples[4:8])


def test_labels_camera_and_rendered_maps_agree(people, samples, renders):
    """The body layer and the camera fitted to the keypoints give back the labels and the part map."""
    smpl, renderer = SMPL(load_open_body()), IUV_Renderer(atlas=load_open_atlas())
    batch = collate_samples(samples)
    targets = TargetBuilder(smpl, renderer)(batch)
    assert targets.has_iuv.all()
    cam = torch.from_numpy(np.stack([r.cam for r in renders]))
    torch.testing.assert_close(targets.cam, cam, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(targets.centers[..., :2], batch.smpl_keypoints[..., :2], atol=5e-4, rtol=0)
    vertices = torch.from_numpy(np.stack([r.body.vertices for r in renders]))
    torch.testing.assert_close(targets.vertices, vertices, atol=1e-5, rtol=0)
    maps = torch.stack([torch.from_numpy(part_map(r, people.resources.assets, 56)) for r in renders])
    assert (targets.iuv.index.argmax(1) == maps).float().mean() > 0.998


def test_the_image_shows_the_labelled_body(people, renders):
    """Painted on a plain ground, the person covers the body's silhouette up to cloth and hair."""
    overlap, made_of = [], people.resources
    for index, render in enumerate(renders[:8]):
        outfit = draw_outfit(np.random.default_rng(index), made_of.split, made_of.assets, made_of.figure)
        outfit = replace(outfit, skirt=outfit.skirt & False, cut=outfit.cut._replace(hair_drop=-9.0))
        image = np.full((224, 224, 3), -1, np.float32)
        paint(image, made_of, render.body, Camera(render.cam), outfit)
        seen, truth = (image > -0.5).all(2), part_map(render, made_of.assets) > 0
        overlap.append((seen & truth).sum() / (seen | truth).sum())
    assert min(overlap) > 0.85 and np.mean(overlap) > 0.92


def test_values_stay_in_their_ranges(people):
    for index in range(60):
        render = people.render(index, Draw(labels_only=True))
        assert MIN_SCALE - 1e-6 <= render.cam[0] <= MAX_SCALE + 1e-6
        assert np.abs(render.body.betas).max() <= 2.5
        pose = render.body.rotvec[1:]
        assert (pose >= LIMIT_LOW[1:]).all() and (pose <= LIMIT_HIGH[1:]).all()
        keypoints = people.sample(index, Draw(labels_only=True)).keypoints
        inside = (keypoints[:, :2].abs() <= 1).all(1)
        assert torch.equal(keypoints[:, 2] == 1, inside) and inside[25:].sum() >= 4


def test_mirrored_pose_mirrors_the_body(people):
    assets = people.resources.assets
    pose = draw_pose(np.random.default_rng(3), people.resources.motions, assets.joint_template)
    joints = pose_body(assets, pose, np.zeros(10)).smpl_joints
    mirrored = pose_body(assets, mirror_pose(pose), np.zeros(10)).smpl_joints
    np.testing.assert_allclose(mirrored[list(SMPL_FLIP)] * [-1, 1, 1], joints, atol=0.02)


def test_blend_goes_from_one_pose_to_the_other():
    first, second = np.random.default_rng(0).normal(0, 0.6, (2, 24, 3))
    np.testing.assert_allclose(blend(first, second, 0.0), first, atol=1e-9)
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
        np.testing.assert_allclose(shoulder @ shoulder.T, np.eye(3), atol=1e-6)
        if 0.15 < np.linalg.norm(target) < 0.52:
            wrist = shoulder @ (along * 0.28 + forearm @ along * 0.25)
            np.testing.assert_allclose(wrist, target, atol=1e-6)


def test_evaluation_material_is_held_out():
    train, held_out = Split("train"), Split("eval")
    names, families = load_motions().names, tuple(FAMILIES)
    assert {names[i] for i in held_out.clips(names)} == set(HELD_OUT_CLIPS)
    assert {names[i] for i in train.clips(names)} == set(names) - set(HELD_OUT_CLIPS)
    assert set(held_out.backgrounds(families)) == set(families)
    assert set(families) - set(train.backgrounds(families)) == set(HELD_OUT_BACKGROUNDS)
    rng = np.random.default_rng(0)
    for draw in ("texture_seed", "background_seed"):
        ours = {getattr(train, draw)(rng) for _ in range(3000)}
        assert max(ours) < min(getattr(held_out, draw)(rng) for _ in range(3000))
    paths = [Path(f"{i}.jpg") for i in range(35)]
    assert not set(train.images(paths)) & set(held_out.images(paths))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_backgrounds_fill_the_image(family):
    for clutter in (0.0, 1.0):
        image = make_background(family, 17, clutter)
        assert image.shape == (224, 224, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
        np.testing.assert_array_equal(image, make_background(family, 17, clutter))


def test_own_backgrounds_are_used(tmp_path):
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), np.full((80, 120, 3), (0, 255, 0), np.uint8))
    people = SyntheticPeople(20, draw=Draw(difficulty=0), backgrounds=tmp_path)
    red, green, blue = np.array([people.render(i, people.default_draw).image[5, 5] for i in range(20)], int).T
    assert (green - np.maximum(red, blue) > 80).sum() >= 5


def test_a_background_of_too_many_pixels_is_not_decoded(tmp_path, caplog):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "large.png")
    tracemalloc.start()
    assert random_crop(np.random.default_rng(0), tmp_path / "large.png") is None
    assert tracemalloc.get_traced_memory()[1] < 5_000_000 and "large.png' is not used" in caplog.text
    tracemalloc.stop()


def test_wrong_values_are_errors(people):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Draw(difficulty=2)
    with pytest.raises(ValueError, match="train, eval"):
        SyntheticPeople(3, split="test")
    with pytest.raises(IndexError, match=r"0\.\.999"):
        people.render(1000, FULL)
    with pytest.raises(ValueError, match="belongs to the body"):
        make_assets(replace(load_open_body(), model_id="smpl"), load_open_atlas(), None, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--count 1", "required: --preview"),
        ("--write x --preview", "Exactly one of these is required"),
        ("--preview x.xyz", "Cannot write an image to 'x.xyz'; its name must end in .jpg or .png."),
        ("--preview --count 0", "give a positive number"),
        ("--preview --seed -1", "must not be negative"),
        ("--preview --backgrounds nowhere", "No images for backgrounds"),
        ("--preview /dev/null/a.jpg --count 1", "/dev/null"),
    ],
)
def test_a_preview_that_cannot_be_made_is_a_sentence(given, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(given.split())
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and message in lines[0]
