"""Back-ends and precisions of the network: which one is chosen, and that all give the network's numbers."""

from __future__ import annotations

import importlib
import os
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY, shallow

import demo
from models import InferenceConfig, build_danet, load_predictor
from models.inference import backends, openvino_network
from models.inference.backends import Bfloat16Network, Form, choose_form, in_form
from models.inference.openvino_network import OpenVinoError, as_arrays, as_record, cache_folder
from utils import runtime
from utils.checkpoint import export_safetensors

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = replace(TINY, backbone="resnet")


@pytest.fixture(scope="module", autouse=True)
def shallow_networks():
    with shallow():
        yield


@pytest.fixture(scope="module")
def openvino():
    """The package, which conftest.py hides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "openvino")
        if importlib.util.find_spec("openvino") is None:
            pytest.skip("openvino is not installed")
        yield importlib.import_module("openvino")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache of this file's tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "danet"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_danet(SMALL).eval().requires_grad_(False)
    for head in network.img2iuv.iuv_est.final_pred.children():  # maps that are not flat
        for module in (m for m in head.modules() if isinstance(m, torch.nn.Conv2d)):
            module.weight.mul_(4)
    return network


@pytest.fixture(scope="module")
def by_openvino(network, openvino, cache):
    return openvino_network.openvino_network(network, "fp32")


def images(count):
    return openvino_network.smooth_noise(count)


# ---------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("asked", "device", "is_there", "has_bf16", "chosen"),
    [
        (("auto", "fp32"), CPU, True, False, "openvino, fp32"),
        (("auto", "fp32"), CPU, False, False, "torch, fp32"),
        (("auto", "fp32"), CUDA, True, True, "torch, fp32"),
        (("auto", "bf16"), CPU, True, True, "torch, bf16"),  # not exact
        (("auto", "bf16"), CPU, True, False, "openvino, fp32"),
        (("torch", "fp32"), CPU, True, True, "torch, fp32"),
        (("torch", "bf16"), CUDA, False, True, "torch, bf16"),
        (("openvino", "bf16"), CPU, True, True, "openvino, bf16"),
        (("openvino", "bf16"), CPU, True, False, "openvino, fp32"),
    ],
)
def test_the_form_that_is_chosen(asked, device, is_there, has_bf16, chosen, monkeypatch, caplog):
    monkeypatch.setattr(backends, "is_installed", lambda package: is_there)
    monkeypatch.setattr(backends, "require_packages", lambda *_: None)
    monkeypatch.setattr(backends, "has_bfloat16", lambda device: has_bf16)
    assert str(choose_form(*asked, device)) == chosen
    lacks = asked[1] == "bf16" and not has_bf16
    assert [r.getMessage() for r in caplog.records] == (
        ["The device cpu does not compute in bfloat16: the network runs in fp32."] if lacks else []
    )


def test_bfloat16_is_what_the_processor_says(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not runtime.has_bfloat16(CPU) and not runtime.has_bfloat16(torch.device("mps"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert runtime.has_bfloat16(CPU)


def test_what_cannot_be_chosen_is_named(monkeypatch, tmp_path, capsys):
    with pytest.raises(ValueError, match="the device is cuda: give --device cpu"):
        choose_form("openvino", "fp32", CUDA)
    with pytest.raises(ValueError, match="got 'onnx' and 'int8'"):
        choose_form("onnx", "int8", CPU)
    monkeypatch.setitem(sys.modules, "openvino", None)
    given = ["--img_dir", "examples/rendered_1.jpg", "--detector", "none", "--out_dir", str(tmp_path)]
    assert demo.main([*given, "--backend", "openvino", "--body", "open"]) == 1
    assert (
        "--backend openvino needs openvino: pip install -r requirements-openvino.txt"
        in capsys.readouterr().err
    )


# ---------------------------------------------------------------------------------------------------- the numbers


def equal_within(found, expected, tolerance):
    for name, value in expected.items():
        apart = float((found[name] - value).abs().max())
        assert found[name].dtype == torch.float32 and apart <= tolerance, (name, apart)


@torch.inference_mode()
def test_openvino_gives_the_networks_numbers_for_any_number_of_people(network, by_openvino):
    for count in (1, 4):
        expected = as_arrays(network(images(count)))
        assert set(expected) == {
            "cam", "betas", "rotmat", "heatmaps", "centers", "u", "v", "index", "ann", "part_u", "part_v",
            "part_index", "scales",
        }  # fmt: skip
        equal_within(as_arrays(by_openvino(images(count))), expected, 1e-4)


def test_a_network_without_parts_and_one_call_after_another(openvino, cache):
    torch.manual_seed(0)
    whole = build_danet(replace(SMALL, decomposed=False)).eval()
    found = openvino_network.openvino_network(whole, "fp32")
    first, second = found(images(2)), found(-images(2))
    assert first.iuv.part_iuv is None and first.iuv.crops is None
    with torch.inference_mode():
        equal_within(
            as_arrays(first), as_arrays(whole(images(2))), 1e-4
        )  # no memory is shared with the second
        equal_within(as_arrays(second), as_arrays(whole(-images(2))), 1e-4)


@torch.inference_mode()
def test_threads_share_it_and_it_takes_no_more_than_torch(network, by_openvino):
    assert by_openvino._compiled.get_property("INFERENCE_NUM_THREADS") == torch.get_num_threads() == 1
    batches = [images(5)[row : row + 1] for row in range(5)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(by_openvino, batches))
    for batch, output in zip(batches, found, strict=True):
        equal_within(as_arrays(output), as_arrays(network(batch)), 1e-4)
    with pytest.raises(ValueError, match=r"takes images \[B, 3, 224, 224\], got \[1, 3, 256, 256\]"):
        by_openvino(torch.zeros(1, 3, 256, 256))


@torch.inference_mode()
def test_the_record_comes_back(network):
    output = network(images(1))
    output = replace(output, iuv=replace(output.iuv, keypoints=torch.rand(1, 17, 3)))
    again = as_arrays(as_record(as_arrays(output)))
    assert "keypoints" in again
    assert all(again[name] is value for name, value in as_arrays(output).items())
    params = as_record({name: again[name] for name in ("cam", "betas", "rotmat")})
    assert params.cam is output.smpl.params.cam, "HMR has no maps"


@torch.inference_mode()
def test_bfloat16_stays_near(network):
    """Computed the slow way where the processor lacks it."""
    rounded, exact = Bfloat16Network(deepcopy(network)), as_arrays(network(images(1)))
    found = as_arrays(rounded(images(1)))
    for name, value in exact.items():
        assert found[name].dtype == torch.float32
        apart = float((found[name] - value).abs().max()) / max(1.0, float(value.abs().max()))
        assert apart < 0.03, (name, apart)
    assert not torch.equal(found["u"], exact["u"])


# ---------------------------------------------------------------------------------------------------- the cache


def forbid(monkeypatch):
    def fail(network):
        raise AssertionError("it was made again")

    monkeypatch.setattr(openvino_network, "converted", fail)


def test_the_form_is_made_once_and_a_damaged_one_is_made_anew(
    network, by_openvino, cache, monkeypatch, caplog
):
    path = cache / f"{openvino_network.cache_key(network, '')}.openvino.safetensors"
    assert path in cache.iterdir() and cache == cache_folder()
    whole = path.read_bytes()
    forbid(monkeypatch)
    again = openvino_network.openvino_network(network, "fp32")
    equal_within(as_arrays(again(images(1))), as_arrays(by_openvino(images(1))), 1e-6)

    model, middle = openvino_network._read(path), len(whole) // 2
    for damaged in (whole[:middle], b"", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        path.write_bytes(damaged)
        assert openvino_network._read(path) is None
    assert sum("is made anew" in r.getMessage() for r in caplog.records) == 3
    monkeypatch.setattr(openvino_network, "converted", lambda network: model)
    for number in range(6):
        older = cache / f"{number}.openvino.safetensors"
        older.write_bytes(b"")
        os.utime(older, (number, number))
    openvino_network.openvino_network(network, "fp32")
    assert path.read_bytes() == whole
    assert len(list(cache.iterdir())) == openvino_network.KEPT and not (cache / "0.openvino.safetensors").exists()
    for older in cache.glob("?.openvino.safetensors"):
        older.unlink()


def test_another_network_has_another_name(network):
    key = openvino_network.cache_key(network, "")
    assert (
        key
        == openvino_network.cache_key(network, "")
        != openvino_network.cache_key(network, "vis_threshold 0")
    )
    weight = network.img2iuv.iuv_est.final_pred.predict_u.bias
    before = weight.clone()
    weight[0] += 1e-6
    assert openvino_network.cache_key(network, "") != key
    weight.copy_(before)


def _no_home(cls):
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("case", ["file", "no home", "not readable", "disk full"])
def test_where_nothing_can_be_kept_it_runs_all_the_same(case, network, by_openvino, monkeypatch, tmp_path, caplog):
    model = openvino_network._read(next(iter(cache_folder().glob("*.safetensors"))))
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute" if case == "no home" else str(tmp_path))
    monkeypatch.setattr(Path, "home", classmethod(_no_home))
    if case in ("file", "not readable"):
        (tmp_path / "danet").write_text("a file where the folder would be")
    if case == "not readable":  # another user's home
        monkeypatch.setattr(Path, "is_file", lambda path: os.stat("/proc/self/no/such/file"))
    if case == "disk full":
        module = types.SimpleNamespace(**vars(openvino_network.import_openvino()))
        module.save_model = lambda *_, **__: _no_home(None)
        monkeypatch.setattr(openvino_network, "import_openvino", lambda: module)
    monkeypatch.setattr(openvino_network, "converted", lambda network: model)
    monkeypatch.setattr(openvino_network, "_require_equal", lambda *_: None)
    assert openvino_network.openvino_network(network, "fp32")(images(1)).smpl.params.cam.shape == (1, 3)
    assert "cannot be kept" in caplog.text and "made anew each time" in caplog.text


def test_other_numbers_are_refused_and_torch_takes_over(
    network, by_openvino, monkeypatch, cache, tmp_path, caplog
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = openvino_network._read(next(iter(cache.glob(f"{openvino_network.cache_key(network, '')}*"))))
    monkeypatch.setattr(openvino_network, "converted", lambda network: model)
    torch.manual_seed(1)
    other = build_danet(SMALL)
    with pytest.raises(OpenVinoError, match="gives other numbers than torch"):
        in_form(other, Form("openvino", "fp32"))
    assert not list(tmp_path.rglob("*.safetensors"))
    found, form = in_form(other, Form("openvino", "fp32", is_asked=False))
    assert str(form) == "torch, fp32" and isinstance(found, torch.nn.Module)
    assert "The network runs by torch." in caplog.text

    def fail(network):
        raise RuntimeError("no rule for aten::strange\nand more")

    monkeypatch.setattr(openvino_network, "converted", fail)
    with pytest.raises(OpenVinoError, match="OpenVINO cannot run this network: no rule for aten::strange.$"):
        in_form(other, Form("openvino", "fp32"))


def test_a_predictor_says_what_computes(network, by_openvino, tmp_path, monkeypatch):
    path = tmp_path / "small.safetensors"
    export_safetensors(path, network.state_dict(), {}, half=False)
    cached = openvino_network.cache_key(network, "")
    monkeypatch.setattr(openvino_network, "cache_key", lambda network, identity: cached)
    forbid(monkeypatch)
    config = InferenceConfig(checkpoint=str(path), body="open", network=SMALL)
    found = load_predictor(config)
    assert found.facts["backend"] == "openvino, fp32" and found.describe().endswith(
        "computed by openvino, fp32"
    )
    plain = load_predictor(replace(config, backend="torch"))
    assert plain.facts["backend"] == "torch, fp32"
    equal_within(as_arrays(found.output(images(2))), as_arrays(plain.output(images(2))), 1e-4)
