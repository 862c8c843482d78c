"""The ONNX file of a tiny network: agreement, any number of people, what is said, what goes wrong."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from models import DaNetConfig, build_danet
from utils import export_onnx
from utils.checkpoint import export_safetensors

TINY = {
    "backbone": "resnet", "resnet_width": 8, "resnet_blocks": (1, 1, 1, 1), "deconv_width": 16, "body_width": 8,
    "limb_width": 8, "features": 16, "gcn_hidden": 16,
}  # fmt: skip
FLAGS = ["--model", "danet"]
for key, value in TINY.items():
    FLAGS += [f"--{key}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    """Weights of a tiny network and two pictures."""
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("onnx")
    network = build_danet(DaNetConfig(**TINY))
    export_safetensors(made / "tiny.safetensors", network.state_dict(), {}, half=False)
    root = request.config.rootpath
    (made / "pictures").mkdir()
    for name in ("astronaut", "grace_hopper"):
        Image.open(root / f"examples/{name}.jpg").resize((150, 150)).save(made / f"pictures/{name}.jpg")
    return made


def run(folder, pictures: str = "pictures", *more: str) -> int:
    given = ["--checkpoint", str(folder / "tiny.safetensors"), "--img_dir", str(folder / pictures)]
    return export_onnx.main([*FLAGS, *given, "--out", str(folder / "net.onnx"), *more])


def test_the_file_agrees_and_both_are_timed(folder, capsys, monkeypatch):
    monkeypatch.setattr(export_onnx, "ROUNDS", 1)
    assert run(folder) == 0
    said = capsys.readouterr().out
    assert "2 pictures, batch 1" in said and "2 pictures, batch 2" in said
    assert "onnxruntime" in said and "fast form" in said and "weights tiny.safetensors" in said
    assert sorted(path.suffix for path in folder.iterdir() if path.is_file()) == [".onnx", ".safetensors"]
    model = onnx.load(folder / "net.onnx")
    onnx.checker.check_model(model)
    assert {p.key: p.value for p in model.metadata_props}["iuv"].startswith("cleaned picture")
    # Another number of people than was traced, timed or compared.
    session = export_onnx.onnx_session(folder / "net.onnx", 1)
    image = torch.randn(5, 3, 224, 224)
    shapes = [value.shape for value in session.run(None, {"image": image.numpy()})]
    maps = [(5, 25, 56, 56)] * 3 + [(5, 15, 56, 56), (5, 3, 56, 56)]
    assert shapes == [*maps, (5, 3), (5, 10), (5, 24, 3, 3)]
    assert [output.name for output in session.get_outputs()] == list(export_onnx.OUTPUTS)


def test_a_file_that_differs_is_exit_code_2(folder, capsys, monkeypatch):
    class Shifted:
        def run(self, names, feed):
            with torch.inference_mode():
                values = export_onnx.Outputs(network)(torch.from_numpy(feed["image"]))
            return [value.numpy() + (name == "cam") * 1e-3 for name, value in zip(names, values, strict=True)]

    network = build_danet(DaNetConfig(**TINY)).eval()
    monkeypatch.setattr(export_onnx, "build_danet", lambda *_: network)
    monkeypatch.setattr(export_onnx, "export_onnx", lambda network, path, *_: path.write_bytes(b"danet-onnx-1"))
    monkeypatch.setattr(export_onnx, "onnx_session", lambda path, threads: Shifted())
    monkeypatch.setattr(export_onnx, "print_speed", lambda network, session: None)
    assert run(folder, "pictures", "--overwrite") == 2
    assert "do not use it" in capsys.readouterr().err


def outputs() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"u": 25, "v": 25, "index": 25, "ann": 15, "iuv": 3}
    made = {name: generator.normal(size=(2, channels, 4, 4)) for name, channels in shapes.items()}
    return {**made, "cam": np.zeros((2, 3)), "betas": np.zeros((2, 10)), "rotmat": np.zeros((2, 24, 3, 3))}


def test_ties_are_set_aside_and_other_winners_are_not():
    ours = outputs()
    ours["index"][0, :2, 1, 1] = 9.0, 9.0 + 1e-5
    theirs = {name: value.copy() for name, value in ours.items()}
    theirs["index"][0, 0, 1, 1] = 9.0 + 2e-5  # the other one wins now
    theirs["iuv"][0, :, 1, 1] += 1  # and so does its picture
    theirs["cam"][0] = 1
    largest, flips, clear = export_onnx.disagreements(ours, theirs)
    assert (flips, clear) == (1, 0) and largest["iuv"] == largest["cam"] == 0 and largest["index"] < 1e-4
    theirs["cam"][1] = 0.5
    assert export_onnx.disagreements(ours, theirs)[0]["cam"] == 0.5
    theirs["ann"][1, 3, 0, 0] = 50
    assert export_onnx.disagreements(ours, theirs)[1:] == (2, 1)


def test_missing_packages_and_pictures_are_named(folder, capsys, monkeypatch):
    assert run(folder) == 1
    assert "net.onnx' is there; --overwrite replaces results" in capsys.readouterr().err
    assert run(folder, "nowhere", "--overwrite") == 1
    said = capsys.readouterr().err
    assert "nowhere" in said and "utils.doctor" in said
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else find(name, *rest)
    )
    assert run(folder, "pictures", "--overwrite") == 1
    assert "needs onnxscript: pip install -r requirements-onnx.txt" in capsys.readouterr().err
