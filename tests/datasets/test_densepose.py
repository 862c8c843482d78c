"""DensePose labels: goldens of map, points and mirror; run-length masks; damage named in a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycocotools.mask as coco_masks
import pytest
from labelled import dp_entry, write_symmetry
from standin import uv_symmetry

from datasets.labels.densepose import (
    MASK_FLIP,
    DenseAnnotations,
    UVSymmetry,
    dense_labels,
    load_symmetry,
    mirror_box,
    mirror_person,
    no_dense_labels,
)
from datasets.labels.rle import decode
from datasets.legacy_crop import crop_box
from utils.io import DataFileError


@pytest.fixture(scope="module")
def person(numbers):
    empty = set(numbers["dp_ann/empty_masks"])
    masks = [
        [] if k in empty else coco_masks.encode(np.asfortranarray(mask))
        for k, mask in enumerate(numbers["dp_ann/masks14"])
    ]
    keys = ("bbox", "dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
    entry = {key: numbers[f"dp_ann/{key}"].tolist() for key in keys}
    return DenseAnnotations([{**entry, "dp_masks": masks}]).person(0)


@pytest.fixture(scope="module")
def symmetry():
    tables = uv_symmetry()
    return UVSymmetry(*(np.stack(list(tables[n][0])).astype(np.float32) for n in ("U_transforms", "V_transforms")))


def test_label_map_golden(numbers, person):
    assert np.array_equal(person.labels, numbers["dp_ann/label"])


def test_mirror_golden(numbers, person, symmetry):
    mirrored = mirror_person(person, symmetry)
    assert np.array_equal(mirrored.labels, numbers["dp_sym/mask"])
    assert np.array_equal(mirrored.part, numbers["dp_sym/I"])
    assert np.array_equal(mirrored.xy[:, 0], numbers["dp_sym/x"])
    assert np.allclose(mirrored.u, numbers["dp_sym/U"], atol=1e-7)
    assert np.allclose(mirrored.v, numbers["dp_sym/V"], atol=1e-7)


@pytest.mark.parametrize("flip", [0, 1])
def test_targets_bit_for_bit(numbers, person, symmetry, flip):
    box = crop_box(numbers["dp_annot_cfg/center"], numbers["dp_annot_cfg/scale"])
    found = dense_labels(mirror_person(person, symmetry) if flip else person, box)
    golden = {name: numbers[f"dp_annot_flip{flip}/body_uv_{name}"] for name in
              ("ann_labels", "X_points", "Y_points", "I_points", "U_points", "V_points", "point_weights")}  # fmt: skip
    assert np.array_equal(found.ann_labels.numpy().reshape(-1), golden["ann_labels"])
    assert np.array_equal(found.xy.numpy().T, np.stack([golden["X_points"], golden["Y_points"]]))
    assert np.array_equal(found.part.numpy(), golden["I_points"])
    assert np.array_equal(found.u.numpy(), golden["U_points"])
    assert np.array_equal(found.v.numpy(), golden["V_points"])
    weights = (found.part.numpy()[None] == np.arange(25)[:, None]) & (found.part.numpy() > 0)
    assert np.array_equal(weights.reshape(-1), golden["point_weights"])


def test_box_beside_the_middle_is_mirrored(symmetry):
    """With the box mirrored, labels and points lie where the mirrored image shows them."""
    person = DenseAnnotations([dp_entry(box=(20.0, 30.0, 90.0, 140.0))]).person(0)
    square = np.array([0.0, 0.0, 224.0, 224.0])
    plain = dense_labels(person, square)
    mirrored = mirror_person(person, symmetry)
    flipped = dense_labels(replace(mirrored, box=mirror_box(mirrored.box, square)), square)
    both = (plain.part > 0) & (flipped.part > 0)
    # 256 - x for 0..255 moves every point by 1/255 of the box
    shift = 90 / 255 * 56 / 224
    assert both.sum() > 20
    assert np.allclose((plain.xy + flipped.xy)[both, 0], 56 + shift, atol=1e-4)
    expected = np.array(MASK_FLIP)[plain.ann_labels.numpy()[:, :0:-1]]
    assert (flipped.ann_labels.numpy()[:, 1:] == expected).mean() > 0.97


def test_points_outside_the_grid_are_dropped():
    person = DenseAnnotations([dp_entry(count=100, box=(0, 0, 100, 100))]).person(0)
    found = dense_labels(person, (50, 50, 150, 150))
    count = int((found.part > 0).sum())
    assert 10 < count < 50 and (found.xy[:count] <= 55).all() and not found.xy[count:].any()
    assert not found.ann_labels[29:].any() and not found.ann_labels[:, 29:].any()


def test_people_without_annotation():
    annotations = DenseAnnotations([None, {}, dp_entry()])
    assert annotations.annotated.tolist() == [False, False, True] and len(annotations) == 3
    assert not any(t.any() for t in vars(no_dense_labels()).values())
    assert DenseAnnotations([dp_entry(count=0)]).person(0).xy.shape == (0, 2)


def damaged(**changes):
    entry = {**dp_entry(), **changes}
    return {key: value for key, value in entry.items() if value is not None}


def mask(**changes):
    masks = dp_entry()["dp_masks"]
    return {"dp_masks": [{**masks[0], **changes}, *masks[1:]]}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ([1, 2], "expected a dict"),
        (damaged(dp_U=None, bbox=None), "lacks bbox, dp_U"),
        (damaged(bbox=[1, 2, 3]), "bbox must be"),
        (damaged(bbox=[1, 2, 0, 5]), "bbox must be"),
        (damaged(bbox=[1, 2, float("nan"), 5]), "not finite"),
        (damaged(dp_x=[1.0, 2.0]), "one length of at most 196, got dp_x 2, dp_y 40"),
        (damaged(**{k: [1.0] * 197 for k in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")}), "at most 196"),
        (damaged(dp_I=[25.0] * 40), "parts 1 to 24, got 25"),
        (damaged(dp_I=[1.5] * 40), "parts 1 to 24, got 1.5"),
        (damaged(dp_U=[1.2] * 40), "0..1"),
        (damaged(dp_V=["a"] * 40), "list of numbers"),
        (damaged(dp_masks=[[]] * 13), "14 run-length masks"),
        (damaged(dp_masks=5), "14 run-length masks"),
        (damaged(dp_masks=[5] + [[]] * 13), "run-length mask or"),
        (damaged(**mask(size=[128, 256])), "has the size"),
        (damaged(**mask(counts=[1, 2])), "no compressed counts"),
        (damaged(**mask(counts=b"0")), "mask 1: A run-length mask is damaged"),
        (damaged(**mask(counts="\u00fc\u00fc")), "mask 1: A run-length mask is damaged"),
    ],
)  # fmt: skip
def test_damage_names_the_item(entry, said):
    with pytest.raises(DataFileError, match=said) as caught:
        DenseAnnotations([dp_entry(), entry, {}], "labels.npz: dp_annot")
    assert "labels.npz: dp_annot, item 1" in str(caught.value)


def test_masks_decode_as_pycocotools_does():
    rng = np.random.default_rng(0)
    images = [(rng.random((256, 256)) < share).astype(np.uint8) for share in (0, 0.001, 0.3, 1)]
    images += [np.kron(rng.integers(0, 2, (8, 16)), np.ones((32, 16))).astype(np.uint8) for _ in range(9)]
    masks = [coco_masks.encode(np.asfortranarray(p))["counts"] for p in images]
    for image, counts in zip(images, masks, strict=True):
        assert np.array_equal(decode(counts, 256, 256), image)
    mask = np.asfortranarray(rng.integers(0, 2, (7, 5), dtype=np.uint8))
    assert np.array_equal(decode(coco_masks.encode(mask)["counts"], 7, 5), mask)
    for damaged in (b"", masks[2][:-1], b"o" * 9):
        with pytest.raises(ValueError, match="damaged"):
            decode(damaged, 256, 256)


def test_damaged_masks_never_decode_to_another_size():
    rng = np.random.default_rng(1)
    good = coco_masks.encode(np.asfortranarray((rng.random((256, 256)) < 0.01).astype(np.uint8)))["counts"]
    for _ in range(300):
        counts = bytearray(good[: rng.integers(1, len(good))])
        counts[rng.integers(len(counts))] = rng.integers(256)
        with pytest.raises(ValueError, match="damaged"):
            decode(bytes(counts), 256, 256)


def test_symmetry_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="get_densepose_uv.sh"):
        load_symmetry(tmp_path)
    write_symmetry(tmp_path)
    assert load_symmetry(tmp_path).u.shape == (24, 256, 256)
    from scipy.io import savemat

    savemat(tmp_path / "UV_data" / "UV_symmetry_transforms.mat", {"U_transforms": np.zeros(3)})
    with pytest.raises(DataFileError, match="24 tables"):
        load_symmetry(tmp_path)
