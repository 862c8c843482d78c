"""Which labels each loss learns from: a stage that no label feeds is refused before a run starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.losses import Losses, LossWeights
from models.training.stages import Stage

log = logging.getLogger(__name__)

Counts = Mapping[str, Mapping[str, int]]  # data set -> kind of label -> people
UNLABELLED_LOSSES = ("cam", "Rs_orth", "loss_keypoint_features", "loss_total")  # they compare with no label
SILENT_STEPS = 50


@dataclass(frozen=True)
class Need:
    """Losses of one weight that compare with one kind of label."""

    losses: str
    weights: tuple[str, ...]  # fields of `LossWeights`, which are multiplied
    label: str  # of `datasets.label_counts`
    is_of_body: bool  # a loss of the regressor; otherwise of the estimator

    def counts_in(self, stage: Stage) -> bool:
        """Whether the stage has these losses."""
        return stage.trains_regressor if self.is_of_body else stage.trains_estimator


_2D = "keypoints_2d_weight"
NEEDS = (
    Need("U, V, pU, pV", ("uv_weight",), "rendered maps", False),
    Need("IndexUV, pIndexUV", ("index_weight",), "rendered maps", False),
    Need("segAnn", ("ann_weight",), "rendered maps", False),
    Need("Udp, Vdp", ("uv_weight",), "annotated points", False),
    Need("IndexUVdp", ("point_index_weight",), "annotated points", False),
    Need("segAnndp", ("point_ann_weight",), "annotated points", False),
    Need("roi", ("roi_weight",), "joint centres", False),
    Need("hm", ("heatmap_weight",), "joint centres", False),
    Need("smpl_pose, joint_rotation", ("rotation_weight",), "bodies", True),
    Need("smpl_betas", ("betas_weight",), "bodies", True),
    Need("joint_position", ("position_weight",), "bodies", True),
    Need("smpl_verts", ("verts_weight",), "bodies", True),
    Need("keypoints_2d", (_2D, "gt_train_weight"), "2D keypoints", True),
    Need("keypoints_2d of OpenPose", (_2D, "openpose_train_weight"), "OpenPose keypoints", True),
    Need("keypoints_3d", ("keypoints_3d_weight",), "3D joints", True),
)


def feeding(weights: LossWeights, counts: Counts) -> dict[str, dict[str, int]]:
    """{losses with a weight above 0: {data set that feeds them: people}}."""
    return {
        need.losses: {name: has[need.label] for name, has in counts.items() if has.get(need.label)}
        for need in NEEDS
        if math.prod(getattr(weights, name) for name in need.weights) > 0
    }


def as_table(fed: Mapping[str, Mapping[str, int]]) -> str:
    """Text with a line for each loss: the sets that feed it, with their numbers of people."""
    lines = [
        f"  {losses:26} {', '.join(f'{name} {count:,}' for name, count in sets.items()) or 'no labels'}"
        for losses, sets in fed.items()
    ]
    return "\n".join(["Losses, and the people whose labels feed them:", *lines])


def require_fed(weights: LossWeights, counts: Counts, stages: Sequence[Stage]) -> None:
    """Warn of losses that no label feeds. Raises ValueError for a stage in which that is so of all of them."""
    fed, hungry = feeding(weights, counts), {}
    for stage in stages:
        needs = [need for need in NEEDS if need.losses in fed and need.counts_in(stage)]
        if not any(fed[need.losses] for need in needs):
            raise ValueError(_nothing_to_learn(stage, needs, counts))
        of_body = [need for need in needs if need.is_of_body]
        if stage is Stage.JOINT and not any(fed[need.losses] for need in of_body):
            log.warning("No label feeds a loss of the body: the regressor learns nothing.")
        hungry |= {need.losses: need.label for need in needs if not fed[need.losses]}
    if hungry:
        listed = "; ".join(f"{losses} ({label})" for losses, label in hungry.items())
        log.warning("Losses without labels, and what they would need: %s.", listed)


def _nothing_to_learn(stage: Stage, needs: Sequence[Need], counts: Counts) -> str:
    what = {
        Stage.IUV: "Stage one, which trains the IUV estimator",
        Stage.RENDERED: "The stage on rendered maps",
        Stage.ESTIMATED: "The stage on the estimator's maps",
        Stage.JOINT: "Stage two",
    }[stage]
    if not needs:
        return f"{what}, would learn nothing: the weights of all its losses are 0."
    wanted = " or ".join(dict.fromkeys(need.label for need in needs))
    have = "; ".join(f"{name}: {', '.join(has) or 'nothing'}" for name, has in counts.items())
    skip = " Or skip the stage: --pretr_step 0." if stage is Stage.IUV else ""
    return (
        f"{what}, would learn nothing: its losses need {wanted}, but the data have labels of other kinds only "
        f"({have}). Labels of pose and shape count for the SMPL body alone, so give that body's files, or add a set "
        f"that has what is needed, such as synthetic or dp_coco in --train_data.{skip}"
    )


class SilentSteps:
    """Counts steps in a row in which no label gave any loss, and warns once they are many."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, losses: Losses, step: int) -> None:
        """Update the count by the losses of a step; warn when it is high."""
        labelled = [value for name, value in losses.items() if name not in UNLABELLED_LOSSES]
        self.count = 0 if any(bool(value != 0) for value in labelled) else self.count + 1
        if self.count == SILENT_STEPS:
            log.warning(
                "All losses of the last %d steps, up to step %d, were exactly 0: no person drawn has a label that this "
                "stage uses, and nothing is learned. See the table of losses at the start.",
                SILENT_STEPS, step,
            )  # fmt: skip
