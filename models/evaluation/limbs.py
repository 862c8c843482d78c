"""PCK of the limbs by the torso, of the body's joints and of the estimator's joint centres (docs/method.md 11.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.evaluation.report import Score
from utils.geometry import BOX_UNIT
from utils.metrics import limb_errors, pck_of_errors
from utils.skeleton import SMPL_LIMBS
from utils.structures import Batch, DaNetOutput

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from models.evaluation.protocol import Rows

TORSO_SHARE = 0.2
LEAST_TORSO = 1 / 40  # of the crop's side


def to_image(points: Float[Tensor, "B J 2"], batch: Batch) -> Float[np.ndarray, "B J 2"]:
    """Points in [-1, 1] of the crops, in pixels of their images."""
    half = (BOX_UNIT / 2 * batch.scale.double())[:, None, None]
    return (batch.center.double()[:, None] + points.double() * half).cpu().numpy()


def center_rows(output: DaNetOutput, batch: Batch) -> Rows:
    """The estimator's centres of the limbs' joints in pixels of the image, [B, 12, 2]; a network without has no row."""
    return {} if output.iuv is None else {"centers": to_image(output.iuv.centers[:, SMPL_LIMBS], batch)}


def limb_scores(
    joints: Float[np.ndarray, "N 12 2"],
    centers: Float[np.ndarray, "N 12 2"] | None,
    true: Float[np.ndarray, "N 17 3"],
    scale: Float[np.ndarray, "N"],
) -> tuple[Score, ...]:
    """PCK of body and centres; none where no keypoint is labelled.

    Args:
        joints, centers: predictions in pixels of the images; NaN for people who were not scored.
        true: labelled keypoints in COCO's order, and above 0 where labelled.
        scale: of the people's boxes (side / 200 px).
    """
    if not (true[..., 2] > 0).any():
        return ()
    points = {"body": joints} | ({} if centers is None else {"centres": centers})
    least = LEAST_TORSO * BOX_UNIT * np.asarray(scale)
    return tuple(
        Score(f"PCK@{TORSO_SHARE:g} {what}", pck_of_errors(limb_errors(given, true, least), TORSO_SHARE))
        for what, given in points.items()
    )
