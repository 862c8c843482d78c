"""The network as one ONNX file: pictures in, IUV maps, camera, shape and rotations out.

    python -m utils.export_onnx --out danet_s.onnx

The file is then checked against the network on the pictures of --img_dir under onnxruntime, and both are timed. It
takes any number of people. Cleaning by the winning part, part crops and refinement are inside, the body layer is not.

Exit code 0: the file agrees; 2: it was written and does not agree; 1: nothing was written.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import importlib.util
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from datasets.people import BadPicture, People
from datasets.transforms import network_input
from models import DaNet, DaNetConfig, build_danet
from models.danet import PRESETS
from models.fold import fold_batch_norm
from models.pretrained import network_of, weights_file
from utils.body import OPEN_DIR
from utils.checkpoint import load_danet
from utils.command_line import ALL_GOOD, SOME_SKIPPED
from utils.config import group, option, parse_config
from utils.file_marks import ONNX
from utils.geometry import CROP_SIZE
from utils.iuvmap import iuv_map2img
from utils.onnx_runtime import onnx_session
from utils.runtime import refuse, setup_logging
from utils.safe_write import atomic_path, require_free, require_writable

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger("export_onnx")

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MAPS = ("u", "v", "index", "ann")
BODY = ("cam", "betas", "rotmat")
OUTPUTS = (*MAPS, "iuv", *BODY)
TOLERANCE = 1e-4
TRACED_BATCH = 3  # a number that no size in the network equals, so that nothing is taken for the batch
TIMED_BATCHES, ROUNDS = (1, 8), 5
META = {
    "image": "RGB [batch,3,224,224]: (value/255 - mean) / std; mean .485 .456 .406, std .229 .224 .225",
    "u, v, index": "raw maps [batch,25,56,56]: background and DensePose parts 1..24; index: scores",
    "ann": "scores [batch,15,56,56] of DensePose's 15 coarse classes",
    "iuv": "cleaned picture [batch,3,56,56]: (part/24, U, V), zero on background",
    "cam": "weak camera (s, tx, ty) of the crop",
    "betas": "shape [batch,10]",
    "rotmat": "rotations [batch,24,3,3]; the root in the camera frame x right, y down, z forward",
}


@dataclass(frozen=True)
class ExportOnnxConfig:
    """Settings of the export."""

    out: str = option("./danet.onnx", "the file to write")
    overwrite: bool = option(False, "replace an exported file that is there")
    checkpoint: str | None = option(None, "weights (.pt or .safetensors); default: the shipped ones")
    model: str | None = option(None, "the network of the weights; default: seen from them", choices=PRESETS)
    img_dir: str = option("./examples", "pictures to compare on, each the crop of one person")
    data_dir: str = option(str(OPEN_DIR.parent), "folder of the licensed files")
    network: DaNetConfig = group(DaNetConfig, preset_by=("model", "checkpoint"), preset=network_of)

    def __post_init__(self):
        if self.checkpoint is None and self.model not in (None, "danet_s"):
            raise ValueError(f"No weights for '{self.model}' ship with the project; give --checkpoint FILE.")


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


def require_packages() -> None:
    """Raise ImportError naming the packages of the export that are missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"The ONNX export needs {', '.join(missing)}: pip install -r requirements-onnx.txt")


def export_onnx(network: DaNet, path: Path, meta: dict[str, str], replace: bool = True) -> None:
    """Write a network in evaluation mode, batch norm folded, float32 weights inside, any number of people.

    replace: a file that is there.
    """
    folded = deepcopy(network).requires_grad_(False)
    fold_batch_norm(folded)
    example = torch.zeros(TRACED_BATCH, 3, CROP_SIZE, CROP_SIZE)
    for chatty in ("onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            Outputs(folded).eval(), (example,), dynamo=True, verbose=False,
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


# -------------------------------------------------------------------------------------------------- comparison


def disagreements(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> tuple[dict[str, float], int, int]:
    """Largest difference of each output, pixels whose winner differs, and those of them that are no ties.

    Where the winning part or class is a tie within the tolerance the cleaned picture is not compared, and neither is
    the body of a person with such a difference.
    """
    flips = np.zeros(ours["iuv"][:, 0].shape, bool)
    clear = 0
    for name in ("index", "ann"):
        differs = ours[name].argmax(axis=1) != theirs[name].argmax(axis=1)
        second, first = np.moveaxis(np.sort(ours[name], axis=1)[:, -2:], 1, 0)
        clear += int((differs & (first - second > 2 * TOLERANCE)).sum())
        flips |= differs
    alike = {name: np.abs(ours[name] - theirs[name]) for name in OUTPUTS}
    alike["iuv"] = alike["iuv"] * ~flips[:, None]
    steady = ~flips.any(axis=(1, 2))
    largest = {
        name: float((alike[name][steady] if name in BODY else alike[name]).max(initial=0)) for name in OUTPUTS
    }
    return largest, int(flips.sum()), clear


@torch.inference_mode()
def agrees(network: DaNet, session: Any, images: Float[Tensor, "N 3 224 224"]) -> bool:
    """Compare on each picture alone and on all of them at once; print the differences."""
    eager = Outputs(network)
    good = True
    for size in sorted({1, len(images)}):
        ours, theirs = [], []
        for portion in images.split(size):
            ours.append([value.numpy() for value in eager(portion)])
            theirs.append(session.run(list(OUTPUTS), {"image": portion.numpy()}))
        joined = (
            dict(zip(OUTPUTS, map(np.concatenate, zip(*run, strict=True)), strict=True))
            for run in (ours, theirs)
        )
        largest, flips, clear = disagreements(*joined)
        good &= clear == 0 and all(value <= TOLERANCE for value in largest.values())
        listed = ", ".join(f"{name} {value:.1e}" for name, value in largest.items())
        print(f"{len(images)} pictures, batch {size}: largest difference {listed}; "
              f"{flips} pixels with another winner, {clear} of them no ties")  # fmt: skip
    return good


@torch.inference_mode()
def print_speed(network: DaNet, session: Any) -> None:
    """Medians of the network, its fast form and the file, measured in turn with the same number of threads."""
    fast = deepcopy(network).prepare_for_inference()
    for batch in TIMED_BATCHES:
        image = torch.randn(batch, 3, CROP_SIZE, CROP_SIZE)
        array = image.numpy()
        runs: dict[str, Callable[[], object]] = {
            "network": lambda image=image: network(image),
            "fast form": lambda image=image: fast(image),
            "onnxruntime": lambda array=array: session.run(list(OUTPUTS), {"image": array}),
        }
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(ROUNDS + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if turn:  # the first warms up
                    spent[name].append(time.perf_counter() - start)
        middle = {name: statistics.median(times) for name, times in spent.items()}
        listed = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in middle.items())
        ratio = middle["network"] / middle["onnxruntime"]
        print(
            f"batch {batch}, {torch.get_num_threads()} threads: {listed} (onnxruntime {ratio:.2f} x the network)"
        )


def crops(source: str) -> Float[Tensor, "N 3 224 224"]:
    """The pictures of a folder as network input. Raises ValueError when none is readable."""
    found = [person.crop for person in People(source) if not isinstance(person, BadPicture)]
    if not found:
        raise ValueError(f"No picture of '{source}' could be read; give --img_dir a folder of pictures.")
    return network_input(found)


def main(argv: Sequence[str] | None = None) -> int:
    config = parse_config(ExportOnnxConfig, argv, __doc__)
    setup_logging()
    try:
        path = Path(config.out)
        require_free(path, config.overwrite, ONNX)
        require_writable(path.parent)
        require_packages()
        images = crops(config.img_dir)
        network = build_danet(config.network, config.data_dir)
        weights = load_danet(network, weights_file(config.checkpoint))
        network.eval().requires_grad_(False)
        export_onnx(network, path, {**META, "weights": weights.weights_id}, config.overwrite)
    except (ValueError, OSError, ImportError) as error:
        return refuse(log, error)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, weights {weights}")
    session = onnx_session(path, torch.get_num_threads())
    good = agrees(network, session, images)
    print_speed(network, session)
    if not good:
        log.error("%s differs from the network by more than %g: do not use it.", path, TOLERANCE)
    return ALL_GOOD if good else SOME_SKIPPED


if __name__ == "__main__":
    run_script(main)
