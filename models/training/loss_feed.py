"""Which labels each loss learns from, said before a run starts: a stage that nothing feeds is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.losses import Losses, LossWeights
from models.training.step import Stage

log = logging.getLogger(__name__)

Counts = Mapping[str, Mapping[str, int]]  # data set -> kind of label -> people
UNLABELLED_LOSSES = ("cam", "Rs_orth", "loss_total")  # they compare with no label
SILENT_STEPS = 50


@dataclass(frozen=True)
class Need:
    """Losses of one weight that compare with one kind of label (those of `datasets.label_counts`)."""

    losses: str
    weights: tuple[str, ...]  # fields of `LossWeights`, which are multiplied
    label: str
    of_body: bool  # the regressor's, else the IUV estimator's

    def weight(self, weights: LossWeights) -> float:
        product = 1.0
        for name in self.weights:
            product *= getattr(weights, name)
        return product


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
    Need("keypoints_2d", ("keypoints_2d_weight", "gt_train_weight"), "2D keypoints", True),
    Need(
        "keypoints_2d of OpenPose",
        ("keypoints_2d_weight", "openpose_train_weight"),
        "OpenPose keypoints",
        True,
    ),
    Need("keypoints_3d", ("keypoints_3d_weight",), "3D joints", True),
)


def needs_of(stage: Stage) -> list[Need]:
    """The losses of a stage."""
    return [need for need in NEEDS if stage is Stage.JOINT or need.of_body is (stage is Stage.RENDERED)]


def feeding(weights: LossWeights, counts: Counts) -> dict[str, dict[str, int]]:
    """{losses with a weight above 0: {data set that feeds them: people}}."""
    return {
        need.losses: {name: has[need.label] for name, has in counts.items() if has.get(need.label)}
        for need in NEEDS
        if need.weight(weights) > 0
    }


def as_table(fed: Mapping[str, Mapping[str, int]]) -> str:
    """A line for each loss: the sets that feed it."""
    lines = [
        f"  {losses:26} {', '.join(f'{name} {count:,}' for name, count in sets.items()) or 'nobody'}"
        for losses, sets in fed.items()
    ]
    return "\n".join(["Losses, and the people whose labels feed them:", *lines])


def require_fed(weights: LossWeights, counts: Counts, stages: Sequence[Stage]) -> None:
    """Warn of losses that nobody's labels feed. Raises ValueError for a stage in which that is so of all of them."""
    fed = feeding(weights, counts)
    for stage in stages:
        needs = [need for need in needs_of(stage) if need.losses in fed]
        if not any(fed[need.losses] for need in needs):
            raise ValueError(_nothing_to_learn(stage, needs, counts))
        if stage is Stage.JOINT and not any(fed[need.losses] for need in needs if need.of_body):
            log.warning("No label feeds a loss of the body: the regressor learns nothing.")
    hungry = [need for need in NEEDS if need.losses in fed and not fed[need.losses]]
    hungry = [need for need in hungry if any(need in needs_of(stage) for stage in stages)]
    if hungry:
        told = "; ".join(f"{need.losses} ({need.label})" for need in hungry)
        log.warning("Losses that nobody has labels for, and what they would need: %s.", told)


def _nothing_to_learn(stage: Stage, needs: Sequence[Need], counts: Counts) -> str:
    what = {
        Stage.IUV: "Stage one, which trains the IUV estimator",
        Stage.RENDERED: "The stage on rendered maps",
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
        labelled = [value for name, value in losses.items() if name not in UNLABELLED_LOSSES]
        self.count = 0 if any(bool(value != 0) for value in labelled) else self.count + 1
        if self.count == SILENT_STEPS:
            log.warning(
                "All losses of the last %d steps, up to step %d, were exactly 0: nobody drawn has a label that this "
                "stage uses, and nothing is learned. See the table of losses at the start.",
                SILENT_STEPS, step,
            )  # fmt: skip
