"""Labelled data sets: items of 2020 in legacy mode, exact maps in warp mode, and what is refused at the start."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from labelled import N, base_arrays, write_dp_coco, write_h36m, write_image, write_labels, write_set
from scipy.spatial.transform import Rotation
from torch.utils.data import DataLoader

from datasets.augment import AugmentValues
from datasets.base_dataset import BaseDataset
from datasets.legacy_crop import crop_legacy, transform_points
from datasets.registry import PathsConfig
from utils.images import MEAN, STD, ImageError
from utils.io import DataFileError
from utils.skeleton import GT24_FLIP, JOINT49_FLIP, SMPL_FLIP
from utils.structures import collate_samples

CHANGES = [
    AugmentValues(),
    AugmentValues(True, (0.61, 1.37, 1.0), 0.0, 1.21),
    AugmentValues(False, (1.2, 0.7, 1.1), -33.0, 0.8),
    AugmentValues(True, (0.9, 1.1, 1.4), 41.5, 1.1),
]


@pytest.fixture(scope="module")
def h36m(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h36m")
    return folder, write_h36m(folder)


@pytest.fixture(scope="module")
def dp_coco(tmp_path_factory):
    from labelled import write_symmetry

    folder = tmp_path_factory.mktemp("dp_coco")
    write_symmetry(folder)
    return folder, write_dp_coco(folder)


def item_of_2020(arrays, photo, i, values):
    """The item by the rules of docs/method.md 8.1 to 8.5, step after step."""
    center, scale, rotation = arrays["center"][i], values.scale * arrays["scale"][i], values.rotation_deg
    crop = crop_legacy(photo, center, scale, rotation)
    crop = np.fliplr(crop) if values.flip else crop
    channels = []
    for c in range(3):
        noisy = np.minimum(255.0, np.maximum(0.0, crop[..., c] * values.noise[c])).astype(np.uint8)
        pixels = torch.from_numpy(noisy.astype(np.float32) / np.float32(255))
        channels.append((pixels - torch.tensor(MEAN[c])) / torch.tensor(STD[c]))

    def points(given, partners):
        result = given.copy()
        result[:, :2] = transform_points(given[:, :2] + 1, center, scale, rotation)
        result[:, :2] = 2.0 * result[:, :2] / 224 - 1.0
        if values.flip:
            result = result[list(partners)] * np.array([-1, 1, 1])
        return result

    smpl = points(arrays["smpl_2dkps"][i], SMPL_FLIP) if "smpl_2dkps" in arrays else np.zeros((24, 3))
    smpl[smpl[:, 2] == 0] = 0
    openpose = arrays["openpose"][i] if "openpose" in arrays else np.zeros((25, 3))
    angle = np.deg2rad(-rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    joints, pose = np.zeros((24, 4)), np.zeros(72)
    if "S" in arrays:
        joints = arrays["S"][i].copy()
        joints[:, :3] = joints[:, :3] @ turn.T
        joints = joints[list(GT24_FLIP)] * np.array([-1, 1, 1, 1]) if values.flip else joints
    pose = arrays["pose"][i].copy() if "pose" in arrays else pose
    pose[:3] = cv2.Rodrigues(turn @ cv2.Rodrigues(pose[:3])[0])[0][:, 0]
    if values.flip:
        pose = pose.reshape(24, 3)[list(SMPL_FLIP)] * np.array([1, -1, -1])
    keypoints = points(np.concatenate([openpose, arrays["part"][i]]), JOINT49_FLIP)
    betas = arrays["shape"][i] if "shape" in arrays else np.zeros(10)
    return torch.stack(channels), keypoints, smpl, joints, pose.reshape(72), betas, scale


@pytest.mark.parametrize("values", CHANGES)
def test_legacy_items_are_those_of_2020(h36m, values):
    folder, arrays = h36m
    people = BaseDataset("h36m", folder, crop_mode="legacy")
    for i in range(N):
        found = people.sample(i, values)
        image, keypoints, smpl, joints, pose, betas, scale = item_of_2020(arrays, people.image(i), i, values)
        assert torch.equal(found.image, image)
        assert np.array_equal(found.keypoints, keypoints.astype(np.float32))
        assert np.array_equal(found.smpl_keypoints, smpl.astype(np.float32))
        assert np.allclose(found.joints_3d, joints.astype(np.float32), atol=1e-7, rtol=0)
        assert np.allclose(found.rotvec, pose.astype(np.float32), atol=1e-6, rtol=0)
        assert np.array_equal(found.betas, betas.astype(np.float32))
        assert np.array_equal(found.center, arrays["center"][i].astype(np.float32))
        assert float(found.scale) == np.float32(scale)
        assert float(found.rotation_deg) == np.float32(values.rotation_deg)
        assert bool(found.is_flipped) == values.flip and int(found.index) == i


@pytest.mark.parametrize("flip", [False, True])
def test_legacy_dense_items(dp_coco, flip):
    """Never rotated; the crop's whole-pixel box; zero pose turned or not stays zero."""
    folder, arrays = dp_coco
    people = BaseDataset("dp_coco", folder, crop_mode="legacy")
    values = AugmentValues(flip, (1.1, 1, 1), 25.0, 0.9)
    upright = AugmentValues(flip, (1.1, 1, 1), 0.0, 0.9)
    found = people.sample(2, values)
    image, keypoints, smpl, *_ = item_of_2020(arrays, people.image(2), 2, upright)
    assert torch.equal(found.image, image) and float(found.rotation_deg) == 0
    assert np.array_equal(found.keypoints, keypoints.astype(np.float32))
    assert np.array_equal(found.smpl_keypoints, smpl.astype(np.float32))
    assert found.has_dense and not found.has_smpl and not found.has_joints_3d and not found.rotvec.any()
    assert (found.dense.part > 0).sum() > 10 and found.dense.ann_labels.any()


@pytest.mark.parametrize("values", CHANGES)
@pytest.mark.parametrize("scale", [0.5, 1.2, 3.0])
def test_a_bright_dot_lands_on_its_keypoint(tmp_path, values, scale):
    spot, center = np.array([430.0, 350.0]), np.array([430.0 - 40 * scale, 350.0 + 30 * scale])
    y, x = np.mgrid[:700, :800] + 0.5
    blob = 150 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * (2.5 * scale) ** 2))
    part = np.zeros((N, 24, 3))
    part[:, 0] = [*spot, 1]
    arrays = {"part": part, "center": np.tile(center, (N, 1)), "scale": np.full(N, scale)}
    names = write_set(tmp_path, "mpii_train", "mpii", ("part",), **arrays)["imgname"]
    write_image(tmp_path / "mpii" / names[0], np.repeat(blob[..., None], 3, -1).astype(np.uint8))
    found = BaseDataset("mpii", tmp_path).sample(0, values)
    weight = found.image[0].double() * STD[0] + MEAN[0]
    weight = torch.where(weight > 0.03, weight, 0.0).numpy()
    rows, columns = np.mgrid[:224, :224] + 0.5
    seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    joint = 25 + (GT24_FLIP[0] if values.flip else 0)
    mapped = (found.keypoints[joint, :2].double().numpy() + 1) * 112
    assert np.abs(seen - mapped).max() < 0.5 and found.keypoints[joint, 2] == 1


def test_poses_without_label_stay_zero(h36m, tmp_path):
    arrays = write_h36m(tmp_path, has_smpl=np.array([1, 0, 1, 0]))
    people = BaseDataset("h36m", tmp_path)
    values = AugmentValues(rotation_deg=30.0)
    assert [bool(people.sample(i).has_smpl) for i in range(N)] == [True, False, True, False]
    assert not people.sample(1, values).rotvec.any() and not people.sample(1, values).betas.any()
    turned = Rotation.from_rotvec(people.sample(0, values).rotvec[:3].double().numpy())
    expected = Rotation.from_euler("z", -30, degrees=True) * Rotation.from_rotvec(arrays["pose"][0, :3])
    assert (turned.inv() * expected).magnitude() < 1e-5


def test_draws_depend_on_seed_and_index_alone(h36m):
    people, same = BaseDataset("h36m", h36m[0], seed=3), BaseDataset("h36m", h36m[0], seed=3)
    first = [people[i] for i in range(N)]
    backwards = [same[i] for i in reversed(range(N))][::-1]
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, backwards, strict=True))
    in_worker = next(iter(DataLoader(people, N, num_workers=1, collate_fn=collate_samples)))
    assert torch.equal(in_worker.image, torch.stack([s.image for s in first]))


def test_ignore_3d(h36m):
    sample = BaseDataset("h36m", h36m[0], ignore_3d=True).sample(0)
    assert not sample.has_smpl and not sample.has_joints_3d
    assert not sample.joints_3d.any() and not sample.rotvec.any()


def test_genders(tmp_path):
    for kind in (np.array(["m", "f", "f", "m"]), np.array([b"m", b"f", b"f", b"m"])):
        write_set(tmp_path, "3dpw_test", "3dpw", ("pose", "shape"), gender=kind)
        people = BaseDataset("3dpw", tmp_path, is_train=False)
        assert [int(people.sample(i).gender) for i in range(N)] == [0, 1, 1, 0]
    write_set(tmp_path, "3dpw_test", "3dpw", ("pose", "shape"), gender=np.array(["m", "f", "x", "m"]))
    with pytest.raises(DataFileError, match="gender holds 'x'; expected 'm' or 'f'"):
        BaseDataset("3dpw", tmp_path, is_train=False)


def test_lsp_masks(tmp_path):
    masks = {
        f"{kind}name": np.array([f"data/lsp/im{i:04d}_{kind}.png" for i in range(N)])
        for kind in ("mask", "part")
    }
    write_set(tmp_path, "lsp_dataset_test", "lsp_dataset", ("part",), **masks)
    with pytest.raises(FileNotFoundError, match="upi-s1h, which is not there"):
        BaseDataset("lsp", tmp_path, is_train=False)
    for name in np.concatenate(list(masks.values())):
        write_image(tmp_path / "elsewhere" / str(name), np.zeros((10, 10), np.uint8))
    people = BaseDataset("lsp", tmp_path, PathsConfig(upi_s1h_root=str(tmp_path / "elsewhere")), is_train=False)
    assert people.mask_path(2) == tmp_path / "elsewhere" / "data/lsp/im0002_mask.png"
    assert people.part_path(1).is_file()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("h36m-p3", {}, "no data set 'h36m-p3'; choose one of h36m, h36m-p1"),
        ("h36m-p2", {}, "no training split; choose one of h36m, lsp-orig"),
        ("mpii", {"is_train": False}, "no test split; choose one of h36m-p1"),
        ("h36m", {"crop_mode": "fast"}, "crop_mode is 'fast'; choose one of warp, legacy"),
        ("h36m", {"seed": -1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_reported(h36m, name, settings, said):
    with pytest.raises(ValueError, match=said):
        BaseDataset(name, h36m[0], **settings)


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"dataset_extras.mpii_train.npz; `python -m datasets.preprocess.mpii`"
    ):
        BaseDataset("mpii", tmp_path)
    write_labels(tmp_path, "mpii_train", **{k: base_arrays()[k] for k in ("imgname", "center", "scale", "part")})
    with pytest.raises(FileNotFoundError, match="in the folder .*mpii, which is not there.*--mpii_root"):
        BaseDataset("mpii", tmp_path)
    (tmp_path / "mpii").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"4 of the 4 images .* the first is images/S1_Walk.cam_000000.png"
    ):
        BaseDataset("mpii", tmp_path)


def test_missing_mirror_tables_are_reported(tmp_path):
    write_dp_coco(tmp_path)
    with pytest.raises(FileNotFoundError, match="UV_symmetry_transforms.mat.*get_densepose_uv.sh"):
        BaseDataset("dp_coco", tmp_path)
    write_dp_coco(tmp_path, "dp_coco_2014_minival")
    people = BaseDataset("dp_coco", tmp_path, is_train=False)  # evaluation does not mirror
    assert people.sample(0).has_dense
    with pytest.raises(FileNotFoundError, match="UV_symmetry_transforms.mat"):
        people.sample(0, AugmentValues(flip=True))


def nan_at_2(shape):
    values = np.ones(shape)
    values[2] = np.nan
    return values


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"part": None}, "lacks part; expected imgname, center, scale, part"),
        ({"part": np.zeros((N, 23, 3))}, r"part has the shape \(4, 23, 3\); expected \(4, 24, 3\)"),
        ({"part": np.zeros((N - 1, 24, 3))}, r"part has the shape \(3, 24, 3\)"),
        ({"center": np.zeros((N, 3))}, r"center has the shape \(4, 3\); expected \(4, 2\)"),
        ({"center": nan_at_2((N, 2))}, "center of item 2 is not finite"),
        ({"scale": nan_at_2(N)}, "scale of item 2 is not finite"),
        ({"scale": np.array([1.0, 0.0, 1.0, 1.0])}, "scale of item 1 is 0; expected the side"),
        ({"scale": np.array(["a"] * N)}, "scale holds <U1; expected numbers"),
        ({"S": nan_at_2((N, 24, 4))}, "S of item 2 is not finite"),
        ({"pose": np.zeros((N, 72))}, "holds pose alone"),
        ({"imgname": np.arange(N)}, "imgname holds int64; expected text"),
        ({"imgname": np.zeros(0, "U3")}, "holds no people"),
        ({"gender": np.array(["m"] * 3)}, r"gender has the shape \(3,\)"),
        ({"dp_annot": np.array([None] * 3, dtype=object)}, r"dp_annot has the shape \(3,\)"),
    ],
)
def test_wrong_fields_are_reported(tmp_path, changes, said):
    arrays = {k: base_arrays()[k] for k in ("imgname", "center", "scale", "part")} | changes
    write_labels(tmp_path, "mpii_train", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataFileError, match=said) as caught:
        BaseDataset("mpii", tmp_path)
    assert "mpii_train.npz" in str(caught.value)


def test_unusual_but_readable_fields(tmp_path):
    """Column vectors, bytes, text and numbers saved as objects."""
    arrays = write_set(tmp_path, "mpii_train", "mpii", ("part",))
    names, scale = arrays["imgname"], arrays["scale"]
    expected = BaseDataset("mpii", tmp_path).sample(1)
    for changes in (
        {"imgname": np.char.encode(names)},
        {"imgname": names.astype(object), "scale": scale.astype(object)},
        {"scale": scale[:, None]},
    ):
        write_labels(tmp_path, "mpii_train", **arrays | changes)
        sample = BaseDataset("mpii", tmp_path).sample(1)
        assert sample.name == str(names[1]) and torch.equal(sample.image, expected.image)


def test_unreadable_images_are_named(tmp_path):
    write_set(
        tmp_path, "mpii_train", "mpii", ("part",), center=np.array([[120.0, 120], [120, 120], [900, 120], [1, 1]])
    )
    people = BaseDataset("mpii", tmp_path)
    people.image_path(1).write_bytes(b"no image")
    with pytest.raises(ImageError, match="cam_000001.png: not an image"):
        people[1]
    with pytest.raises(ImageError, match="cam_000002.png: The crop .* lies outside the image"):
        people.sample(2)
    people.image_path(0).unlink()
    with pytest.raises(ImageError, match="cam_000000.png: the file is not there"):
        people[0]
