"""Crops of people to people: the network, the body layer, and what they say as plain arrays, person by person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.smpl import SMPL
from utils.export import people_arrays
from utils.structures import SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Adjust = Callable[[SMPLParams, slice], SMPLParams]


# People whose maps stay in the caches of a core, which makes each a sixth faster than among eight.
PEOPLE_A_THREAD = 2


class Predictor:
    """A network in its inference form and the body that it poses, on one device; any threads may share it."""

    def __init__(self, network: nn.Module, smpl: SMPL, device: torch.device):
        self.network = network.to(device).prepare_for_inference()
        self.smpl = smpl.to(device)
        self.device = device

    @torch.inference_mode()
    def predict(
        self, images: Float[Tensor, "B 3 224 224"], adjust: Adjust | None = None
    ) -> list[dict[str, np.ndarray]]:
        """The arrays of `utils.export.people_arrays` for each crop.

        adjust: changes camera, shape and pose of some rows of the batch before bodies are made from them, as smoothing
        over time does; the rows come in their order.
        """
        chunk = PEOPLE_A_THREAD * torch.get_num_threads() if self.device.type == "cpu" else len(images)
        people = []
        for start in range(0, len(images), chunk):
            rows = slice(start, min(start + chunk, len(images)))
            output = self.network(images[rows].to(self.device))
            if adjust is not None:
                output = replace(output, smpl=replace(output.smpl, params=adjust(output.smpl.params, rows)))
            body = self.smpl(output.smpl.params.rotmat, output.smpl.params.betas)
            people += people_arrays(output, body)
        return people
