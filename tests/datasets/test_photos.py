"""Photographs with fitted bodies as a training set: their masks, whose body they are of, and what is held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import N, base_arrays, waves, write_image, write_labels, write_photographs

from datasets.augment import AugmentConfig, AugmentValues
from datasets.base_dataset import BaseDataset
from datasets.coco_dataset import COCO_ROWS
from datasets.held_out import read_held_out
from datasets.label_counts import count_labels
from datasets.labels.masks import NO_MASK
from datasets.labels.photos import read_photo_labels
from datasets.photographs import held_out_people, masked_people
from datasets.registry import PathsConfig
from datasets.synthetic.dataset import Draw, SyntheticPeople
from datasets.synthetic.fitted_poses import read_fitted_poses
from datasets.training_data import DataConfig, build_mix
from utils.images import ImageError
from utils.io import DataFileError

OPEN_BODY = "danet-open-1"
SIDE = 200


def write_photos(data_dir, **changes):
    """Four photographs of 200 px, each with a mask of its right half but the last; returns the label arrays."""
    arrays = base_arrays()
    names = {"imgname": "train/{}.png", "maskname": "masks/{}.png"}
    arrays = {k: arrays[k] for k in ("part", "S", "pose", "shape")} | {
        "center": np.full((N, 2), 100.0), "scale": np.ones(N), "body_model": OPEN_BODY,
        **{key: np.array([form.format(i) for i in range(N)]) for key, form in names.items()},
    } | changes  # fmt: skip
    if "maskname" not in changes:
        arrays["maskname"][-1] = ""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, 100:] = 255
    for i in range(N):
        write_image(data_dir / "photos" / f"train/{i}.png", waves(SIDE, SIDE, i))
        write_image(data_dir / "photos" / f"masks/{i}.png", mask)
    write_labels(data_dir, "photos_train", **arrays)
    return arrays


def test_the_mask_follows_the_crop(tmp_path):
    """Flipped, turned and enlarged with the image; a person without one says so, and so do all rendered people."""
    write_photos(tmp_path)
    people = BaseDataset("photos", tmp_path)
    right = torch.zeros(56, 56, dtype=torch.int64)
    right[:, 28:] = 1
    assert torch.equal(people.sample(0).mask, right)
    assert torch.equal(people.sample(0, AugmentValues(flip=True)).mask, 1 - right)
    turned = people.sample(0, AugmentValues(rotation_deg=90.0)).mask
    assert torch.equal(turned, right.T) or torch.equal(turned, 1 - right.T)
    inside = people.sample(0, AugmentValues(scale=2.0)).mask
    assert inside[14:42, 28:42].all() and inside.sum() == 28 * 14
    shifted = people.sample(0, AugmentValues(shift=(0.25, 0.0))).mask
    assert shifted[:, 14:42].all() and shifted[:, :14].sum() == 0  # what lies outside the image is no person
    rates = AugmentConfig(zoom_rate=1.0, occlude_rate=1.0)
    changed = BaseDataset("photos", tmp_path, augmentation=rates)
    occluders = [changed.draw(np.random.default_rng(0), index).occluder for index in range(N)]
    assert all(occluders[:-1]) and occluders[-1] is None
    assert (people.sample(N - 1).mask == NO_MASK).all()
    assert (SyntheticPeople(1, draw=Draw(labels_only=True))[0].mask == NO_MASK).all()


def test_the_mask_shows_the_same_place_as_the_image(tmp_path):
    """A white image whose mask is its bright part: both crops agree under every change."""
    write_photos(tmp_path)
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = (((x - 120) ** 2 + (y - 80) ** 2 < 40**2) * 255).astype(np.uint8)
    write_image(tmp_path / "photos/train/0.png", np.repeat(disc[..., None], 3, 2))
    write_image(tmp_path / "photos/masks/0.png", disc)
    for values in (AugmentValues(True, rotation_deg=25.0, scale=1.2), AugmentValues(rotation_deg=-40.0, scale=0.8)):
        for mode in ("warp", "legacy"):
            sample = BaseDataset("photos", tmp_path, crop_mode=mode).sample(0, values)
            bright = sample.image[0].view(56, 4, 56, 4).mean(dim=(1, 3))
            agree = ((bright > 0) == (sample.mask == 1)).double().mean()
            assert agree > 0.995, (values, mode)


def test_bodies_of_another_model_are_passed_over(tmp_path):
    write_photos(tmp_path)
    cfg = DataConfig(train_data="photos")
    mix = build_mix(cfg, tmp_path, body=OPEN_BODY)
    assert count_labels(mix, None)["photos"]["rendered maps"] == N
    mix = build_mix(cfg, tmp_path, body="smpl")
    assert "bodies" not in count_labels(mix, None)["photos"] and not mix.members[0].sample(0).has_smpl
    assert mix.members[0].unused == {f"pose and shape (they belong to '{OPEN_BODY}', the run shows 'smpl')": N}
    write_photos(tmp_path, body_model=np.array(["smpl"] * N))
    with pytest.raises(DataFileError, match="body_model is .* expected one text"):
        build_mix(cfg, tmp_path)


def test_another_folder_and_what_is_missing(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="photos.* should be in the folder .*--photos_root"):
        BaseDataset("photos", tmp_path)
    paths = PathsConfig(photos_root=str(tmp_path / "elsewhere"))
    assert BaseDataset("photos", tmp_path, paths)[0].mask.any()
    (tmp_path / "elsewhere/masks/1.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of the 3 label images .maskname. of 'photos'"):
        BaseDataset("photos", tmp_path, paths)
    (tmp_path / "elsewhere/masks/1.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="masks/1.png: not an image"):
        BaseDataset("photos", tmp_path, paths).sample(1)
    with pytest.raises(FileNotFoundError, match="photos_train.npz; docs/training.md shows how"):
        BaseDataset("photos", tmp_path / "elsewhere")


def test_held_out_photographs_are_never_trained_on(tmp_path):
    write_photos(tmp_path)
    names = tmp_path / "mine.txt"
    names.write_text("other.jpg\n2.png\n\n")
    cfg = DataConfig(train_data="photos", photos_held_out=str(names))
    with pytest.raises(DataFileError, match=r"photos_train.npz holds 1 of the held-out .* train/2.png"):
        build_mix(cfg, tmp_path)
    names.write_text("other.jpg\n")
    assert len(build_mix(cfg, tmp_path)) == N
    for content in (b"\n", b"\xff\xfe"):
        names.write_bytes(content)
        with pytest.raises(DataFileError, match="held-out photographs .*mine.txt"):
            build_mix(cfg, tmp_path)
    assert replace(cfg, train_data="coco").without_effect().keys() == {"photos_held_out"}
    elsewhere = PathsConfig(photos_root=str(tmp_path))  # the photographs measure any training
    assert not replace(cfg, train_data="coco", paths=elsewhere).without_effect()


def test_the_shipped_list():
    names = read_held_out()
    assert len(names) == 300 and all(name.endswith(".jpg") for name in names)


# ------------------------------------------------------------------------------------- photographs to score people by


def test_held_out_people_have_the_points_and_boxes_of_their_labels(tmp_path):
    arrays = write_photographs(tmp_path, ("a.jpg", "b.jpg", "c.jpg"))
    arrays["visibility"][1, 11], arrays["keypoints_2d"][1, 12] = 0.4, [-30, 260]
    np.savez(tmp_path / "blazepose_labels.npz", **arrays)
    people = held_out_people(tmp_path, ("b.jpg", "x.jpg"))
    assert len(people) == 1 and people.name_of(0) == "b.jpg"
    points = people.labels.keypoints[0][COCO_ROWS]
    np.testing.assert_allclose(points[7:13, :2], arrays["keypoints_2d"][1, [13, 14, 15, 16, 23, 24]])
    assert points[5, 2] == 0 and points[6, 2] == 1  # the left shoulder is hidden
    seen = arrays["keypoints_2d"][1, [i for i in range(33) if i != 11]].clip(0, SIDE)
    low, high = seen.min(axis=0).clip(max=[41, 31]), seen.max(axis=0).clip(min=160)
    np.testing.assert_allclose(people.labels.center[0], (low + high) / 2)  # within the photograph
    assert people.labels.scale[0] * 200 == pytest.approx(1.2 * (high - low).max())
    assert people.true_mask(0).shape == (56, 56) and people.true_mask(0).any()
    with pytest.raises(DataFileError, match="labels none of the 1 held-out photographs, such as x.jpg"):
        held_out_people(tmp_path, ("x.jpg",))
    with pytest.raises(FileNotFoundError, match="`python -m datasets.preprocess.photos` writes them"):
        held_out_people(tmp_path / "train", ("b.jpg",))


def test_masked_people_are_boxed_by_their_masks(tmp_path):
    write_photographs(tmp_path, ("a.jpg", "b.jpg"))
    for name in ("a", "b"):
        (tmp_path / f"train/{name}.jpg").rename(tmp_path / f"masks/{name}.jpg")
    (tmp_path / "masks/b.png").unlink()
    people = masked_people(tmp_path / "masks")
    assert people.left_out == {"photographs without a mask": 1} and people.name_of(0) == "a.jpg"
    np.testing.assert_allclose(people.labels.center, [[100.5, 90.5]])
    assert people.labels.scale[0] * 200 == pytest.approx(1.2 * 119)
    share = people.true_mask(0).mean()
    assert share == pytest.approx(np.pi / 4 / 1.2**2, abs=0.01)  # a disc that fills the box
    write_image(tmp_path / "masks/a.png", np.full((SIDE, 90), 255, np.uint8))
    with pytest.raises(DataFileError, match="None of the 1 masks looked at has the size .*a.png"):
        masked_people(tmp_path / "masks")
    with pytest.raises(DataFileError, match="holds no photograph"):
        masked_people(tmp_path / "train")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        masked_people(tmp_path / "none")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("visibility", None, "lacks visibility"),
        ("keypoints_2d", np.zeros((2, 17, 2)), r"keypoints_2d is not \[2, 33, 2\] finite numbers"),
        ("flag", np.array([1.0, np.nan]), r"flag is not \[2\] finite numbers"),
        ("name", np.zeros(2), "name is float64"),
    ],
)
def test_label_files_of_another_form_are_refused(tmp_path, field, value, said):
    arrays = write_photographs(tmp_path, ("a.jpg", "b.jpg")) | {field: value}
    np.savez(tmp_path / "blazepose_labels.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataFileError, match=said):
        read_photo_labels(tmp_path / "blazepose_labels.npz")


def test_rendered_people_take_fitted_poses(tmp_path):
    """The same root, seen from the front or mirrored, joints about the fitted ones; none without a share."""
    rotvec = np.zeros((3, 72))
    rotvec[:, 0] = np.pi  # upright in the camera's frame
    rotvec[:, 3 * 4] = 1.5  # a bent left knee
    labels = dict(
        imgname=np.array(["a.jpg", "b.jpg", "c.jpg"]), center=np.full((3, 2), 50.0), scale=np.ones(3), pose=rotvec,
        shape=np.zeros((3, 10)),
    )  # fmt: skip
    np.savez(tmp_path / "smpl.npz", **labels)
    with pytest.raises(DataFileError, match="rendered people show the open body"):
        read_fitted_poses(tmp_path / "smpl.npz", 1.0)
    np.savez(tmp_path / "open.npz", **labels, body_model=np.array("danet-open-1"))
    fitted = read_fitted_poses(tmp_path / "open.npz", 1.0)
    poses = np.stack([fitted.draw(np.random.default_rng(seed)) for seed in range(20)])
    assert np.abs(poses[:, 0]).max() < 1e-6
    knees = np.sort(poses[:, [4, 5], 0], axis=1)
    assert (np.abs(knees[:, 1] - 1.5) < 0.3).all() and (np.abs(knees[:, 0]) < 0.3).all()
    assert 0 < (poses[:, 4, 0] > 0.7).sum() < 20
    draw = Draw(labels_only=True)
    bent = [SyntheticPeople(4, fitted=fitted, draw=draw)[i].rotvec.view(24, 3)[[4, 5], 0].max() for i in range(4)]
    assert min(bent) > 1.2
