"""GPS, GPSm and AP of dense maps: perfect, shifted and empty ones, other boxes, and bodies of a file."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.dense_coco import DenseCOCODataset, find_minival
from datasets.labels.coco import truth_for_pycocotools
from datasets.labels.densepose import DensePerson, annotation_names
from datasets.loading import load_planned
from datasets.registry import PathsConfig
from datasets.synthetic.generator import load_resources
from datasets.synthetic.sets import write_sets
from datasets.synthetic.wide import render_wide
from models import SMPL
from models.evaluation.average_precision import STAT_NAMES, average_precision
from models.evaluation.dense import DenseMaps, mask_iou, score_person
from models.evaluation.projected_bodies import DenseBodies, read_bodies, write_bodies
from models.evaluation.resumable import Results
from models.training.validation import map_gps
from utils.body import open_surface, resolve_body
from utils.geometry import batch_rodrigues
from utils.io import DataFileError, load_npz
from utils.iuvmap import iuv_img2map, sample_iuv
from utils.renderer import IUV_Renderer
from utils.structures import DaNetOutput, IUVEstimate, IUVMaps, SMPLEstimate, SMPLParams

PEOPLE = 2


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_sets(folder, load_resources("eval"), PEOPLE, seed=0)
    return folder


@pytest.fixture(scope="module")
def people(sets):
    return DenseCOCODataset(*find_minival(sets, PathsConfig()))


@pytest.fixture(scope="module")
def predictor():
    """Stands for a `Predictor`: the open body without a network."""
    assets = resolve_body("open")
    smpl = SMPL(assets.body, assets.extra, assets.surface)
    return SimpleNamespace(smpl=smpl, assets=assets, device=torch.device("cpu"), regressor="danet")


@pytest.fixture(scope="module")
def perfect(sets, predictor):
    """What a network would give that sees the true bodies."""
    truth = load_npz(sets / "dataset_extras" / "3dpw_test.npz", objects=True)
    rotmat = batch_rodrigues(torch.from_numpy(truth["pose"]).float().view(-1, 3)).view(-1, 24, 3, 3)
    resources = load_resources("eval")
    cam = np.stack([render_wide(resources, 0, index).view.cam for index in range(PEOPLE)])
    params = SMPLParams(torch.from_numpy(cam).float(), torch.from_numpy(truth["shape"]).float(), rotmat)
    vertices = predictor.smpl(rotmat, params.betas).vertices
    maps = iuv_img2map(IUV_Renderer(atlas=predictor.assets.atlas).verts2uvimg(vertices, params.cam))
    return DaNetOutput(IUVEstimate(maps, None, None, None, None), SMPLEstimate(params))


def make(predictor, people, kind=DenseMaps, *more):
    truth = truth_for_pycocotools(people.truth, dense=True)
    return kind(predictor, open_surface(), people, truth, people.image_ids, *more)


@pytest.fixture(scope="module")
def planned(people):
    (planned,) = load_planned(people, [list(range(PEOPLE))], 0, people.labels_in)
    return planned


def results_of(protocol, predicted, planned):
    rows = protocol.score(predicted, planned.batch, planned.extras)
    return Results(dict(rows), np.ones(PEOPLE, np.int64), ())


def scores_of(protocol, results):
    return {score.name: score.value for score in protocol.summary(results, [""] * PEOPLE).scores}


def test_perfect_maps_and_bodies(people, predictor, perfect, planned):
    protocol = make(predictor, people)
    results = results_of(protocol, perfect, planned)
    scores = scores_of(protocol, results)
    assert scores["body: mean GPS"] > 0.985 and scores["map: mean GPS"] > 0.87  # cells of the map have a size
    assert scores["body: AP (GPS)"] == scores["body: AR (GPS)"] == pytest.approx(1)
    assert scores["body: AP (GPSm)"] > 0.95 and (results.rows["iou_body"].max(axis=1) > 0.93).all()
    assert protocol.compare(results, 0, np.zeros((224, 224, 3), np.uint8)).shape == (224, 448, 3)
    assert protocol.caption(results, 0).startswith("GPS of the map 0.")


def test_a_body_elsewhere_and_an_empty_map(people, predictor, perfect, planned):
    params = replace(perfect.smpl.params, cam=perfect.smpl.params.cam + torch.tensor([0.0, 9.0, 0.0]))
    empty = IUVMaps(*(torch.zeros(PEOPLE, 25, 56, 56) for _ in range(3)))
    predicted = DaNetOutput(replace(perfect.iuv, iuv=empty), SMPLEstimate(params))
    protocol = make(predictor, people)
    assert set(scores_of(protocol, results_of(protocol, predicted, planned)).values()) == {0.0}


def test_hmr_has_no_map(people, predictor, perfect, planned):
    protocol = make(SimpleNamespace(**(vars(predictor) | {"regressor": "hmr"})), people)
    results = results_of(protocol, DaNetOutput(None, perfect.smpl), planned)
    assert all(name.startswith("body") for name in scores_of(protocol, results))
    assert protocol.compare(results, 0, np.zeros((224, 224, 3), np.uint8)).shape == (224, 224, 3)


# ------------------------------------------------------------------------------------------------- single people


def square_person(labels=None):
    """Four points in the corners of a box of 100 px at (50, 50), all of part 2."""
    xy = np.array([[10.0, 10.0], [245.0, 10.0], [10.0, 245.0], [245.0, 245.0]])
    labels = np.ones((256, 256), np.uint8) if labels is None else labels
    box = np.array([50.0, 50.0, 100.0, 100.0])
    return DensePerson(box, xy, np.full(4, 2), np.full(4, 0.5), np.full(4, 0.5), labels)


def same_everywhere(points):
    return np.tile([2.0, 0.5, 0.5], (len(points), 1))


def test_points_outside_the_box_count_0():
    person = square_person()
    for box, gps, iou in (([50, 50, 100, 100], 1, 1), ([50, 50, 50, 100], 0.5, 0.5), ([0, 0, 100, 100], 0.25, 1 / 7)):
        box = np.array(box, float)
        found = score_person(same_everywhere, box, [(1, person)], 1, 2, open_surface())
        assert found.gps.tolist() == [0, gps] and found.iou[1] == pytest.approx(iou, abs=0.01)
        assert found.coarse[0] == gps and np.isnan(found.coarse[1:]).all()
    nobody = score_person(same_everywhere, box, [], -1, 2, open_surface())
    assert not nobody.gps.any() and np.isnan(nobody.coarse).all()


def test_masks_of_known_overlap():
    half = np.zeros((256, 256), np.uint8)
    half[:, :128] = 3
    person, box = square_person(half), np.array([50.0, 50.0, 100.0, 100.0])
    cells = (np.arange(64) + 0.5) / 64 * 100 + 50
    lattice = np.stack(np.meshgrid(cells, cells), -1).reshape(-1, 2)
    for mask, iou in ((lattice[:, 0] < 100, 1.0), (lattice[:, 0] < 75, 0.5), (lattice[:, 0] > 100, 0.0)):
        assert mask_iou(mask, lattice, box, person) == pytest.approx(iou, abs=1e-6)


def test_maps_are_interpolated_before_the_part_is_chosen():
    """Between cells of two parts the border lies where their scores are equal, not at the cells' border."""
    index = torch.zeros(25, 1, 2)
    index[1, 0], index[2, 0] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    u = torch.full((25, 1, 2), 0.25) + torch.arange(25)[:, None, None] / 100
    points = torch.tensor([[-0.5, 0.0], [0.2, 0.0], [0.3, 0.0], [0.5, 0.0], [1.1, 0.0]])
    found = sample_iuv(IUVMaps(u, u / 2, index), points)
    assert found[:, 0].tolist() == [1, 1, 2, 2, 0]  # equal at 0.25: 3 (0.5 - x) = 0.5 + x
    assert torch.allclose(found[:4, 1], torch.tensor([0.26, 0.26, 0.27, 0.27])) and not found[4].any()
    ann = torch.zeros(15, 1, 2)
    ann[0] = 1
    assert not sample_iuv(IUVMaps(u, u / 2, index, ann), points).any()


# ------------------------------------------------------------------------------------------- average precision


def crowd(rng, images=6, most=4):
    """Annotations with keypoints, shaken results of random scores, and the OKS that pycocotools finds."""
    truth, found = [], []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(1, most + 1))):
            side = float(rng.choice([60, 180]))
            corner = rng.uniform(0, 300, 2)
            xy = corner + rng.uniform(0, side, (17, 2))
            flat = np.column_stack([xy, np.full(17, 2)]).reshape(-1).tolist()
            entry = {"image_id": image, "category_id": 1, "bbox": [*corner.tolist(), side, side]}
            truth.append(entry | {"id": len(truth) + 1, "iscrowd": 0, "num_keypoints": 17, "keypoints": flat,
                                  "area": side * side * 0.6})  # fmt: skip
            for shake in rng.uniform(0, 0.08, int(rng.integers(0, 3))):
                moved = np.column_stack([xy + rng.normal(0, shake * side, (17, 2)), np.ones(17)])
                found.append(entry | {"keypoints": moved.reshape(-1).tolist(), "score": float(rng.random())})
    images = [{"id": image, "file_name": str(image)} for image in range(1, images + 1)]
    return {"images": images, "annotations": truth, "categories": [{"id": 1}]}, found


def test_ap_of_a_similarity_is_that_of_pycocotools():
    """With OKS as the similarity the ten numbers are those of keypoints."""
    truth, found = crowd(np.random.default_rng(3))
    annotations = COCO()
    annotations.dataset = truth
    annotations.createIndex()
    similarity = {}
    for image in annotations.getImgIds():
        rows = [dict(row) for row in found if row["image_id"] == image]
        if not rows:
            continue
        single = COCOeval(annotations, annotations.loadRes([row | {"score": 1.0} for row in rows]), "keypoints")
        single.params.imgIds = [image]
        single._prepare()
        similarity[image] = single.computeOks(image, 1)
    scored = average_precision(truth, found, range(1, 7), similarity)
    boxes = [{key: row[key] for key in ("image_id", "category_id", "bbox", "score")} for row in found]
    assert scored == average_precision(truth, boxes, range(1, 7), similarity)
    # Areas of results differ (box and extent of keypoints), so only numbers over all areas agree.
    keypoints = average_precision(truth, found, range(1, 7))
    same = [name for name in STAT_NAMES if "(" not in name]
    assert 0.1 < keypoints["AP"] < 0.9
    assert [scored[name] for name in same] == pytest.approx([keypoints[name] for name in same])


def test_detections_of_people_without_labels_count_neither_way():
    box, other = [10.0, 10.0, 100.0, 100.0], [300.0, 10.0, 100.0, 100.0]
    person = {"category_id": 1, "iscrowd": 0, "area": 9000.0, "keypoints": [0] * 51}
    truth = {
        "images": [{"id": 1, "file_name": "1"}, {"id": 2, "file_name": "2"}],
        "categories": [{"id": 1}],
        "annotations": [
            person | {"id": 1, "image_id": 1, "bbox": box, "num_keypoints": 1},
            person | {"id": 2, "image_id": 1, "bbox": other, "num_keypoints": 0},
        ],
    }
    row = {"category_id": 1, "image_id": 1}
    right, ignored, wrong = (
        row | {"bbox": bbox, "score": score} for bbox, score in ((box, 0.5), (other, 0.9), ([0, 300, 50, 50], 0.8))
    )
    elsewhere = wrong | {"image_id": 2}
    one, nothing = [1.0, 0.0], [0.0, 0.0]

    def ap(rows, values):
        by_image = {1: np.array(values), 2: np.zeros((1, 0))}
        return average_precision(truth, rows, [1, 2], by_image)["AP"]

    assert ap([right], [one]) == pytest.approx(1)
    assert ap([ignored, right], [nothing, one]) == pytest.approx(1)
    assert ap([elsewhere, right], [one]) == pytest.approx(1)  # nobody is labelled there
    assert ap([wrong, right], [nothing, one]) == pytest.approx(0.5)


# ------------------------------------------------------------------------------------------------ files


def test_both_names_of_the_file_and_none(sets, tmp_path):
    (tmp_path / "coco").mkdir()
    with pytest.raises(FileNotFoundError, match=r"neither densepose_coco_2014_minival.json nor densepose_minival2014"):
        find_minival(tmp_path, PathsConfig())
    for name in annotation_names("minival"):
        (tmp_path / "coco" / name).write_text("{}")
        assert find_minival(tmp_path, PathsConfig())[0].name == name
        (tmp_path / "coco" / name).unlink()
    path, images = find_minival(sets, PathsConfig())
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry.pop("dp_x", None)
    (tmp_path / "ann.json").write_text(json.dumps(content))
    with pytest.raises(DataFileError, match="no people with DensePose labels"):
        DenseCOCODataset(tmp_path / "ann.json", images)


def test_labels_belong_to_smpl_unless_the_file_says_otherwise(sets, tmp_path, people):
    path, images = find_minival(sets, PathsConfig())
    content = json.loads(path.read_text())
    del content["info"]
    (tmp_path / "ann.json").write_text(json.dumps(content))
    assert (DenseCOCODataset(tmp_path / "ann.json", images).body, people.body) == ("smpl", "danet-open-1")


def test_bodies_are_written_read_and_scored_alike(people, predictor, perfect, planned, tmp_path):
    protocol, ids = make(predictor, people), people.annotation_ids()
    results = results_of(protocol, perfect, planned)
    protocol.body = lambda rows, index: (
        predictor.smpl(*(getattr(perfect.smpl.params, name)[[index]] for name in ("rotmat", "betas"))).vertices[0],
        perfect.smpl.params.cam[index],
    )
    path = tmp_path / "bodies.json"
    write_bodies(path, protocol, results, ids, False)
    content = json.loads(path.read_text())
    assert [row["id"] for row in content] == ids and set(content[0]) == {"image_id", "id", "smpl_z", "smpl_xy_proj"}
    assert np.shape(content[0]["smpl_xy_proj"]) == (6890, 2) and np.abs(content[0]["smpl_z"]).max() < 2
    bodies = make(read_bodies(path, predictor.assets), people, DenseBodies, ids)
    again = results_of(bodies, None, planned)
    np.testing.assert_allclose(again.rows["gps_body"], results.rows["gps_body"], atol=0.01)
    np.testing.assert_allclose(again.rows["iou_body"], results.rows["iou_body"], atol=0.005)
    assert bodies.overlay(again, 0, np.full((224, 224, 3), 9, np.uint8)).max() > 9

    path.write_text(json.dumps(content[:1]))  # the others are not found
    fewer = make(read_bodies(path, predictor.assets), people, DenseBodies, ids)
    scores = scores_of(fewer, results_of(fewer, None, planned))
    assert scores["body: AR (GPS)"] == pytest.approx(1 / PEOPLE)


def test_other_files_of_bodies_are_refused_in_a_sentence(people, predictor, tmp_path):
    path, ids = tmp_path / "bodies.json", people.annotation_ids()
    good = {"image_id": people.image_ids[0], "id": ids[0], "smpl_xy_proj": [[1, 2]] * 6890, "smpl_z": [0.1] * 6890}
    for change, said in (
        ({"id": "7"}, "'id' is 7, expected a whole number"),
        ({"smpl_z": [0.1] * 10}, "smpl_z must hold 6890 numbers"),
        ({"smpl_xy_proj": [[1, 2, 3]] * 6890}, "smpl_xy_proj must hold 6890 x 2"),
        ({"smpl_z": ["a"] * 6890}, "smpl_z must hold"),
        ({"smpl_z": [1e9] * 6890}, "beyond 1,000,000"),
        ({"id": 5}, "none of its 1 bodies"),
        ({"image_id": 5}, "says image 5"),
    ):
        path.write_text(json.dumps([good | change]))
        with pytest.raises(DataFileError, match=said):
            make(read_bodies(path, predictor.assets), people, DenseBodies, ids)
    for content, said in (("{}", "no list of bodies"), (json.dumps([good, good]), "has a body already")):
        path.write_text(content)
        with pytest.raises(DataFileError, match=said):
            read_bodies(path, predictor.assets)


# ------------------------------------------------------------------------------------------------ in training


def test_gps_of_rendered_maps(perfect, predictor):
    true = torch.zeros(2, 3, 56, 56)
    vertices = predictor.smpl(perfect.smpl.params.rotmat, perfect.smpl.params.betas).vertices
    true[:1] = IUV_Renderer(atlas=predictor.assets.atlas).verts2uvimg(vertices[:1], perfect.smpl.params.cam[:1])
    scores = map_gps(open_surface(), true, true)
    assert scores[0] == 1 and torch.isnan(scores[1])  # the second has no body
    assert map_gps(open_surface(), true, 0 * true)[0] == 0
    moved = true.clone()
    moved[:, 1:] *= 0.9
    assert 0.3 < map_gps(open_surface(), true, moved)[0] < 0.999
