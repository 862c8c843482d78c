"""Networks for `torch.hub`, with no file of this project in the working folder:

    predictor = torch.hub.load(REPO, "danet_s")  # REPO: "owner/name" on GitHub; a checkout: source="local"
    people = predictor("photo.jpg")
"""

from __future__ import annotations

import sys
from pathlib import Path

dependencies = ["torch", "torchvision", "numpy", "scipy", "cv2", "numba", "safetensors", "yaml", "PIL", "onnxruntime"]

ROOT = Path(__file__).resolve().parent


def danet_s(**settings):
    """A `Predictor` of the compact network with the weights that ship.

    Args:
        settings: of `models.InferenceConfig`: body ("open", "smpl", "auto"), device ("auto", "cpu", "cuda", ...),
            checkpoint (other weights of this network), data_dir, refine, backend, precision.
    """
    return _predictor(model="danet_s", **settings)


def danet(checkpoint, **settings):
    """A `Predictor` of the paper's network with a checkpoint, as those of 2020.

    Args:
        checkpoint: path of the weights; none of this size ship.
        settings: as for `danet_s`; network, a `models.DaNetConfig`, where the sizes are not the paper's.
    """
    return _predictor(checkpoint=str(checkpoint), **settings)


def _predictor(**settings):
    for name in ("models", "datasets", "utils"):
        found = sys.modules.get(name)
        places = [Path(place).resolve() for place in getattr(found, "__path__", ())]
        if found is not None and ROOT / name not in places:
            raise ImportError(
                f"A package '{name}' from {places[0].parent if places else 'elsewhere'} is loaded already, and this "
                f"project has one of the same name. Load the predictor first, or in a process of its own."
            )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # torch.hub takes it away again, but parts of the project load when first used
    from models import InferenceConfig, load_predictor

    return load_predictor(InferenceConfig(**settings))
