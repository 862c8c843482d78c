"""Scores of predictions; they know neither networks nor losses. Metres in, metres out (printed in mm elsewhere).

docs/method.md 11. The functions on tensors take whole batches and give one number a sample. A sample that holds
values that are not finite scores NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.skeleton import COCO17_LIMBS
from utils.structures import IUVMaps

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8

UNKNOWN = 255  # pixels of an LSP part image without a label


# ------------------------------------------------------------------------------------------- distances in space


def per_joint_error(pred: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J"]:
    """Distance of corresponding joints, metres; the caller aligns the roots. Raises ValueError for unlike shapes."""
    if pred.shape != target.shape:
        raise ValueError(f"Expected points of one shape, got {tuple(pred.shape)} and {tuple(target.shape)}.")
    return (pred - target).norm(dim=-1)


def mpjpe(pred: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Float[Tensor, "B"]:
    """Mean distance of corresponding joints, metres; the caller aligns the roots."""
    return per_joint_error(pred, target).mean(dim=-1)


def pve(pred_vertices: Float[Tensor, "B V 3"], true_vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B"]:
    """Mean distance of corresponding vertices, metres; the caller aligns the roots."""
    return per_joint_error(pred_vertices, true_vertices).mean(dim=-1)


@functools.cache
def _rotation_forms() -> Float[Tensor, "9 16"]:
    """Rotation matrices as quadratic forms of the unit quaternion (w, x, y, z): R[r, c] = q' F[3r + c] q."""
    forms = torch.zeros(3, 3, 4, 4, dtype=torch.float64)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        forms[i, i].diagonal()[:] = torch.tensor([1.0 if n in (0, i + 1) else -1.0 for n in range(4)])
        for row, column, sign in ((i, j, -1.0), (j, i, 1.0)):
            for a, b, value in ((i + 1, j + 1, 1.0), (0, k + 1, sign)):
                forms[row, column, a, b] = forms[row, column, b, a] = value
    return forms.view(9, 16)


def similarity_align(
    source: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]
) -> Float[Tensor, "B J 3"]:
    """`source` after the least-squares rotation, scale and shift onto `target` (Procrustes, never a reflection).

    The rotation is the unit quaternion that maximises a quadratic form, an eigenvector of a 4x4 matrix (Horn
    1987): the answer of the reflection-corrected SVD, to rounding, in fewer steps. Points on one line or in one
    place leave the rotation open; any of the best is taken, all of which give the same distances.
    """
    mean_source, mean_target = source.mean(dim=1, keepdim=True), target.mean(dim=1, keepdim=True)
    x, y = source - mean_source, target - mean_target
    forms = _rotation_forms().to(x)
    quadratic = ((x.transpose(1, 2) @ y).flatten(1) @ forms).view(-1, 4, 4)
    # A broken sample must not stop the solver; its own points stay NaN.
    values, vectors = torch.linalg.eigh(quadratic.nan_to_num(0.0, 0.0, 0.0))
    quat = vectors[..., -1]
    rotation = ((quat[:, :, None] * quat[:, None]).flatten(1) @ forms.T).view(-1, 3, 3)
    scale = values[:, -1] / x.square().sum(dim=(1, 2)).clamp(min=1e-12)
    return torch.baddbmm(mean_target, x, scale[:, None, None] * rotation)


def pa_mpjpe(pred: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Float[Tensor, "B"]:
    """MPJPE after similarity alignment (Procrustes), metres; computed in float64 for near-singular point sets."""
    pred, target = pred.double(), target.double()
    return mpjpe(similarity_align(pred, target), target).float()


# ----------------------------------------------------------------------------------------- distances in images


def pck(
    pred: Float[Tensor, "B J 2"],
    target: Float[Tensor, "B J 2"],
    visible: Tensor,
    size: Float[Tensor, "B"],
    threshold: float,
) -> Float[Tensor, "B"]:
    """Share of the visible keypoints at most `threshold * size` away; NaN where no keypoint is visible.

    Args:
        pred, target: points of one unit.
        visible: [B, J], bool or a confidence above 0.
        size: what the distance is measured by (side of the box, head length, ...), in the unit of the points.
        threshold: a share of it.
    """
    visible = visible > 0
    right = per_joint_error(pred, target) <= threshold * size[:, None]
    return (right & visible).sum(dim=1) / visible.sum(dim=1)


SHOULDERS, HIPS = [5, 6], [11, 12]  # among COCO's 17


def limb_errors(
    points: Float[np.ndarray, "N 12 2"], true: Float[np.ndarray, "N 17 3"], least: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N 12"]:
    """Distances of the joints of the limbs from labelled ones, as shares of the torso (docs/method.md 11.5).

    NaN for joints that are not labelled, and for people without a labelled shoulder or hip.

    Args:
        points: in the order of `skeleton.COCO17_LIMBS`.
        true: COCO's 17 keypoints: x, y in the unit of the points, and above 0 where labelled.
        least: a torso that the camera foreshortens to less counts as this long.
    """
    seen = true[..., 2] > 0
    middles = []
    for pair in (SHOULDERS, HIPS):
        count = seen[:, pair].sum(axis=1, keepdims=True)
        total = (true[:, pair, :2] * seen[:, pair, None]).sum(axis=1)
        middles.append(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))
    torso = np.maximum(np.linalg.norm(middles[0] - middles[1], axis=1), least)
    limbs = list(COCO17_LIMBS)
    errors = np.linalg.norm(points - true[:, limbs, :2], axis=2) / torso[:, None]
    return np.where(seen[:, limbs], errors, np.nan)


def pck_of_errors(errors: Float[np.ndarray, "*N"], threshold: float) -> float:
    """Share of the errors that are below the threshold, over all people and joints; NaN where there is none."""
    known = errors[np.isfinite(errors)]
    return float((known < threshold).mean()) if known.size else float("nan")


def mask_iou(pred: Bool[np.ndarray, "*B H W"], true: Bool[np.ndarray, "*B H W"]) -> Float[np.ndarray, "*B"]:
    """Intersection over union of masks; 0 where both are empty."""
    both, either = (pred & true).sum(axis=(-2, -1)), (pred | true).sum(axis=(-2, -1))
    return both / np.maximum(either, 1)


# --------------------------------------------------------------------------------------------------- per action


def action_of(imgname: str) -> str:
    """The action in the name of a Human3.6M image: "images/S9_Walking_1.54138969_000001.jpg" -> "Walking".

    Raises ValueError for a name without one.
    """
    words = imgname.replace("\\", "/").rsplit("/", 1)[-1].split(".")[0].split("_")
    if len(words) < 2 or not words[1]:
        raise ValueError(
            f"The image name '{imgname}' names no action: expected Human3.6M's form "
            "'S9_Walking_1.54138969_000001.jpg', with the action after the first underscore."
        )
    return words[1]


def by_action(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Mean value of each action, in alphabetical order; NaN values (images without a score) are left out.

    Raises ValueError for a name without action and for unlike numbers of names and values.
    """
    if len(names) != len(values):
        raise ValueError(f"Expected one value an image, got {len(values)} for {len(names)} images.")
    actions = np.array([action_of(str(name)) for name in names], dtype=str)
    scores = np.asarray(values, dtype=np.float64)
    scored = np.isfinite(scores)
    means = {}
    for action in sorted(set(actions.tolist())):
        chosen = scores[scored & (actions == action)]
        means[action] = float(chosen.mean()) if len(chosen) else float("nan")
    return means


# ------------------------------------------------------------------------------------------------ label maps


def confusion_counts(
    pred: UInt8[np.ndarray, "H W"], target: UInt8[np.ndarray, "H W"], classes: int
) -> Int[np.ndarray, "classes+1 classes"]:
    """Pixels by (true class, predicted class); the last row holds those whose truth is UNKNOWN (255).

    Add the counts of all images, then call `accuracy` and `mean_f1`. Masks count with `classes` 2, the six body
    parts and the background with 7. Raises ValueError for unlike sizes and for labels outside the classes.
    """
    pred, target = np.asarray(pred), np.asarray(target)
    if pred.shape != target.shape:
        raise ValueError(
            f"The predicted labels are {pred.shape} but the true ones {target.shape}; "
            "map the prediction back to the image first."
        )
    for what, labels in (("predicted", pred), ("true", target[target != UNKNOWN])):
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"The {what} labels span {labels.min()}..{labels.max()}, expected 0..{classes - 1}"
                + (f" or {UNKNOWN} for unknown." if what == "true" else ".")
            )
    truth = np.where(target == UNKNOWN, classes, target).astype(np.int64)
    flat = truth.reshape(-1) * classes + pred.reshape(-1).astype(np.int64)
    return np.bincount(flat, minlength=(classes + 1) * classes).reshape(classes + 1, classes)


def accuracy(counts: Int[np.ndarray, "classes+1 classes"]) -> float:
    """Share of equal pixels of `confusion_counts`; NaN without pixels.

    An unknown pixel counts as true background: it stays in the denominator and is right where the prediction
    says background.
    """
    total = int(counts.sum())
    return float(np.trace(counts[:-1]) + counts[-1, 0]) / total if total else float("nan")


def mean_f1(counts: Int[np.ndarray, "classes+1 classes"]) -> float:
    """Mean over the classes, background included, of F1 = 2 TP / (2 TP + FP + FN).

    An unknown pixel is taken out of the prediction of every class, so that it is no hit, no false alarm and no
    miss. A class that neither map holds (0 / 0) has no F1 and is left out of the mean.
    """
    known = counts[:-1].astype(np.float64)
    both = known.sum(axis=0) + known.sum(axis=1)  # 2 TP + FP + FN
    found = both > 0
    return float((2 * np.diag(known)[found] / both[found]).mean()) if found.any() else float("nan")


# ------------------------------------------------------------------------------------------------------ IUV maps


def iuv_scores(pred: IUVMaps, target: IUVMaps) -> dict[str, Float[Tensor, "B"]]:
    """Foreground IoU, part accuracy on the true foreground, and U/V error where the part is right.

    Maps are [B,25,H,W]. An image without a body scores NaN, so that a mean can leave it out.
    """
    pred_part, part = pred.index.argmax(dim=1), target.index.argmax(dim=1)
    pred_body, body = pred_part > 0, part > 0
    right = body & (pred_part == part)

    def at_part(maps: Tensor) -> Tensor:
        return maps.gather(1, part[:, None])[:, 0]

    error = ((at_part(pred.u) - at_part(target.u)).abs() + (at_part(pred.v) - at_part(target.v)).abs()) / 2

    def per_sample(values: Tensor, count: Tensor) -> Tensor:
        return values.flatten(1).sum(dim=1).double().div(count.flatten(1).sum(dim=1)).float()

    return {
        "foreground_iou": per_sample(pred_body & body, pred_body | body),
        "part_accuracy": per_sample(right, body),
        "uv_error": per_sample(error * right, right),
    }
