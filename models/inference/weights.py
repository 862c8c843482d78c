"""Settings of inference, and from a weights file to its network: which one it belongs to, building it, loading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from models.danet import PRESETS, DaNet, DaNetConfig, build_danet, network_of_weights, preset
from models.inference.backends import BACKENDS, PRECISIONS
from utils.body import BODY_CHOICES, OPEN_DIR
from utils.checkpoint import LoadReport, load_checkpoint, load_danet, strip_prefixes
from utils.config import group, option
from utils.io import safetensors_shapes

SHIPPED = "danet_s"
_OF_WEIGHTS = DaNetConfig()  # stands for the network of the weights, until those are looked at


def network_of(model: str | None, checkpoint: str | None) -> DaNetConfig:
    """Sizes of the named network, or of the one that the checkpoint belongs to; of the shipped one without either.

    Raises:
        ValueError: an unknown name, a damaged file.
    """
    if model not in (None, SHIPPED) or checkpoint is None or not Path(checkpoint).is_file():
        return preset(model or SHIPPED)
    path = Path(checkpoint)
    if path.suffix != ".safetensors":
        state = strip_prefixes(load_checkpoint(path)["model"], path)
        seen = network_of_weights({key: tuple(value.shape) for key, value in state.items()})
    else:
        shapes, words = safetensors_shapes(path)  # of the header; the tensors are not read
        seen = preset("danet") if words.get("model") == "danet" else network_of_weights(shapes)
    of_other_model = model == SHIPPED and seen.backbone not in ("movenet", "thunder")
    return preset(SHIPPED) if of_other_model else seen


@dataclass(frozen=True)
class WeightsConfig:
    """Settings of every program that loads weights."""

    regressor: ClassVar[str] = "danet"  # evaluations make it a field

    checkpoint: str | None = option(None, "weights (.pt or .safetensors); default: the shipped ones")
    model: str | None = option(None, "the network of the weights; default: seen from them", choices=PRESETS)
    data_dir: str = option(str(OPEN_DIR.parent), "folder of the licensed files")
    network: DaNetConfig = group(lambda: _OF_WEIGHTS, preset_by=("model", "checkpoint"), preset=network_of)

    def __post_init__(self):
        if self.regressor == "danet" and self.checkpoint is None and self.model not in (None, SHIPPED):
            raise ValueError(f"No weights for '{self.model}' ship with the project; give --checkpoint FILE.")
        if self.network is _OF_WEIGHTS:
            object.__setattr__(self, "network", network_of(self.model, self.checkpoint))


@dataclass(frozen=True)
class InferenceConfig(WeightsConfig):
    """Settings of every program that runs a network: its weights, the body that it poses, the device."""

    body: str = option("auto", "official files, the open body, or the first if there", choices=BODY_CHOICES)
    refine: bool | None = option(
        None,
        "move bodies to agree with the network's own maps; default: for weights learned on the open body",
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    backend: str = option("auto", "torch, or openvino on the CPU; auto: openvino where installed", choices=BACKENDS)
    precision: str = option("fp32", "of the network; bf16 where the device computes in it", choices=PRECISIONS)


def load_network(config: WeightsConfig) -> tuple[DaNet, LoadReport]:
    """Build the network of the settings on the CPU and load its weights.

    Raises:
        FileNotFoundError: there is no such file, or the checkout lacks the shipped weights.
        ValueError: a damaged file, or weights of another network.
    """
    network = build_danet(config.network, config.data_dir)
    return network, load_danet(network, weights_file(config.checkpoint))


def weights_file(checkpoint: str | None) -> Path:
    """The user's weights, or the shipped ones.

    Raises:
        FileNotFoundError: the checkout lacks the shipped ones.
    """
    path = Path(checkpoint) if checkpoint else OPEN_DIR / f"{SHIPPED}.safetensors"
    if checkpoint is None and not path.is_file():
        raise FileNotFoundError(
            f"The shipped weights {path} are missing. They come with the repository: restore them with "
            "'git checkout -- data/open', clone it again, or give other weights by --checkpoint FILE."
        )
    return path
