"""Confidence of a predicted person, 0..1, from maps, body, shape and detected keypoints (docs/method.md 12.3).

Where a prediction is good, the parts that the network sees agree with those of its body, the centres of its part crops
with the body's joints, and these with a detector's keypoints; they disagree where a person lies, is cut or is none. A
shape at the bound of people's shapes tells of an image unlike those of training. Scales were set on labelled
photographs; `benchmarks/score_confidence.py` measures what they are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.fitting.evidence import MIN_SEEN
from models.fitting.points import MAX_BETA
from utils.geometry import BOX_UNIT, project_to_crop
from utils.skeleton import GT24_TO_COCO17, NUM_PARTS, OPENPOSE25_NAMES

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

LOW_CONFIDENCE = 0.5  # people below are named
SURE_BETA = 2.0  # from here to MAX_BETA, confidence falls to the half
FULL_AGREEMENT = 0.65  # of the pixels of seen and predicted body; contours of 56 px maps never agree wholly
CENTER_ERROR, KEYPOINT_ERROR = 0.12, 0.25  # in halves of the crop's side, where confidence falls to 1/e
SURE = 0.2  # keypoints with less confidence are not counted
COCO17_FROM_49 = [len(OPENPOSE25_NAMES) + joint for joint in GT24_TO_COCO17]


def own_confidence(
    seen: UInt8[np.ndarray, "B 3 H W"],
    rendered: Float[Tensor, "B 3 H W"],
    center_error: Float[Tensor, "B"] | None,
    betas: Float[Tensor, "B 10"],
) -> Float[np.ndarray, "B"]:
    """Confidence without keypoints: mean agreement of parts and of centres, less for shapes beyond SURE_BETA.

    Args:
        seen: the network's maps as bytes, as `utils.export.pack_iuv` gives them; where they are empty, it is 0.
        rendered: IUV images of the predicted bodies.
        center_error: as `center_errors` gives it; None for a network without parts.
        betas: as regressed, before any bound.
    """
    parts = (rendered[:, 0] * NUM_PARTS).round().to(torch.uint8).cpu().numpy()
    either = ((seen[:, 0] > 0) | (parts > 0)).sum(axis=(1, 2))
    same = ((seen[:, 0] == parts) & (parts > 0)).sum(axis=(1, 2))
    agreement = np.minimum(same / np.maximum(either, 1) / FULL_AGREEMENT, 1)
    if center_error is not None:
        agreement = (agreement + np.exp(-((center_error.double().cpu().numpy() / CENTER_ERROR) ** 2))) / 2
    largest = betas.abs().amax(dim=1).double().cpu().numpy()
    shape = 1 - np.clip((largest - SURE_BETA) / (MAX_BETA - SURE_BETA), 0, 1) / 2
    return np.where(is_empty(seen), 0, agreement * shape).astype(np.float32)


def center_errors(
    centers: Float[Tensor, "B 24 2"], joints: Float[Tensor, "B 24 3"], cam: Float[Tensor, "B 3"]
) -> Float[Tensor, "B"]:
    """Median distance of part crops' centres from the body's joints (metres), in halves of the crop's side."""
    return (project_to_crop(joints, cam) - centers).norm(dim=-1).median(dim=1).values


def with_keypoints(
    arrays: Mapping[str, np.ndarray],
    keypoints: Float[np.ndarray, "17 3"] | None,
    center: tuple[float, float],
    scale: float,
) -> float:
    """Mean of a person's own confidence and of the nearness of detected keypoints to the body.

    Args:
        arrays: as `Predictor.predict` gives them.
        keypoints: x, y in the image and confidence, by which they count; without a sure one, or for an empty map, the
            own confidence is the result.
        center: of the crop's square, pixels of the image.
        scale: side of the square / 200 px.
    """
    own = float(arrays["confidence"])
    sure = np.zeros(0, bool) if keypoints is None else keypoints[:, 2] >= SURE
    if own == 0 or not sure.any():
        return own
    joints = torch.from_numpy(arrays["joints"][COCO17_FROM_49])
    body = project_to_crop(joints[None], torch.from_numpy(arrays["cam"])[None])[0].numpy()
    seen = (keypoints[:, :2] - np.asarray(center)) / (BOX_UNIT * scale / 2)
    near = np.exp(-((np.linalg.norm(seen - body, axis=1) / KEYPOINT_ERROR) ** 2))
    return (own + float(np.average(near[sure], weights=keypoints[sure, 2]))) / 2


def why_no_body(arrays: Mapping[str, np.ndarray]) -> str:
    """The reason why a person's arrays must not be written as a body; empty when they may."""
    if not (np.isfinite(arrays["vertices"]).all() and np.isfinite(arrays["cam"]).all()):
        return "is not finite; the weights may be damaged"
    if arrays["cam"][0] <= 0:
        return "has a camera whose scale is not positive: its body would stand behind the camera"
    if is_empty(arrays["iuv"]):
        return "shows no person: the network's own map is empty"
    return ""


def is_empty(seen: UInt8[np.ndarray, "*B 3 H W"]) -> np.ndarray:
    """Whether a map shows less of a body than MIN_SEEN."""
    return (seen[..., 0, :, :] > 0).mean(axis=(-2, -1)) < MIN_SEEN
