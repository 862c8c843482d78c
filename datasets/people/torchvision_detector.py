"""Person detection by networks of torchvision, whose weights are not part of this project.

Two networks are known, distinguished by the keys of the weights file: Keypoint R-CNN (ResNet-50 FPN, boxes and 17 COCO
keypoints) and Faster R-CNN (ResNet-50 FPN, boxes of the 91 COCO classes, of which people count). Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import detection

from datasets.people.detector import POSSIBLE
from utils.images import to_tensor
from utils.io import load_torch
from utils.people import Detection
from utils.unused import Unused

if TYPE_CHECKING:
    from jaxtyping import UInt8

MIN_SCORE = 0.5  # people below are passed over, as in lists of COCO detections
PERSON = 1  # the label in both networks
LONGER_SIDE = 1333  # px; torchvision shrinks larger images to it
KEYPOINT_PREFIX, BOX_PREFIX = "roi_heads.keypoint_head.", "roi_heads.box_predictor."
PUBLISHED = (
    detection.KeypointRCNN_ResNet50_FPN_Weights.DEFAULT,  # the first of them that is there is used
    detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT,
)


class TorchvisionDetector:
    """A detector of torchvision in evaluation mode, on the CPU."""

    def __init__(self, model: Callable[[list[Tensor]], list[dict[str, Tensor]]], min_score: float = MIN_SCORE):
        """
        Args:
            model: takes a list of images [3,H,W] in 0..1 and gives for each boxes (x1, y1, x2, y2), labels, scores
                and perhaps keypoints [N,17,3] with keypoints_scores [N,17].
            min_score: people below are passed over.
        """
        self.model, self.min_score, self.unused = model, min_score, Unused()

    @torch.inference_mode()
    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        """People, best first. A keypoint's confidence is the sigmoid of its heat map's highest value, a logit."""
        if min(image.shape[:2]) * LONGER_SIDE < max(image.shape[:2]):
            return []  # less than a pixel would be left of the shorter side
        found = self.model([to_tensor(image.copy())])[0]  # images from files are read-only
        people = (found["labels"] == PERSON) & found["boxes"].isfinite().all(dim=1)
        chosen = people & (found["scores"] >= self.min_score)
        unsure = f"people whom the detector gives a score from {POSSIBLE:g} to {self.min_score:g} only"
        self.unused.add(unsure, int((people & ~chosen & (found["scores"] >= POSSIBLE)).sum()))
        corners = found["boxes"][chosen].double()
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1).tolist()
        scores = found["scores"][chosen].tolist()
        keypoints: list[np.ndarray | None] = [None] * len(boxes)
        if "keypoints" in found:
            confidence = found["keypoints_scores"][chosen].sigmoid()
            xy = found["keypoints"][chosen][..., :2]
            keypoints = list(torch.cat([xy, confidence[..., None]], dim=-1).float().numpy())
        return [Detection(tuple(b), s, k) for b, s, k in zip(boxes, scores, keypoints, strict=True)]


def load_torchvision(weights: str | Path | None = None) -> TorchvisionDetector:
    """The detector of a weights file; None takes torchvision's published files from its cache.

    Raises ValueError when there is no such file or it holds neither network.
    """
    path = _cached() if weights is None else Path(weights)
    if not path.is_file():
        raise ValueError(f"There is no weights file '{path}' for the detector torchvision. {_where_to_get()}")
    return TorchvisionDetector(_network(path))


def cache_folder() -> Path:
    """Folder of torchvision's downloads; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _cached() -> Path:
    files = [cache_folder() / Path(published.url).name for published in PUBLISHED]
    for file in files:
        if file.is_file():
            return file
    names = " nor ".join(f"'{file}'" for file in files)
    raise ValueError(
        "The detector torchvision needs weights that are not part of this project: there is neither "
        f"{names}. {_where_to_get()}"
    )


def _where_to_get() -> str:
    urls = " (boxes and keypoints) or ".join(published.url for published in PUBLISHED)
    return (
        f"Nothing is downloaded here: fetch {urls} (boxes) yourself, and give it with --detector_weights FILE or put "
        f"it into '{cache_folder()}'; --detector movenet needs no such file."
    )


def _network(path: Path) -> nn.Module:
    state = load_torch(path)
    names = [name for name in state if isinstance(name, str)] if isinstance(state, dict) else []
    if not any(name.startswith(BOX_PREFIX) for name in names):
        raise ValueError(
            f"'{path}' holds no detector of torchvision: expected the plain state dict of Keypoint R-CNN or Faster "
            f"R-CNN (ResNet-50 FPN), with keys such as '{BOX_PREFIX}cls_score.weight'."
        )
    has_keypoints = any(name.startswith(KEYPOINT_PREFIX) for name in names)
    build = detection.keypointrcnn_resnet50_fpn if has_keypoints else detection.fasterrcnn_resnet50_fpn
    model = build(weights=None, weights_backbone=None)
    try:
        model.load_state_dict(dict(state))  # strict; torchvision itself renames the keys of older files
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"'{path}' does not fit torchvision's {build.__name__}: {_brief(error)}") from error
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0  # the published weights were trained so, and torchvision sets it for them
    return model.eval()


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()] or [str(error)]
    return "; ".join(line if len(line) <= 160 else line[:160] + " ..." for line in lines[:2])
