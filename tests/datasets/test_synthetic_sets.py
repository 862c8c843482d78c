"""Synthetic evaluation sets: fields, names, and truth that a perfect prediction meets without error."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.synthetic.__main__ import main
from datasets.synthetic.generator import Resources, load_resources
from datasets.synthetic.sets import LAYOUTS, write_sets
from datasets.synthetic.wide import render_wide
from datasets.transforms import image_points_to_crop
from models.smpl import SMPL
from utils.body import OPEN_DIR, load_open_atlas, load_open_body, read_regressor
from utils.geometry import batch_rodrigues
from utils.io import load_npz
from utils.renderer import IUV_Renderer
from utils.renderer.lsp_parts import PartRenderer, skinning_classes, uncrop
from utils.skeleton import ANN_CLASSES, GT24_TO_COCO17, GT24_TO_J17, H36M_TO_J17

COUNT, SEED = 4, 0  # among these are a person at the image's edge and bystanders

# docs/method.md 8.5: fields beside imgname, center and scale; kind and shape of an item.
FIELDS = {
    "h36m_valid_protocol1": {"S": ("f", (24, 4))},
    "h36m_valid_protocol2": {"S": ("f", (24, 4))},
    "3dpw_test": {"pose": ("f", (72,)), "shape": ("f", (10,)), "gender": ("U", ()),
                  "smpl_joints": ("f", (24, 3))},
    "lsp_dataset_test": {"part": ("f", (24, 3)), "maskname": ("U", ()), "partname": ("U", ())},
    "mpi_inf_3dhp_valid": {"part": ("f", (24, 3)), "S": ("f", (24, 4))},
    "coco_2014_val": {"part": ("f", (24, 3))},
    "dp_coco_2014_minival": {"part": ("f", (24, 3)), "smpl_2dkps": ("f", (24, 3)), "dp_annot": ("O", ()),
                             "im_id": ("i", ()), "id": ("i", ())},
}  # fmt: skip


@pytest.fixture(scope="module")
def made_of() -> Resources:
    return load_resources("eval")


@pytest.fixture(scope="module")
def persons(made_of):
    return [render_wide(made_of, SEED, i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def written(made_of, tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("sets")
    sentences = write_sets(folder, made_of, COUNT, SEED)
    labels = {n: load_npz(folder / "dataset_extras" / f"{n}.npz", objects=True) for n in FIELDS}
    coco = json.loads((folder / "coco/annotations/person_keypoints_val2014.json").read_text())
    return SimpleNamespace(folder=folder, labels=labels, sentences=sentences, coco=coco)


@pytest.fixture(scope="module")
def posed(written):
    """The body layer's output for the parameters that the 3DPW set stores."""
    truth = written.labels["3dpw_test"]
    rotmat = batch_rodrigues(torch.from_numpy(truth["pose"]).float().reshape(-1, 3)).reshape(-1, 24, 3, 3)
    return SMPL(load_open_body())(rotmat, torch.from_numpy(truth["shape"]).float())


def camera(person) -> torch.Tensor:
    return torch.from_numpy(person.view.cam).float()[None]


def lsp_labels(written, kind: str, index: int) -> np.ndarray:
    path = written.folder / "upi-s1h" / str(written.labels["lsp_dataset_test"][kind][index])
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("name", FIELDS)
def test_fields_have_the_kinds_and_shapes_of_the_real_set(written, persons, name):
    labels = written.labels[name]
    expected = {"imgname": ("U", ()), "center": ("f", (2,)), "scale": ("f", ()), **FIELDS[name]}
    assert set(labels) == set(expected)
    for key, (kind, shape) in expected.items():
        assert labels[key].dtype.kind == kind and labels[key].shape == (COUNT, *shape), key
    assert len(set(labels["imgname"])) == COUNT
    for image_name, person in zip(labels["imgname"], persons, strict=True):
        shown = cv2.imread(str(written.folder / LAYOUTS[name].folder / image_name))[..., ::-1]
        assert shown.shape == person.image.shape
        assert np.abs(shown.astype(int) - person.image).mean() < 6  # JPEG


def test_a_perfect_prediction_has_no_error(written, posed):
    regressor = torch.from_numpy(read_regressor(OPEN_DIR / "regressors.npz", "h36m").matrix)
    joints = (regressor @ posed.vertices).double()
    joints = (joints - joints[:, :1])[:, list(H36M_TO_J17)]
    for name in ("h36m_valid_protocol1", "h36m_valid_protocol2", "mpi_inf_3dhp_valid"):
        truth = torch.from_numpy(written.labels[name]["S"])
        assert (truth[:, list(GT24_TO_J17), 3] == 1).all()
        assert truth[:, :, 3].sum(1).eq(17).all()
        assert (truth[:, list(GT24_TO_J17), :3] - joints).norm(dim=-1).mean(1).max() < 1e-6  # metres
    stored = written.labels["3dpw_test"]["smpl_joints"]
    smpl = posed.smpl_joints - posed.smpl_joints[:, :1]
    np.testing.assert_allclose(stored, smpl, atol=3e-6)


def test_sets_annotate_their_own_joints_and_none_outside(written, persons):
    rows = {"lsp_dataset_test": set(range(14)), "coco_2014_val": set(GT24_TO_COCO17)}
    for name, labelled in rows.items():
        for part, person in zip(written.labels[name]["part"], persons, strict=True):
            xy = person.view.project(person.body.joints[25:])[:, :2]
            inside = ((xy >= 0) & (xy <= person.view.size)).all(1)
            expected = inside & np.isin(np.arange(24), list(labelled))
            np.testing.assert_array_equal(part[:, 2] > 0, expected)
            np.testing.assert_allclose(part[expected, :2], xy[expected], atol=1e-9)
            assert not part[~expected].any()
    smpl = written.labels["dp_coco_2014_minival"]["smpl_2dkps"]
    assert set(np.unique(smpl[..., 2])) == {0, 0.5}  # they weigh half, and some lie outside


def test_a_perfect_prediction_has_the_masks_and_parts_of_lsp(written, persons, posed):
    """What the evaluation draws of the true body differs from the labels by pixels of the outline only."""
    body = load_open_body()
    renderer = PartRenderer(body.faces, skinning_classes(body))
    for index, person in enumerate(persons):
        mask, truth = lsp_labels(written, "maskname", index), lsp_labels(written, "partname", index)
        assert mask.dtype == truth.dtype == np.uint8
        np.testing.assert_array_equal(mask > 0, person.surface.mask)
        assert (truth == 255).any() == (index % 2 == 1)  # a rim of unknown pixels
        truth[truth == 255] = 0
        np.testing.assert_array_equal(truth > 0, mask > 0)
        crop = renderer(posed.vertices[index : index + 1], camera(person))[0].numpy()
        center, scale = (written.labels["lsp_dataset_test"][key][index] for key in ("center", "scale"))
        found = uncrop(crop, center, scale, truth.shape)
        assert (found == truth).mean() > 0.99 and (found == truth)[truth > 0].mean() > 0.95


def test_coco_scores_perfect_keypoints_with_one(written, persons):
    truth = COCO(str(written.folder / "coco" / "annotations" / "person_keypoints_val2014.json"))
    assert len(truth.getImgIds()) == COUNT
    labels = written.labels["dp_coco_2014_minival"]
    results = []
    for index, person in enumerate(persons):
        annotation = truth.loadAnns(int(labels["id"][index]))[0]
        assert annotation["image_id"] == labels["im_id"][index]
        assert f"{annotation['image_id']:012d}" in labels["imgname"][index]
        np.testing.assert_array_equal(truth.annToMask(annotation) > 0, person.surface.mask)
        assert annotation["area"] == person.surface.mask.sum()
        x, y, w, h = annotation["bbox"]
        np.testing.assert_allclose([x + w / 2, y + h / 2], labels["center"][index])
        assert 1.2 * max(w, h) / 200 == pytest.approx(labels["scale"][index])
        visibility = np.array(annotation["keypoints"]).reshape(17, 3)[:, 2]
        assert annotation["num_keypoints"] == (visibility > 0).sum() > 0
        keypoints = person.view.project(person.body.joints[25:])[list(GT24_TO_COCO17)]
        keypoints[:, 2] = 1
        results.append({"image_id": annotation["image_id"], "category_id": 1, "score": 1.0,
                        "keypoints": keypoints.reshape(-1).tolist()})  # fmt: skip
    score = COCOeval(truth, truth.loadRes(results), "keypoints")
    score.evaluate()
    score.accumulate()
    score.summarize()
    assert score.stats[[0, 5]] == pytest.approx(1)
    kinds = {kind for a in written.coco["annotations"] for kind in a["keypoints"][2::3]}
    assert {1, 2} <= kinds <= {0, 1, 2}  # some are hidden


def test_dense_points_agree_with_the_rendered_surface(written, persons, posed):
    renderer = IUV_Renderer(out_size=224, atlas=load_open_atlas())
    for index, person in enumerate(persons):
        annotation = written.labels["dp_coco_2014_minival"]["dp_annot"][index]
        x, y, w, h = annotation["bbox"]
        points = {key: np.array(annotation[key]) for key in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")}
        assert len({len(v) for v in points.values()}) == 1 and len(points["dp_I"]) > 90
        assert min(points["dp_x"].min(), points["dp_y"].min()) >= 0
        assert max(points["dp_x"].max(), points["dp_y"].max()) <= 255
        xy = np.column_stack([points["dp_x"] * w / 255 + x, points["dp_y"] * h / 255 + y])
        crop = image_points_to_crop(xy, person.view.center, person.view.scale)
        iuv = renderer.verts2uvimg(posed.vertices[index : index + 1], camera(person))[0].numpy()
        part, u, v = iuv[:, crop[:, 1].astype(int), crop[:, 0].astype(int)]
        same = np.round(24 * part) == points["dp_I"]
        assert same.mean() > 0.9  # a pixel of the crop is not one of the image
        error = np.abs([u - points["dp_U"], v - points["dp_V"]])[:, same]
        assert np.median(error) < 0.02
        _check_masks(annotation["dp_masks"], points)


def _check_masks(masks: list, points: dict[str, np.ndarray]) -> None:
    assert len(masks) == 14
    grid = np.zeros((256, 256), int)
    for number, mask in enumerate(masks, start=1):
        if mask:
            assert mask["size"] == [256, 256] and isinstance(mask["counts"], str)
            grid[coco_mask.decode(mask) > 0] = number
    class_of = {part: number for number, parts in enumerate(ANN_CLASSES) for part in parts}
    expected = np.array([class_of[int(part)] for part in points["dp_I"]])
    found = grid[np.round(points["dp_y"]).astype(int), np.round(points["dp_x"]).astype(int)]
    assert (found == expected).mean() > 0.93


def test_sets_are_written_from_the_command_line_and_replaced_only_on_demand(tmp_path, capsys):
    command = ["--write", str(tmp_path), "--count", "2", "--seed", "3"]
    assert main(command) == 0
    assert "coco_2014_val.npz: 2 people" in capsys.readouterr().out
    first = snapshot(tmp_path)
    mine = tmp_path / "coco" / "val2014" / "mine.jpg"
    mine.write_bytes(b"x")
    with pytest.raises(SystemExit):
        main(command)
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert mine.read_bytes() == b"x"
    mine.unlink()
    assert snapshot(tmp_path) == first  # the same people to the last byte
    assert main([*command, "--overwrite", "--split", "train"]) == 0
    assert not snapshot(tmp_path).items() & {k: v for k, v in first.items() if k.endswith(".jpg")}.items()
    main([*command[:3], "1", "--overwrite"])
    assert len(list((tmp_path / "lsp_dataset" / "images").iterdir())) == 1


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of all files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_real_data_is_never_written_over(tmp_path, capsys):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "mine.jpg").write_bytes(b"x")
    for more in ([], ["--overwrite"]):
        with pytest.raises(SystemExit) as stop:
            main(["--write", str(tmp_path), "--count", "1", *more])
        assert stop.value.code == 1
        assert "was not written by this command" in capsys.readouterr().err
    assert snapshot(tmp_path) == {"coco/mine.jpg": b"x"}
