"""Counts of the people of a mix by the labels that they have, and of the labels that a run does not use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.fits import Fits, fit_paths
from datasets.labelled_people import LabelledPeople
from datasets.mixed_dataset import MixedDataset
from utils.skeleton import NUM_KEYPOINTS, NUM_OPENPOSE

if TYPE_CHECKING:
    from jaxtyping import Bool

# Kinds of labels, as the losses need them (`models.training.loss_feed`).
MAPS, POINTS, CENTERS, BODIES = "rendered maps", "annotated points", "joint centres", "bodies"
KEYPOINTS, OPENPOSE, JOINTS_3D = "2D keypoints", "OpenPose keypoints", "3D joints"
KINDS = (MAPS, POINTS, CENTERS, BODIES, KEYPOINTS, OPENPOSE, JOINTS_3D)
UNLABELLED = "people without any label that a loss can use"


def label_masks(member: LabelledPeople, fits: Fits | None) -> dict[str, Bool[np.ndarray, "N"]]:
    """For each kind of `KINDS`, which people of a data set have it, as `models.targets.TargetBuilder` will decide."""
    labels, none = member.labels, np.zeros(len(member), bool)
    bodies = none if labels.has_smpl is None else labels.has_smpl.astype(bool)
    if fits is not None and member.name in fits.tables:
        bodies = bodies | fits.tables[member.name].valid
    unseen = np.zeros((len(member), NUM_KEYPOINTS), bool)
    seen = unseen if labels.keypoints is None else labels.keypoints[..., 2] > 0
    annotated = seen[:, NUM_OPENPOSE:]
    points = none if labels.dense is None else labels.dense.annotated
    # A camera needs two keypoints; sets of annotated points get no rendered maps.
    maps = bodies & (annotated.sum(axis=1) >= 2) & (not member.dense_only)
    smpl = none if labels.smpl_keypoints is None else (labels.smpl_keypoints[..., 2] > 0).any(axis=1)
    joints = none if labels.joints_3d is None else (labels.joints_3d[..., 3] > 0).any(axis=1)
    return {
        MAPS: maps,
        POINTS: points,
        CENTERS: np.where(points, smpl, maps),
        BODIES: bodies,
        KEYPOINTS: annotated.any(axis=1),
        OPENPOSE: seen[:, :NUM_OPENPOSE].any(axis=1),
        JOINTS_3D: joints,
    }


def count_labels(mix: MixedDataset, fits: Fits | None) -> dict[str, dict[str, int]]:
    """{data set: {kind of `KINDS`: people who have it}, and under `UNLABELLED` people with none}."""
    counts = {}
    for member in mix.members:
        if not isinstance(member, LabelledPeople):  # rendered people
            counts[member.name] = {kind: len(member) for kind in KINDS if kind != POINTS}
            continue
        masks = label_masks(member, fits)
        counts[member.name] = {kind: int(mask.sum()) for kind, mask in masks.items() if mask.any()}
        if without := int((~np.any(list(masks.values()), axis=0)).sum()):
            counts[member.name][UNLABELLED] = without
    return counts


def passed_over(
    mix: MixedDataset,
    counts: Mapping[str, Mapping[str, int]],
    data_dir: str | Path,
    batch_size: int,
    *,
    body_labels: bool,
) -> dict[str, dict[str, Any]]:
    """Counts of what a run does not use: {data set: {labels or people, with the reason: count}}.

    Args:
        counts: those of `count_labels`.
        body_labels: whether labels of pose and shape belong to the run's body.
    """
    found: dict[str, dict[str, Any]] = {}
    for member in mix.members:
        if not isinstance(member, LabelledPeople):
            continue
        unused: dict[str, Any] = dict(member.unused)
        files = [path for path in fit_paths(member.name, data_dir) if path.is_file()]
        if files and not body_labels:
            unused["files of fits (they belong to SMPL, the run shows the open body)"] = len(files)
        if without := counts[member.name].get(UNLABELLED):
            unused[UNLABELLED] = without
        if unused:
            found[member.name] = unused
    if rest := len(mix) % batch_size:
        found["each epoch"] = {"people left over by whole batches, others in each epoch": rest}
    return found
