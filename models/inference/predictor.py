"""Crops of people to people: the network, the body layer, and what they say as plain arrays, person by person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.inference.confidence import bounded_betas, center_errors, is_empty, own_confidence
from models.smpl import SMPL
from utils.export import people_arrays, seen_iuv
from utils.renderer import IUV_Renderer
from utils.structures import Atlas, DaNetOutput, SMPLOutput, SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    Adjust = Callable[[SMPLParams, Sequence[int]], SMPLParams]


# People whose maps stay in the caches of a core, which makes each a sixth faster than among eight.
PEOPLE_A_THREAD = 2


class Predictor:
    """A network in its inference form and the body that it poses, on one device; any threads may share it.

    atlas: of that body.
    """

    def __init__(self, network: nn.Module, smpl: SMPL, atlas: Atlas, device: torch.device):
        self.network = network.to(device).prepare_for_inference()
        self.smpl = smpl.to(device)
        self.device = device
        self._renderer = IUV_Renderer(atlas=atlas)

    @torch.inference_mode()
    def predict(
        self, images: Float[Tensor, "B 3 224 224"], adjust: Adjust | None = None
    ) -> list[dict[str, np.ndarray]]:
        """The arrays of `utils.export.people_arrays` for each crop, and the network's own `confidence` in them.

        adjust: changes camera, shape and pose of some rows of the batch before bodies are made from them, as smoothing
        over time does; the rows come in their order, without those whose map is empty.
        """
        chunk = PEOPLE_A_THREAD * torch.get_num_threads() if self.device.type == "cpu" else len(images)
        people = []
        for start in range(0, len(images), chunk):
            rows = slice(start, min(start + chunk, len(images)))
            output = self.network(images[rows].to(self.device))
            betas, params = output.smpl.params.betas, bounded(output.smpl.params)
            if adjust is not None:
                params = _adjusted(adjust, params, np.flatnonzero(~is_empty(seen_iuv(output))), start)
            output = replace(output, smpl=replace(output.smpl, params=params))
            body = self.smpl(params.rotmat, params.betas)
            arrays = people_arrays(output, body)
            trust = self._confidence(output, body, betas, np.stack([person["iuv"] for person in arrays]))
            people += [person | {"confidence": each} for person, each in zip(arrays, trust, strict=True)]
        return people

    def _confidence(
        self, output: DaNetOutput, body: SMPLOutput, betas: Float[Tensor, "B 10"], seen: np.ndarray
    ) -> Float[np.ndarray, "B"]:
        cam = output.smpl.params.cam
        rendered = self._renderer.verts2uvimg(body.vertices, cam)
        has_parts = output.iuv.part_iuv is not None
        errors = center_errors(output.iuv.crops.centers, body.smpl_joints, cam) if has_parts else None
        return own_confidence(seen, rendered, errors, betas)


def _adjusted(
    adjust: Adjust, params: SMPLParams, shown: Int[np.ndarray, "n"], first: int
) -> SMPLParams:
    """The parameters of a chunk, whose rows `shown` were adjusted; `first`: the chunk's first row in the batch."""
    if len(shown) == 0:
        return params
    changed = adjust(params[shown], [first + int(row) for row in shown])
    values = {name: getattr(params, name).clone() for name in ("cam", "betas", "rotmat")}
    for name, value in values.items():
        value[shown] = getattr(changed, name)
    return SMPLParams(**values)


def bounded(params: SMPLParams) -> SMPLParams:
    """The same camera and pose, and the shape within what people have (`models.inference.confidence.MAX_BETA`)."""
    return replace(params, betas=bounded_betas(params.betas))
