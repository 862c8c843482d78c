"""Which network a weights file belongs to, by its own words or its keys, and the settings that load it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import TINY
from tiny_demo import write_weights

from models import DaNetConfig, InferenceConfig, build_danet, load_predictor
from models.danet import preset
from models.inference import weights
from utils.checkpoint import export_safetensors


def test_settings_without_weights_mean_the_shipped_network():
    assert InferenceConfig().network == preset("danet_s")
    with pytest.raises(ValueError, match="No weights for 'danet' ship"):
        InferenceConfig(model="danet")


def test_a_loaded_predictor_names_its_weights_and_body():
    predictor = load_predictor(InferenceConfig(body="open", device="cpu"))
    assert predictor.facts["body_model"] == "danet-open-1" and len(predictor.facts["weights"]) == 12
    assert "danet_s.safetensors" in predictor.describe()


def test_the_network_is_seen_from_the_weights(tmp_path):
    export_safetensors(tmp_path / "small.safetensors", build_danet(preset("danet_s")).state_dict(), {})
    assert weights.network_of(None, str(tmp_path / "small.safetensors")) == preset("danet_s")
    assert weights.network_of(None, str(write_weights(tmp_path))) == DaNetConfig(backbone="resnet")
    assert weights.network_of(None, None) == preset("danet_s")
    assert weights.network_of("danet", str(tmp_path / "small.safetensors")) == preset("danet")


def test_the_network_is_taken_from_the_words_of_the_file_without_its_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "load_checkpoint", None)
    path = tmp_path / "w.safetensors"
    keys = ("img2iuv.iuv_est.trunk.a", "img2iuv.iuv_est.keypoints.a", "img2iuv.stride_of_parts")
    compact = {key: torch.zeros(1) for key in keys}
    for meta, name in (({"model": "danet"}, "danet"), ({"model": "other"}, "danet_s"), ({}, "danet_s")):
        export_safetensors(path, compact, meta)
        assert weights.network_of(None, str(path)) == preset(name)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        weights.network_of(None, str(path))


@pytest.mark.parametrize("change", [{"refinement": "lstm"}, {"decomposed": False}, {"backbone": "resnet"}])
def test_ablations_are_seen_from_their_keys(change, tmp_path):
    """Whatever their widths; test_variants.py has the keys of the paper's."""
    export_safetensors(tmp_path / "w.safetensors", build_danet(replace(TINY, **change)).state_dict(), {})
    assert weights.network_of(None, str(tmp_path / "w.safetensors")) == DaNetConfig(**change)
