"""The ONNX file of a tiny network: agreement, any number of people, what goes wrong."""

from __future__ import annotations

import sys

import onnx
import pytest
import torch
from tiny import shallow
from tiny_demo import NETWORK, TINY, write_weights

from models import DaNetConfig, build_danet
from models.inference import export_onnx


@pytest.fixture(scope="module", autouse=True)
def shallow_networks():
    with shallow():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of a tiny network."""
    made = tmp_path_factory.mktemp("onnx")
    write_weights(made)
    return made


def run(folder, *more: str) -> int:
    given = ["--checkpoint", str(folder / "tiny.safetensors"), "--out", str(folder / "net.onnx")]
    return export_onnx.main([*NETWORK, *given, *more])


def test_the_file_agrees_for_any_number_of_people(folder, capsys):
    assert run(folder) == 0
    said = capsys.readouterr().out
    assert "Largest differences: u " in said and "weights tiny.safetensors" in said
    assert sorted(path.suffix for path in folder.iterdir() if path.is_file()) == [".onnx", ".safetensors"]
    model = onnx.load(folder / "net.onnx")
    onnx.checker.check_model(model)
    assert {p.key: p.value for p in model.metadata_props}["iuv"].startswith("cleaned image")
    # Another number of people than was traced or compared.
    session = export_onnx.onnx_session(folder / "net.onnx", 1)
    image = torch.randn(5, 3, 224, 224)
    shapes = [value.shape for value in session.run(None, {"image": image.numpy()})]
    maps = [(5, 25, 56, 56)] * 3 + [(5, 15, 56, 56), (5, 3, 56, 56)]
    assert shapes == [*maps, (5, 3), (5, 10), (5, 24, 3, 3)]
    assert [output.name for output in session.get_outputs()] == list(export_onnx.OUTPUTS)


class Changed:
    """A session of onnxruntime whose outputs are the network's, but for one of them."""

    def __init__(self, network, name, change):
        self.network, self.name, self.change = network, name, change

    def run(self, names, feed):
        with torch.inference_mode():
            values = export_onnx.Outputs(self.network)(torch.from_numpy(feed["image"]))
        arrays = {name: value.numpy().copy() for name, value in zip(names, values, strict=True)}
        self.change(arrays[self.name])
        return list(arrays.values())


def test_a_file_that_differs_is_exit_code_2(folder, capsys, monkeypatch):
    network = build_danet(DaNetConfig(**TINY)).eval()
    monkeypatch.setattr("models.inference.weights.build_danet", lambda *_: network)
    monkeypatch.setattr(export_onnx, "export_onnx", lambda network, path, *_: path.write_bytes(b"danet-onnx-1"))

    def add(array):
        array += 1e-3

    monkeypatch.setattr(export_onnx, "onnx_session", lambda path, threads: Changed(network, "cam", add))
    assert run(folder, "--overwrite") == 2
    assert "do not use it" in capsys.readouterr().err

    def swap_winner(array):  # of one pixel, by more than rounding does
        array[0, :, 20, 20] = array[0, ::-1, 20, 20]

    monkeypatch.setattr(export_onnx, "onnx_session", lambda path, threads: Changed(network, "index", swap_winner))
    assert run(folder, "--overwrite") == 2


def test_a_file_that_is_there_and_missing_packages_are_named(folder, capsys, monkeypatch):
    (folder / "net.onnx").write_bytes(b"danet-onnx-1")
    assert run(folder) == 1
    assert "net.onnx' is there; --overwrite replaces results" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert run(folder, "--overwrite") == 1
    assert "needs onnxscript: pip install -r requirements-onnx.txt" in capsys.readouterr().err
