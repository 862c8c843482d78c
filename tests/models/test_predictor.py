"""The predictor: chunks of a batch give what the whole batch gives, and `adjust` sees every row once, in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import Predictor, build_danet
from models.danet import preset
from models.fitting.refinement import bounded
from utils.body import resolve_body
from utils.export import people_arrays
from utils.images import network_input

SIZE = 3


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    assets = resolve_body("open")
    return Predictor(build_danet(preset("danet_s")).prepare_for_inference(), assets, torch.device("cpu"))


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(1).integers(0, 256, (SIZE, 224, 224, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def plain(predictor, crops):
    """The people as they are predicted, one after another."""
    return predictor.predict(crops)


def test_a_batch_gives_what_the_network_gives_all_at_once(predictor, crops, plain):
    with torch.inference_mode():
        output = predictor.network(network_input(crops))
        params = bounded(output.smpl.params)
        output = replace(output, smpl=replace(output.smpl, params=params))
        expected = people_arrays(output, predictor.smpl(params.rotmat, params.betas))
    assert len(plain) == SIZE
    for person, other in zip(plain, expected, strict=True):
        assert person.keys() - {"confidence"} == other.keys() and 0 <= person["confidence"] <= 1
        for name in ("vertices", "cam", "rotmat", "joints"):
            assert np.allclose(person[name], other[name], atol=1e-4), name
        assert (person["iuv"][0] == other["iuv"][0]).mean() > 0.999


def test_maps_of_parts_may_be_left_out(predictor, crops):
    (whole,), (some,) = predictor.predict(crops[:1]), predictor.predict(crops[:1], with_parts=False)
    assert whole.keys() - some.keys() == {"part_centers", "part_scales", "part_iuv"}
    for name, array in some.items():
        np.testing.assert_array_equal(array, whole[name])


def test_adjusted_parameters_make_the_body(predictor, crops):
    seen = []

    def straight(params, rows):
        seen.extend(rows)
        assert len(params.cam) == len(rows)
        rest = torch.eye(3).expand_as(params.rotmat)
        return replace(params, rotmat=rest, betas=torch.zeros_like(params.betas))

    people = predictor.predict(crops, straight)
    assert seen == list(range(SIZE))
    template = predictor.smpl(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10)).vertices[0].numpy()
    for person in people:
        assert np.allclose(person["vertices"], template, atol=1e-6)
        assert (person["rotmat"] == np.eye(3)).all() and not person["betas"].any()


def test_people_whose_map_is_empty_are_not_adjusted(predictor, crops, plain, monkeypatch):
    seen = []

    def moved(params, rows):
        seen.extend(rows)
        return replace(params, cam=params.cam + 1)

    monkeypatch.setattr("models.inference.predictor.is_empty", lambda maps: np.arange(len(maps)) % 2 == 1)
    found = predictor.predict(crops, moved)
    assert seen and set(seen) < set(range(SIZE))
    for row, (person, before) in enumerate(zip(found, plain, strict=True)):
        assert np.allclose(person["cam"], before["cam"] + (row in seen), atol=1e-5)
        assert np.array_equal(person["betas"], before["betas"])


def test_a_refining_predictor_moves_the_bodies_and_lets_a_video_say_how(predictor, crops, plain, monkeypatch):
    refining, asked = Predictor(predictor.network, predictor.assets, predictor.device, refine=True), []

    def follow(refine, params, rows):
        asked.extend(rows)
        return refine(range(len(rows)), params)

    after = refining.predict(crops, follow=follow)
    assert asked == [0, 1, 2]
    params = refining.params(network_input(crops))
    for row, (old, new) in enumerate(zip(plain, after, strict=True)):
        assert not np.allclose(old["rotmat"], new["rotmat"], atol=1e-3)
        assert np.allclose(new["rotmat"], params.rotmat[row], atol=1e-2), "evaluations score the same body"
        assert np.array_equal(old["iuv"], new["iuv"]) and np.isfinite(new["vertices"]).all()
    monkeypatch.setattr("models.inference.predictor.REFINED_TOGETHER", 1)  # chunks of the network's are not divided
    again = refining.predict(crops, follow=follow)
    assert asked == [0, 1, 2] * 2
    for one, other in zip(again, after, strict=True):
        assert np.allclose(one["rotmat"], other["rotmat"], atol=1e-3), "who is refined together matters little"
