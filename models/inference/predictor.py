"""From a user's settings to a loaded network and its body, and from crops of people to bodies as plain arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.fitting.refinement import Refiner, bounded
from models.hmr import build_hmr
from models.inference.backends import choose_form, in_form
from models.inference.confidence import center_errors, is_empty, own_confidence
from models.inference.people import predict_images
from models.inference.weights import InferenceConfig, load_network
from models.smpl import SMPL
from utils.body import CORE_NEED, SMPL_ID, BodyAssets, resolve_body
from utils.checkpoint import LoadReport, load_danet
from utils.export import people_arrays, seen_iuv
from utils.images import network_input
from utils.iuvmap import dense_scores
from utils.renderer import IUV_Renderer
from utils.runtime import choose_device
from utils.structures import DaNetOutput, SMPLEstimate, SMPLOutput, SMPLParams, joined

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
    from torch import Tensor

    from datasets.people.detector import Detector
    from models.inference.backends import Network
    from models.inference.person import ImageResult
    from models.inference.track_starts import RefineRows
    from utils.images import AnyImage

    # Changes the parameters of some rows of a batch, whose numbers it is given.
    Adjust = Callable[[SMPLParams, Sequence[int]], SMPLParams]
    # Refines a chunk, given how to refine rows of it, its bodies, and its rows' numbers in the batch.
    Follow = Callable[[RefineRows, SMPLParams, Sequence[int]], SMPLParams]

log = logging.getLogger(__name__)

REGRESSORS = ("danet", "hmr")
# People whose maps stay in the caches of a core, which makes each a sixth faster than among eight.
PEOPLE_A_THREAD = 2
# Refinement takes many small steps: for eight people together, little more than half of the time.
REFINED_TOGETHER = 8


def load_predictor(
    config: InferenceConfig | None = None,
    need: Iterable[str] = CORE_NEED,
    local_rank: int | None = None,
    normalise: bool = True,
) -> Predictor:
    """Load the network and the body of the settings onto their device.

    Args:
        config: None and the defaults give the shipped network on the best body that is there. `config.regressor`, a
            field of evaluations only, is "danet" or "hmr" (the baseline, which has one size and no shipped weights).
        need: keys of `utils.body.LICENSED_FILES` that a run with the licensed body cannot do without.
        local_rank: number of the CUDA device to take where the settings leave it open.
        normalise: what the network is fed with; without it, pixels in 0..1.

    Raises:
        ImportError: OpenVINO is asked for and not installed.
        ValueError: a device that is absent, weights that are damaged or of another network, HMR without weights, a
            network that OpenVINO was asked for and cannot run.
        FileNotFoundError: weights or files of the body that are missing.
    """
    config = InferenceConfig() if config is None else config
    on_cpu = config.backend == "openvino" and config.device == "auto"
    device = choose_device("cpu" if on_cpu else config.device, local_rank)
    form = choose_form(config.backend, config.precision, device)
    assets = resolve_body(config.body, config.data_dir, need)
    if config.regressor == "danet":
        network, weights = load_network(config)
    elif config.checkpoint is None:
        raise ValueError("No weights of the HMR baseline ship with the project; give --checkpoint FILE.")
    else:
        network = build_hmr(config.data_dir)
        weights = load_danet(network, config.checkpoint)
    learned_on, used = weights.meta.get("body"), assets.body.model_id
    if learned_on and learned_on != used:
        log.warning(
            "The weights were learned on the body '%s', but this run poses '%s': shapes, and IUV of the "
            "body, will not fit the person. Give --body %s to match.",
            learned_on, used, "smpl" if learned_on == "smpl" else "open",
        )  # fmt: skip
    refine = is_refined(config, assets, learned_on)
    network, form = in_form(network.to(device), form, str(config.network))
    return Predictor(network, assets, device, weights, config.regressor, normalise, refine, str(form))


def is_refined(config: InferenceConfig, assets: BodyAssets, learned_on: str | None) -> bool:
    """Whether bodies are refined: as the settings say, else where open-body weights pose the open body.

    Raises:
        ValueError: where it is asked of a network without maps, or of a body without an atlas.
    """
    if config.refine and config.regressor == "hmr":
        raise ValueError("--refine needs the network's maps, and the HMR baseline has none; leave it out.")
    if config.refine and assets.atlas is None:
        raise ValueError(
            "--refine needs DensePose's atlas of the body: run `bash get_densepose_uv.sh`, or leave it out."
        )
    if config.refine is None:
        return config.regressor == "danet" and learned_on == assets.body.model_id != SMPL_ID
    return config.refine


class Predictor:
    """A network in its inference form and the body that it poses, on one device; any threads may share it.

    Attributes:
        assets: the body and the files that belong to it.
        weights: what became of the weights file; None for a network that was given its weights otherwise.
        regressor: "danet" or "hmr".
        backend: what computes the network, and its precision, as "openvino, fp32".
    """

    def __init__(
        self,
        network: Network,
        assets: BodyAssets,
        device: torch.device,
        weights: LoadReport | None = None,
        regressor: str = "danet",
        normalise: bool = True,
        refine: bool = False,
        backend: str = "torch, fp32",
    ):
        """network: as `DaNet.prepare_for_inference` or `in_form` gives it; other arguments as in `load_predictor`."""
        self.network, self.assets, self.device = network, assets, device
        self.weights, self.regressor, self.normalise = weights, regressor, normalise
        self.backend = backend
        self.smpl = SMPL(assets.body, assets.extra, assets.surface).to(device)
        self._renderer = None if assets.atlas is None else IUV_Renderer(atlas=assets.atlas)
        self._refiner = Refiner(self.smpl, assets.atlas) if refine else None

    @property
    def facts(self) -> dict[str, str]:
        """Body, weights, refinement and back-end, as the demo's result files name them."""
        refined = "no" if self._refiner is None else "yes"
        return {
            "body_model": self.assets.body.model_id,
            "weights": "none" if self.weights is None else self.weights.weights_id,
            "refined": refined,
            "backend": self.backend,
        }

    def describe(self) -> str:
        """One line that says which body, atlas, weights and back-end are in use."""
        return f"{self.assets.log_line(str(self.weights))}, computed by {self.backend}"

    def __call__(
        self,
        images: AnyImage | Sequence[AnyImage],
        *,
        boxes: Sequence[Any] | None = None,
        detector: str | Detector = "auto",
        batch_size: int = 8,
        focal_length: float | None = None,
        height: float | None = None,
    ) -> ImageResult | list[ImageResult]:
        """The people of one image, or of each of a list of images.

        Args:
            images: path, Pillow image or RGB bytes (uint8) [H,W,3]; one, or a list of them.
            boxes: where the people are, [N,4] of x, y, width, height in pixels; for a list of images a list of these.
                Without any (None) the detector looks.
            detector: "auto" (MoveNet, but a square image of one person is taken whole), "movenet", "none" (an image
                is one person's crop), or an object with `detect`.
            batch_size: people at a time.
            focal_length: of the images, pixels; None: as their EXIF data says, else their diagonal.
            height: of the person, standing, metres (0.3 to 2.7), by which bodies are scaled; None: as predicted.

        Returns:
            A list of `Person` for each image, empty where no one was found.

        Raises:
            ImageError: a file or image cannot be used; it is named.
            ValueError: a box or setting is impossible.
            TypeError: what is given is no image.
        """
        if isinstance(images, list | tuple):
            return predict_images(self, images, boxes, detector, batch_size, focal_length, height)
        boxes = None if boxes is None else [boxes]
        return predict_images(self, [images], boxes, detector, batch_size, focal_length, height)[0]

    @torch.inference_mode()
    def output(self, images: Float[Tensor, "B 3 224 224"]) -> DaNetOutput:
        """Maps and body of normalised crops, refined where this predictor does so; HMR has no maps (`iuv` None)."""
        output = self.network(images.to(self.device))
        if isinstance(output, SMPLParams):
            return DaNetOutput(None, SMPLEstimate(bounded(output)))
        params = self._refined([output])
        return replace(output, smpl=replace(output.smpl, params=params))

    def params(self, images: Float[Tensor, "B 3 224 224"]) -> SMPLParams:
        """Camera, shape (within `MAX_BETA`) and pose of normalised crops, as in `output`."""
        return self.output(images).smpl.params

    @torch.inference_mode()
    def predict(
        self,
        crops: Sequence[UInt8[np.ndarray, "224 224 3"]],
        adjust: Adjust | None = None,
        with_scores: bool = False,
        follow: Follow | None = None,
        with_parts: bool = True,
    ) -> list[dict[str, np.ndarray]]:
        """The body in each crop.

        Args:
            crops: B RGB images; `datasets.transforms.crop_image` makes one of an image and a square.
            adjust: changes camera, shape and pose before bodies are made from them, as smoothing over time does. It
                is given some rows of the batch and their numbers, in their order, without those whose map is empty.
            with_scores: also give the network's raw maps.
            follow: refines rows of the batch from bodies that it knows, as `TrackStarts` does in a video; without it,
                from the network's.
            with_parts: also give centers, scales and maps of the crops about the joints.

        Returns:
            The arrays of `utils.export.people_arrays` for each crop, and the network's own `confidence`, 0..1; with
            `with_scores` also its `scores` [56,56,76], as `utils.iuvmap.dense_scores` gives them.
        """
        people: list[dict[str, np.ndarray]] = []
        for output, params in self._chunks(network_input(crops, self.normalise), follow):
            betas = output.smpl.params.betas
            if adjust is not None:
                params = _adjusted(adjust, params, np.flatnonzero(~is_empty(seen_iuv(output))), len(people))
            output = replace(output, smpl=replace(output.smpl, params=params))
            body = self.smpl(params.rotmat, params.betas)
            arrays = people_arrays(output, body, with_parts)
            confidence = self._confidence(output, body, betas, np.stack([person["iuv"] for person in arrays]))
            for row, person in enumerate(arrays):
                person["confidence"] = confidence[row]
            if with_scores:
                for person, scores in zip(arrays, dense_scores(output.iuv.iuv), strict=True):
                    person["scores"] = scores.float().cpu().numpy()
            people += arrays
        return people

    def _chunks(
        self, images: Float[Tensor, "B 3 224 224"], follow: Follow | None
    ) -> Iterator[tuple[DaNetOutput, SMPLParams]]:
        """The network's output for some rows of the batch after others, and their bodies as they are given out."""
        on_cpu, count = self.device.type == "cpu", len(images)
        chunk = PEOPLE_A_THREAD * torch.get_num_threads() if on_cpu else max(count, 1)
        together = max(REFINED_TOGETHER, chunk)
        for start in range(0, count, together):
            parts = images[start : start + together].split(chunk)
            outputs = [self.network(part.to(self.device)) for part in parts]
            params, row = self._refined(outputs, follow, start), 0
            for output, part in zip(outputs, parts, strict=True):
                yield output, params[row : row + len(part)]
                row += len(part)

    def _refined(
        self, outputs: Sequence[DaNetOutput], follow: Follow | None = None, first: int = 0
    ) -> SMPLParams:
        """The bodies of these chunks as they are given out; `first`: their first row in the batch."""
        params, refiner = bounded(joined([output.smpl.params for output in outputs], torch.cat)), self._refiner
        if refiner is None:
            return params
        # Part maps are large and no evidence.
        estimate = joined([replace(output.iuv, part_iuv=None, crops=None) for output in outputs], torch.cat)
        if follow is None:
            return refiner(estimate, params)
        rows = range(first, first + len(params))
        return follow(lambda some, before: refiner(estimate[some], params[some], before), params, rows)

    def _confidence(
        self, output: DaNetOutput, body: SMPLOutput, betas: Float[Tensor, "B 10"], seen: np.ndarray
    ) -> Float[np.ndarray, "B"]:
        cam = output.smpl.params.cam
        rendered = self._renderer.verts2uvimg(body.vertices, cam)
        has_parts = output.iuv.part_iuv is not None
        errors = center_errors(output.iuv.crops.centers, body.smpl_joints, cam) if has_parts else None
        return own_confidence(seen, rendered, errors, betas)


def _adjusted(adjust: Adjust, params: SMPLParams, shown: Int[np.ndarray, "n"], first: int) -> SMPLParams:
    """The parameters of a chunk, whose rows `shown` were adjusted; `first`: the chunk's first row in the batch."""
    if len(shown) == 0:
        return params
    changed = adjust(params[shown], [first + int(row) for row in shown])
    values = {name: getattr(params, name).clone() for name in ("cam", "betas", "rotmat")}
    for name, value in values.items():
        value[shown] = getattr(changed, name)
    return SMPLParams(**values)
