"""The doctor's self-test: a picture to a body, an IUV picture and a file, with numbers that were right elsewhere.

A step returns what later ones need and what to print, and raises when its numbers are wrong. Everything runs on the
CPU. Part of the script utils/doctor.py.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datasets.detector import MoveNet
from datasets.people import BadPicture, People
from datasets.pictures import read_picture
from datasets.transforms import network_input
from models import SMPL, DaNet, build_danet
from models.danet import preset
from models.pretrained import weights_file
from utils.assets import BodyAssets, resolve_body
from utils.body import OPEN_DIR
from utils.checkpoint import load_danet
from utils.doctor_checks import ABSENT, BROKEN, OK, ROOT, Finding, reason
from utils.export import people_arrays, save_person
from utils.iuvmap import iuv_map2img
from utils.renderer import IUV_Renderer
from utils.safe_io import load_npz
from utils.structures import DaNetOutput, SMPLOutput

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

PICTURE, FULL_PICTURE = ROOT / "examples" / "rendered_1.jpg", ROOT / "examples" / "astronaut.jpg"
RESTORE = "git checkout -- data/open examples, then pip install --force-reinstall -r requirements.txt"


@dataclass(frozen=True)
class Expected:
    """Numbers of the shipped weights, and how far another processor's may be from them."""

    values: tuple[float, ...]
    tolerance: float

    def check(self, what: str, found: Sequence[float]) -> None:
        """Raise ValueError unless all numbers are near enough."""
        wrong = np.abs(np.subtract(found, self.values)) > self.tolerance
        if wrong.any() or not np.isfinite(found).all():
            listed = [", ".join(f"{value:.4g}" for value in row) for row in (found, self.values)]
            raise ValueError(
                f"Wrong numbers: {what} {listed[0]}; expected {listed[1]} (+- {self.tolerance:g})."
            )


PREDICTION = {
    "camera": Expected((0.9357, 0.1714, 0.1702), 0.005),
    "shape": Expected((-1.213, -0.482, 0.457), 0.02),
    "pixels of the person": Expected((274,), 8),
}
HEAD_AND_HANDS = Expected(
    (-0.140, -0.713, -0.068, 0.061, -0.223, -0.169, -0.441, -0.256, -0.041), 0.01
)  # metres
IUV_PIXELS = Expected((278,), 8)
BOX = Expected((23.4, 11.1, 341.9, 497.6), 4)  # pixels


@dataclass(frozen=True)
class Step:
    """What a step does, the steps it needs, and the function that gets what they returned."""

    name: str
    run: Callable[..., tuple[Any, str]]
    needs: tuple[str, ...] = ()


def self_test(steps: Sequence[Step] | None = None) -> Iterator[Finding]:
    """Run the steps in their order, each timed; those that need a failed one are named and left out."""
    done: dict[str, Any] = {}
    for step in STEPS if steps is None else steps:
        lacking = [name for name in step.needs if name not in done]
        if lacking:
            yield Finding(ABSENT, step.name, f"not tried, because '{lacking[0]}' failed")
            continue
        start = time.perf_counter()
        try:
            done[step.name], text = step.run(*(done[name] for name in step.needs))
        except Exception as error:  # of whatever a damaged installation leads to
            yield Finding(BROKEN, step.name, reason(error), RESTORE)
            continue
        yield Finding(OK, step.name, f"{time.perf_counter() - start:5.2f} s  {text}")


def load_body() -> tuple[BodyAssets, str]:
    assets = resolve_body("open", OPEN_DIR.parent)
    return assets, f"{assets.body.model_id}, {len(assets.body.v_template)} vertices"


def load_network() -> tuple[DaNet, str]:
    network = build_danet(preset("danet_s"), OPEN_DIR)
    weights = load_danet(network, weights_file(None))
    return network.prepare_for_inference(), str(weights)


def load_picture() -> tuple[Float[Tensor, "1 3 224 224"], str]:
    (person,) = People(PICTURE)
    if isinstance(person, BadPicture):
        raise ValueError(person.reason)
    return network_input([person.crop]), f"{PICTURE.name} {person.image_size[0]} x {person.image_size[1]}"


@torch.inference_mode()
def predict(network: DaNet, image: Float[Tensor, "1 3 224 224"]) -> tuple[DaNetOutput, str]:
    output = network(image)
    params, maps = output.smpl.params, output.iuv.iuv
    person = int((iuv_map2img(maps.u, maps.v, maps.index, maps.ann)[0, 0] > 0).sum())
    found = {
        "camera": params.cam[0].tolist(),
        "shape": params.betas[0, :3].tolist(),
        "pixels of the person": [person],
    }
    for what, expected in PREDICTION.items():
        expected.check(what, found[what])
    return output, "IUV maps, camera and shape are as expected"


@torch.inference_mode()
def pose_body(assets: BodyAssets, output: DaNetOutput) -> tuple[SMPLOutput, str]:
    params = output.smpl.params
    posed = SMPL(assets.body, assets.extra, assets.surface)(params.rotmat, params.betas)
    HEAD_AND_HANDS.check("head and hands at", posed.smpl_joints[0, [15, 22, 23]].flatten().tolist())
    return posed, "head and hands are where expected"


def render(assets: BodyAssets, output: DaNetOutput, body: SMPLOutput) -> tuple[Tensor, str]:
    cam = output.smpl.params.cam.clone()  # of inference mode
    pictures = [
        IUV_Renderer(atlas=assets.atlas, backend=backend).verts2uvimg(body.vertices.clone(), cam)
        for backend in ("numba", "torch")
    ]
    differ = int((pictures[0] != pictures[1]).any(dim=1).sum())
    if differ:
        raise ValueError(f"The rasterisers numba and torch differ in {differ} pixels.")
    count = int((pictures[0][0, 0] > 0).sum())
    IUV_PIXELS.check("pixels of the body", [count])
    return pictures[0], f"numba and torch draw the same {count} pixels"


def detect() -> tuple[None, str]:
    found = MoveNet(tiled=False).detect(read_picture(FULL_PICTURE))
    if not found:
        raise ValueError(f"Wrong result: nobody is found in {FULL_PICTURE.name}.")
    BOX.check("box", found[0].box)
    return None, f"a person in {FULL_PICTURE.name}, score {found[0].score:.2f}"


def write_and_read(output: DaNetOutput, body: SMPLOutput) -> tuple[None, str]:
    (arrays,) = people_arrays(output, body)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "person.npz"
        save_person(path, arrays)
        read, size = load_npz(path), path.stat().st_size
    changed = [name for name, value in arrays.items() if not np.array_equal(read.get(name), value)]
    if changed:
        raise ValueError(f"Written and read again, {', '.join(changed)} came back changed.")
    return None, f"{size // 1000} kB in {tempfile.gettempdir()}"


STEPS = (
    Step("open body", load_body),
    Step("network", load_network),
    Step("picture", load_picture),
    Step("prediction", predict, ("network", "picture")),
    Step("posed body", pose_body, ("open body", "prediction")),
    Step("IUV rendering", render, ("open body", "prediction", "posed body")),
    Step("detector", detect),
    Step("result file", write_and_read, ("prediction", "posed body")),
)
