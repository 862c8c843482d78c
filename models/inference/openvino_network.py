"""A network computed by OpenVINO on the CPU: made once of the torch module, kept in the user's cache, compared.

The kept file holds OpenVINO's model of the whole network, image crops in and raw maps, centres and body out, for any
number of people. Its name tells weights, settings, code and versions; one that is damaged is made anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from utils.checkpoint import content_sum
from utils.geometry import CROP_SIZE
from utils.io import ROOT, atomic_write, load_safetensors
from utils.packages import import_openvino
from utils.script import first_line
from utils.structures import DaNetOutput, IUVEstimate, IUVMaps, PartCrops, SMPLEstimate, SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of an output's largest value, or of 1 where that is smaller
TRACED_BATCH, COMPARED_BATCH = 3, 2
KEPT = 4  # files: each change of code or weights makes a new one, of 40 MB or more
SOURCES = ("models/*.py", "models/backbones/*.py", "models/inference/openvino_network.py", "utils/*.py")
PRECISION = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoError(ValueError):
    """OpenVINO cannot run a network, or gives other numbers than torch."""


class OpenVinoNetwork:
    """A network that OpenVINO computes; it takes and gives what the torch module does, in evaluation mode.

    Any threads may share it. It takes as many threads as torch has when this is made.

    Args:
        model: OpenVINO's model of the network.
        precision: "fp32" or "bf16".
    """

    def __init__(self, model: Any, precision: str = "fp32"):
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISION[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # cores may have other work
        }
        self._compiled = import_openvino().Core().compile_model(model, "CPU", settings)
        self._names = [output.get_any_name() for output in self._compiled.outputs]
        self._of_thread = threading.local()

    def __call__(self, image: Float[Tensor, "B 3 224 224"]) -> DaNetOutput | SMPLParams:
        """The network's output for normalised crops. Raises ValueError for another shape."""
        if image.shape[1:] != (3, CROP_SIZE, CROP_SIZE):
            raise ValueError(
                f"The network takes images [B, 3, {CROP_SIZE}, {CROP_SIZE}], got {list(image.shape)}."
            )
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        found = self._of_thread.request.infer([image.contiguous().numpy()])
        return as_record({name: torch.from_numpy(found[n]) for n, name in enumerate(self._names)})


def openvino_network(network: nn.Module, precision: str, identity: str = "") -> OpenVinoNetwork:
    """The network computed by OpenVINO, from the user's cache or made now.

    Args:
        network: `DaNet` or `HMR` with its weights, on the CPU, in evaluation mode.
        precision: "fp32" or "bf16".
        identity: what makes the network another beside its weights and the project's code.

    Raises:
        OpenVinoError: OpenVINO does not work here, cannot run the network, or gives other numbers.
    """
    folder = cache_folder()
    path = None if folder is None else folder / f"{cache_key(network, identity)}.openvino.safetensors"
    try:
        model = _read(path)
        if model is None:
            model = converted(network)
            _require_equal(network, OpenVinoNetwork(model))
            _keep(path, model)
        return OpenVinoNetwork(model, precision)
    except OpenVinoError:
        raise
    except Exception as error:  # its exceptions share no base class
        raise OpenVinoError(f"OpenVINO cannot run this network: {first_line(error)}.") from error


# ---------------------------------------------------------------------------------------------------- the record


def as_arrays(output: DaNetOutput | SMPLParams) -> dict[str, Tensor]:
    """The tensors of a network's output by name; `as_record` is the inverse."""
    params = output if isinstance(output, SMPLParams) else output.smpl.params
    arrays = {"cam": params.cam, "betas": params.betas, "rotmat": params.rotmat}
    if isinstance(output, SMPLParams):
        return arrays
    seen = output.iuv
    arrays |= {"heatmaps": seen.heatmaps, "centers": seen.centers}
    arrays |= {name: getattr(seen.iuv, name) for name in ("u", "v", "index", "ann")}
    if seen.part_iuv is not None:
        arrays |= {f"part_{name}": getattr(seen.part_iuv, name) for name in ("u", "v", "index")}
        arrays["scales"] = seen.crops.scales
    if seen.keypoints is not None:
        arrays["keypoints"] = seen.keypoints
    return arrays


def as_record(arrays: Mapping[str, Tensor]) -> DaNetOutput | SMPLParams:
    """The output of `DaNet` or `HMR` whose tensors have the names of `as_arrays`."""
    params = SMPLParams(arrays["cam"], arrays["betas"], arrays["rotmat"])
    if "u" not in arrays:
        return params
    maps = IUVMaps(*(arrays[name] for name in ("u", "v", "index", "ann")))
    centers, parts, crops = arrays["centers"], None, None
    if "part_u" in arrays:
        parts = IUVMaps(*(arrays[f"part_{name}"] for name in ("u", "v", "index")))
        crops = PartCrops(centers, arrays["scales"])  # nothing jitters in evaluation mode
    estimate = IUVEstimate(maps, parts, arrays["heatmaps"], centers, crops, arrays.get("keypoints"))
    return DaNetOutput(estimate, SMPLEstimate(params))


# ---------------------------------------------------------------------------------------------------- making


class _Outputs(nn.Module):
    """The network with its outputs as a tuple, in the order of `as_arrays`."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.names = network, ()

    def forward(self, image: Float[Tensor, "B 3 224 224"]) -> tuple[Tensor, ...]:
        arrays = as_arrays(self.network(image))
        self.names = tuple(arrays)
        return tuple(arrays.values())


class _WithoutAffineGrid(TorchFunctionMode):
    """Context in which `affine_grid` is written with operators that OpenVINO has."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not F.affine_grid:
            return function(*args, **(kwargs or {}))
        theta, (*_, height, width) = args
        x, y = torch.linspace(-1, 1, width).expand(height, width), torch.linspace(-1, 1, height)[:, None]
        places = torch.stack([x, y.expand_as(x), torch.ones_like(x)], dim=-1).view(1, -1, 3)
        return (places @ theta.transpose(1, 2)).view(-1, height, width, 2)


def converted(network: nn.Module) -> Any:
    """OpenVINO's model of the network, for any number of people."""
    log.info("OpenVINO's form of the network is made; that takes some seconds, once.")
    openvino, start = import_openvino(), time.perf_counter()
    example = smooth_noise(TRACED_BATCH)
    with warnings.catch_warnings(), torch.no_grad(), _WithoutAffineGrid():
        warnings.simplefilter("ignore")  # of the tracer: checks of shapes become constants
        outputs = _Outputs(network)
        traced = torch.jit.trace(outputs, example, check_trace=False)
    model = openvino.convert_model(traced, input=[-1, *example.shape[1:]])
    for output, name in zip(model.outputs, outputs.names, strict=True):
        output.get_tensor().set_names({name})
    log.info("It was made in %.0f s.", time.perf_counter() - start)
    return model


def smooth_noise(count: int) -> Float[Tensor, "B 3 224 224"]:
    noise = torch.randn(count, 3, 14, 14, generator=torch.Generator().manual_seed(3))
    return F.interpolate(noise, size=CROP_SIZE, mode="bicubic")


@torch.inference_mode()
def _require_equal(network: nn.Module, candidate: OpenVinoNetwork) -> None:
    """Raise OpenVinoError unless the outputs agree, on other images and another number of them than were traced.

    Body and part maps are compared where all pixels have the same part: rounding may decide ties otherwise.
    """
    image = smooth_noise(TRACED_BATCH + COMPARED_BATCH)[TRACED_BATCH:]
    ours, theirs = as_arrays(network(image)), as_arrays(candidate(image))
    alike = torch.ones(COMPARED_BATCH, dtype=torch.bool)
    if "index" in ours:
        alike = (ours["index"].argmax(dim=1) == theirs["index"].argmax(dim=1)).flatten(1).all(dim=1)
    for name, value in ours.items():
        rows = slice(None) if name in ("u", "v", "index", "ann", "heatmaps", "centers") else alike
        apart = (value - theirs[name])[rows].abs()
        if not (apart <= TOLERANCE * max(1.0, float(value.abs().max()))).all():
            raise OpenVinoError(
                f"OpenVINO gives other numbers than torch ({name}, {float(apart.max()):.1e} apart)."
            )


# ---------------------------------------------------------------------------------------------------- keeping


def cache_folder() -> Path | None:
    """Where forms of networks are kept: danet in XDG_CACHE_HOME, by default ~/.cache; None without a home folder."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path.home() / ".cache") / "danet"
    except RuntimeError:
        return None


def cache_key(network: nn.Module, identity: str) -> str:
    """Name of all that the kept form depends on: weights, settings, code, versions."""
    digest = hashlib.sha256(content_sum(network.state_dict()).encode())
    for text in (type(network).__name__, identity, torch.__version__, version("openvino")):
        digest.update(f"{text}\0".encode())
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _keep(path: Path | None, model: Any) -> None:
    """Write the model, and remove those made longest ago; where that fails, say so."""
    try:
        if path is None:
            raise OSError("this user has no home folder; set XDG_CACHE_HOME to a folder")
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "model.xml"
            import_openvino().save_model(model, plain, compress_to_fp16=False)
            parts = {part: bytearray(plain.with_suffix(f".{part}").read_bytes()) for part in ("xml", "bin")}
        tensors = {name: torch.frombuffer(part, dtype=torch.uint8) for name, part in parts.items()}
        with atomic_write(path) as file:
            file.write(save(tensors, {"sum": content_sum(tensors)}))
        for older in sorted(path.parent.glob("*.openvino.safetensors"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            older.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # the latter of OpenVINO, on a full disk
        reason = first_line(error).rstrip(".")
        log.warning("OpenVINO's form of the network cannot be kept: %s. It is made anew each time.", reason)


def _read(path: Path | None) -> Any:
    """The kept model; None where there is none that may be read, or a damaged one, which is named."""
    if path is None or not os.access(path, os.R_OK) or not path.is_file():
        return None
    try:
        tensors, about = load_safetensors(path)
        if about.get("sum") != content_sum({name: tensors[name] for name in ("xml", "bin")}):
            raise ValueError("its content has changed")
        model, weights = (tensors[name].numpy().tobytes() for name in ("xml", "bin"))
        return import_openvino().Core().read_model(model, weights)
    except Exception:  # of whatever a damaged file leads to
        log.warning("%s is damaged and is made anew.", path)
        return None
