"""Certifies ground truth before anything is scored against it: wrong units, roots, bodies, joint orders show here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.evaluation.scorers import NUM_LSP_PARTS, UNKNOWN, JointRegressor, JointSet
from models.smpl import SMPL
from utils.geometry import batch_rodrigues

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8

TOLERANCE = 1e-3  # metres between stored joints and those of the stored parameters; float32 files reach 1e-6
ROOT_TOLERANCE = 1e-3  # metres between a root-centred skeleton's pelvis and the origin
ROOT_IMPOSSIBLE = 0.05  # metres, of the median
CHUNK = 256
# Joints of both sets (places among the 14) at the ends of a bone, and the lengths that people have, metres.
BONES = {"thigh": (((1, 2), (3, 4)), (0.25, 0.65)), "shin": (((0, 1), (4, 5)), (0.25, 0.65)),
         "upper arm": (((7, 8), (9, 10)), (0.15, 0.45)), "lower arm": (((6, 7), (10, 11)), (0.12, 0.42))}  # fmt: skip
PELVIS = 14  # among the 24 stored joints


@dataclass(frozen=True)
class Certificate:
    """What a check found: sentences, and whether the truth can be trusted."""

    passed: bool
    findings: tuple[str, ...]


def check_posed(
    rotvec: Float[np.ndarray, "N 72"],
    betas: Float[np.ndarray, "N 10"],
    gender: Int[np.ndarray, "N"],
    joints: Float[np.ndarray, "N 24 3"] | None,
    bodies: Mapping[int, tuple[SMPL, JointRegressor]],
) -> Certificate:
    """The body's joints of the stored parameters against the stored joints, both relative to the pelvis."""
    unknown = int(np.isin(gender, list(bodies), invert=True).sum())
    if unknown:
        return Certificate(
            False, (f"{unknown} of {len(gender)} samples have no gender that a body stands for.",)
        )
    if joints is None:
        return Certificate(
            True,
            (
                "The annotation file stores no joints beside pose and shape, so the two cannot be compared; the "
                "converter datasets.preprocess.pw3d writes them (field smpl_joints).",
            ),
        )
    worst, total = 0.0, 0.0
    for start in range(0, len(gender), CHUNK):
        part = slice(start, start + CHUNK)
        posed = _smpl_joints(rotvec[part], betas[part], gender[part], bodies)
        stored = torch.from_numpy(np.ascontiguousarray(joints[part], np.float32)).to(posed)
        distance = (posed - posed[:, :1] - stored + stored[:, :1]).norm(dim=-1)
        worst, total = max(worst, distance.max().item()), total + distance.mean(dim=1).sum().item()
    finding = (
        f"Body forward of the stored parameters against the stored joints, {len(gender)} samples, 24 joints: "
        f"mean {total / len(gender) * 1000:.4f} mm, largest {worst * 1000:.4f} mm (allowed {TOLERANCE * 1000:g} mm)."
    )
    return Certificate(worst <= TOLERANCE, (finding,))


@torch.no_grad()
def _smpl_joints(rotvec: np.ndarray, betas: np.ndarray, gender: np.ndarray, bodies: Mapping) -> torch.Tensor:
    device = next(iter(bodies.values()))[0].template.device
    pose = torch.from_numpy(np.ascontiguousarray(rotvec, np.float32)).to(device)
    shape = torch.from_numpy(np.ascontiguousarray(betas, np.float32)).to(device)
    joints = pose.new_zeros(len(pose), 24, 3)
    for code, (smpl, _) in bodies.items():
        mine = torch.from_numpy(np.asarray(gender) == code).to(device)
        if mine.any():
            rotmat = batch_rodrigues(pose[mine].reshape(-1, 3)).view(-1, 24, 3, 3)
            joints[mine] = smpl(rotmat, shape[mine]).smpl_joints
    return joints


def check_stored(joints: Float[np.ndarray, "N 24 4"], joint_set: JointSet) -> Certificate:
    """Stored joints: all of the joint set annotated, root-centred, in metres, with limbs of human length."""
    points, confidence = joints[:, joint_set.stored, :3], joints[:, joint_set.stored, 3]
    missing = int((confidence <= 0).any(axis=1).sum())
    off = np.linalg.norm(joints[:, PELVIS, :3], axis=1)
    findings = [
        f"{len(joints)} samples; joints of {joint_set.name} without annotation in {missing} of them.",
        f"Distance of the stored pelvis from the origin: mean {off.mean() * 1000:.3f} mm, largest "
        f"{off.max() * 1000:.3f} mm (allowed {ROOT_TOLERANCE * 1000:g} mm: truth is not centred when scored).",
    ]
    passed = missing == 0 and bool(off.max() <= ROOT_TOLERANCE)
    for name, (pairs, (low, high)) in BONES.items():
        lengths = [np.median(np.linalg.norm(points[:, a] - points[:, b], axis=1)) for a, b in pairs]
        fits = all(low <= length <= high for length in lengths)
        passed &= fits
        note = "" if fits else f", outside {low}..{high} m: wrong units or joint order"
        findings.append(f"Median {name}: right {lengths[0]:.3f} m, left {lengths[1]:.3f} m{note}.")
    return Certificate(passed, tuple(findings))


def suspect_stored(joints: Float[np.ndarray, "N 24 4"], joint_set: JointSet, source: Path) -> list[str]:
    """What is odd with stored joints that are scored as they are.

    Raises ValueError where a score would mean nothing: joints that are not relative to the pelvis, or unannotated.
    """
    off = np.linalg.norm(joints[:, PELVIS, :3], axis=1)
    if np.median(off) > ROOT_IMPOSSIBLE:
        raise ValueError(
            f"{source}: the pelvis (row {PELVIS} of S) is {np.median(off):.3g} m from the origin (median), and truth "
            "is not centred when scored. Subtract it from all joints."
        )
    found = []
    if (far := int((off > ROOT_TOLERANCE).sum())):
        found.append(f"{source}: the pelvis of {far} people is up to {off.max() * 1000:.0f} mm from the origin of S.")
    missing = (joints[:, joint_set.stored, 3] <= 0).any(axis=1)
    if missing.all():
        raise ValueError(f"{source}: nobody has all joints of {joint_set.name} annotated in S.")
    if missing.any():
        found.append(
            f"{source}: {missing.sum()} people lack joints of {joint_set.name}; they are scored as they stand."
        )
    return found


def suspect_posed(has_smpl: Bool[np.ndarray, "N"], source: Path) -> list[str]:
    """Nothing, or ValueError where some people have no true body: they would be scored against one at rest."""
    if not has_smpl.all():
        raise ValueError(f"{source}: has_smpl is 0 for {(~has_smpl).sum()} of {len(has_smpl)} people; leave them out.")
    return []


def check_labels(
    labels: Iterable[tuple[str, UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"], tuple[int, int]]],
) -> Certificate:
    """Label pictures (name, mask, parts, size of the photograph): of the photograph's size, with known classes."""
    count, problems = 0, []
    for name, mask, parts, size in labels:
        count += 1
        strange = sorted(set(np.unique(parts).tolist()) - {*range(NUM_LSP_PARTS), UNKNOWN})
        if mask.shape != size or parts.shape != size:
            problems.append(
                f"{name}: labels of {mask.shape} and {parts.shape} for a picture of {size} (height, width)"
            )
        elif strange:
            problems.append(f"{name}: part classes {strange}, expected 0..{NUM_LSP_PARTS - 1} and {UNKNOWN}")
        elif not (mask > 0).any():
            problems.append(f"{name}: an empty mask")
    shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
    finding = f"{count} label pictures: {len(problems)} unusable" + (f" ({shown})." if problems else ".")
    return Certificate(not problems, (finding,))
