"""Who computes a network, and in which precision: torch or OpenVINO, float32 or bfloat16 (docs/demo.md, Speed)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.danet import DaNet
from models.fuse_batch_norm import fold_batch_norm
from models.inference.openvino_network import OpenVinoError, openvino_network
from utils.packages import is_installed, require_packages
from utils.runtime import has_bfloat16

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float

    from utils.structures import DaNetOutput, SMPLParams

    Network = Callable[[Tensor], DaNetOutput | SMPLParams]

log = logging.getLogger(__name__)

BACKENDS, PRECISIONS = ("auto", "torch", "openvino"), ("fp32", "bf16")


@dataclass(frozen=True)
class Form:
    """How a network is computed."""

    backend: str  # "torch" or "openvino"
    precision: str  # "fp32" or "bf16"
    is_asked: bool = True  # the user named the back-end; otherwise torch stands in where OpenVINO fails

    def __str__(self) -> str:
        return f"{self.backend}, {self.precision}"


def choose_form(backend: str, precision: str, device: torch.device) -> Form:
    """The form of the settings that this machine has; logs where it lacks bfloat16.

    Args:
        backend: one of `BACKENDS`; "auto" is OpenVINO where it is installed, the device the CPU and the precision
            fp32, else torch.
        precision: one of `PRECISIONS`; fp32 is taken where the device does not compute in bfloat16.
        device: of the work.

    Raises:
        ImportError: OpenVINO is asked for and not installed.
        ValueError: an unknown name; OpenVINO is asked for, and the device is not the CPU.
    """
    if backend not in BACKENDS or precision not in PRECISIONS:
        raise ValueError(
            f"backend is one of {', '.join(BACKENDS)} and precision of {', '.join(PRECISIONS)}; got {backend!r} and "
            f"{precision!r}."
        )
    if backend == "openvino":
        if device.type != "cpu":
            raise ValueError(
                f"--backend openvino computes on the CPU, and the device is {device}: give --device cpu, or "
                "--backend torch."
            )
        require_packages("--backend openvino", "openvino", "openvino")
    if precision == "bf16" and not has_bfloat16(device):
        log.warning("The device %s does not compute in bfloat16: the network runs in fp32.", device)
        precision = "fp32"
    if backend != "auto":
        return Form(backend, precision)
    is_exact = device.type == "cpu" and precision == "fp32"
    return Form("openvino" if is_exact and is_installed("openvino") else "torch", precision, is_asked=False)


def in_form(network: nn.Module, form: Form, identity: str = "") -> tuple[Network, Form]:
    """A loaded network in its form for inference, and that form: torch's where OpenVINO was not asked for and fails.

    Args:
        network: on its device; it may be changed.
        form: as `choose_form` gives it.
        identity: text about the network that neither its weights nor the project's code tell, as its settings.

    Raises:
        OpenVinoError: OpenVINO was asked for, and its numbers are others or it cannot run the network.
    """
    network.eval().requires_grad_(False)
    if form.backend == "openvino":
        try:
            return openvino_network(network, form.precision, identity), form
        except OpenVinoError as error:
            if form.is_asked:
                raise
            log.warning("%s The network runs by torch.", error)
            form = Form("torch", form.precision)
    if form.precision == "bf16":
        return Bfloat16Network(network), form
    return network.prepare_for_inference() if isinstance(network, DaNet) else network, form


class Bfloat16Network(nn.Module):
    """A network whose convolutions and matrix products are computed in bfloat16 by torch.

    Its maps leave their heads in float32, so that joint centres, crops and rotations keep their precision.

    Args:
        network: in evaluation mode, on its device; it is changed.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        if isinstance(network, DaNet):
            fold_batch_norm(network)
            for head in network.img2iuv.iuv_est.final_pred.children():
                head.register_forward_hook(lambda module, args, output: output.float())
        network.to(memory_format=torch.channels_last)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.to(torch.bfloat16)  # once, not in each call

    def forward(self, image: Float[Tensor, "B 3 224 224"]) -> DaNetOutput | SMPLParams:
        """The network's output, all of it in float32."""
        with torch.autocast(image.device.type, torch.bfloat16):
            return self.network(image).map(Tensor.float)
