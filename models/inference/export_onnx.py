"""The network as one ONNX file: images in, IUV maps, camera, shape and rotations out.

    python -m models.inference.export_onnx --out danet_s.onnx

The file takes any number of people. Cleaning by argmax, part crops and refinement are inside, the body layer is not.
The file is then run by onnxruntime and compared with the network.
Exit code 0: the file agrees; 2: it was written and does not agree; 1: nothing was written.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models import DaNet
from models.fuse_batch_norm import fold_batch_norm
from models.inference.weights import WeightsConfig, load_network
from utils.command_line import ALL_GOOD, SOME_SKIPPED
from utils.config import option, parse_config
from utils.geometry import CROP_SIZE
from utils.io import atomic_path, require_free, require_writable
from utils.io.marks import ONNX
from utils.iuvmap import iuv_map2img
from utils.packages import onnx_session, require_packages
from utils.runtime import report_error, setup_logging

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger("export_onnx")

MAPS = ("u", "v", "index", "ann")
OUTPUTS = (*MAPS, "iuv", "cam", "betas", "rotmat")
TOLERANCE = 1e-4
TRACED_BATCH, COMPARED_BATCH = 3, 4  # numbers that no size in the network equals: nothing is taken for the batch
META = {
    "image": "RGB [batch,3,224,224]: (value/255 - mean) / std; mean .485 .456 .406, std .229 .224 .225",
    "u, v, index": "raw maps [batch,25,56,56]: background and DensePose parts 1..24; index: scores",
    "ann": "scores [batch,15,56,56] of DensePose's 15 coarse classes",
    "iuv": "cleaned image [batch,3,56,56]: (part/24, U, V), zero on background",
    "cam": "weak camera (s, tx, ty) of the crop",
    "betas": "shape [batch,10]",
    "rotmat": "rotations [batch,24,3,3]; the root in the camera frame x right, y down, z forward",
}


@dataclass(frozen=True)
class ExportOnnxConfig(WeightsConfig):
    """Settings of the export."""

    out: str = option("./danet.onnx", "the file to write")
    overwrite: bool = option(False, "replace an exported file that is there")


class Outputs(nn.Module):
    """The network with the outputs of the file as a plain tuple, in the order of `OUTPUTS`."""

    def __init__(self, network: DaNet):
        super().__init__()
        self.network = network

    def forward(self, image: Float[Tensor, "B 3 224 224"]) -> tuple[Tensor, ...]:
        output = self.network(image)
        raw, params = output.iuv.iuv, output.smpl.params
        maps = (raw.u, raw.v, raw.index, raw.ann)  # unpacking the record asks for its length: a fixed batch
        return *maps, iuv_map2img(*maps), params.cam, params.betas, params.rotmat


def export_onnx(network: DaNet, path: Path, meta: dict[str, str], replace: bool = True) -> None:
    """Write a network in evaluation mode, batch norm folded, float32 weights inside, any number of people.

    replace: a file that is there.
    """
    folded = deepcopy(network).requires_grad_(False)
    fold_batch_norm(folded)
    for chatty in ("onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            Outputs(folded).eval(), (torch.zeros(TRACED_BATCH, 3, CROP_SIZE, CROP_SIZE),), dynamo=True, verbose=False,
            input_names=["image"], output_names=list(OUTPUTS),
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=4096)}},
        )  # fmt: skip
    graph = program.model.graph
    for node in graph:  # the exporter names values inside after operators, "index" among them
        for value in node.outputs:
            if value.name in OUTPUTS and not any(value is output for output in graph.outputs):
                value.name += "_inside"
    program.model.metadata_props.update({**meta, "made as": ONNX})
    with atomic_path(path, replace) as temporary:
        program.save(str(temporary), external_data=False)


@torch.inference_mode()
def largest_differences(network: DaNet, path: Path) -> dict[str, float]:
    """Largest difference of each output between the network and the file, on images of smooth noise.

    `iuv` and the body are compared where all pixels have the same part: rounding may decide ties otherwise.
    """
    noise = torch.randn(COMPARED_BATCH, 3, 14, 14, generator=torch.Generator().manual_seed(3))
    image = F.interpolate(noise, size=CROP_SIZE, mode="bicubic")
    ours = dict(zip(OUTPUTS, (value.numpy() for value in Outputs(network)(image)), strict=True))
    session = onnx_session(path, torch.get_num_threads())
    theirs = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"image": image.numpy()}), strict=True))
    argmax = [[maps[name].argmax(axis=1) for name in ("index", "ann")] for maps in (ours, theirs)]
    alike = np.equal(*argmax).all(axis=(0, 2, 3))
    rows = {name: slice(None) if name in MAPS else alike for name in OUTPUTS}
    return {name: float(np.abs(ours[name] - theirs[name])[rows[name]].max(initial=0)) for name in OUTPUTS}


def main(argv: Sequence[str] | None = None) -> int:
    config = parse_config(ExportOnnxConfig, argv, __doc__)
    setup_logging()
    try:
        path = Path(config.out)
        require_free(path, config.overwrite, ONNX)
        require_writable(path.parent)
        require_packages("The ONNX export", "onnx", "onnx", "onnxscript", "onnxruntime")
        network, weights = load_network(config)
        network.eval().requires_grad_(False)
        export_onnx(network, path, {**META, "weights": weights.weights_id}, config.overwrite)
    except (ValueError, OSError, ImportError) as error:
        return report_error(log, error)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, weights {weights}")
    largest = largest_differences(network, path)
    print(f"Largest differences: {', '.join(f'{name} {value:.1e}' for name, value in largest.items())}")
    if all(value <= TOLERANCE for value in largest.values()):
        return ALL_GOOD
    log.error("%s differs from the network by more than %g: do not use it.", path, TOLERANCE)
    return SOME_SKIPPED


if __name__ == "__main__":
    run_script(main)
