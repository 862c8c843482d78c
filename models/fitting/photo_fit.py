"""Bodies fitted to photographs that have BlazePose's points, directions and masks (docs/method.md 8.11).

    fitter = PhotoFitter(smpl)
    found = fitter(evidence, fitter.starts(evidence))       # B people at once

Adam with automatic differentiation: unlike refinement (`refinement.py`), a fit begins far from its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from models.fitting.landmarks import LandmarkBody, bone_numbers, point_numbers
from models.fitting.objective import load_pose_prior
from models.fitting.solver import select
from models.smpl import SMPL
from utils.geometry import batch_rodrigues, project_to_crop, rotmat_to_rotvec
from utils.skeleton import NUM_JOINTS
from utils.structures import Record, SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

STEPS = 120
RATES = (0.04, 0.04, 0.02)  # of rotations, shape and camera
FAR, NEAR = 0.25, 0.1  # distances from which a point counts little, in the first 40 % of the steps and after
OUTLINE_FROM, DIRECTIONS_FROM = (
    0.6,
    0.5,
)  # shares of the steps at which outlines begin and directions count less
OUTLINE_SIGMA = 0.1
MARGIN = 1.3  # points further from the crop's middle do not count
UNSURE_ERROR, UNSURE_DIRECTION = 0.008, 0.05  # above one of these, the next start is tried
# Weights of the terms; lengths are halves of the crop's side, angles radians.
POINTS, DIRECTIONS, LATE_DIRECTIONS, PRIOR, LIMITS, BETAS, OUTLINE = 10.0, 1.5, 0.7, 0.06, 20.0, 0.03, 20.0
TORSO_POINTS, TORSO_JOINTS = (11, 12, 23, 24), (16, 17, 1, 2)  # shoulders and hips, of BlazePose and of SMPL
SITTING = {1: -1.2, 2: -1.2, 4: 1.4, 5: 1.4}  # joint -> its turn about x, of hips and knees


@dataclass(frozen=True)
class PhotoEvidence(Record):
    """What is known of B people, in their crops (-1..1)."""

    points: Float[Tensor, "B 33 2"]
    visibility: Float[Tensor, "B 33"]  # 0..1
    world: Float[Tensor, "B 33 3"]  # x right, y down, z away; only directions are used
    distance: Float[Tensor, "B 112 112"]  # from the mask; with the next two as of `outlines.Outline`
    outline: Float[Tensor, "B 150 2"]
    has_outline: Bool[Tensor, "B"]


@dataclass(frozen=True)
class PhotoFit(Record):
    """Fitted bodies and how well they agree."""

    rotvec: Float[Tensor, "B 72"]
    betas: Float[Tensor, "B 10"]
    cam: Float[Tensor, "B 3"]  # s, tx, ty of the crop
    objective: Float[Tensor, "B"]
    error: Float[Tensor, "B"]  # mean distance of the points, weighted, halves of the crop's side
    direction: Float[Tensor, "B"]  # mean 1 - cos of the angles between bones, weighted
    prior: Float[Tensor, "B"]  # squared distance from the mean pose, in standard deviations

    def params(self) -> SMPLParams:
        return SMPLParams(self.cam, self.betas, rotations(self.rotvec))


@dataclass(frozen=True)
class Start(Record):
    """Where a fit begins."""

    rotvec: Float[Tensor, "B 72"]
    betas: Float[Tensor, "B 10"]


class PhotoFitter:
    """Fits the body to photographs.

    Args:
        smpl: the body, on the device of the work.
    """

    def __init__(self, smpl: SMPL):
        self.body = LandmarkBody(smpl)
        device = smpl.template.device
        self._prior = load_pose_prior().to(device)
        self._points, self._rows, self._weights = (t.to(device) for t in point_numbers())
        self._bones, self._bone_rows, self._bone_weights = (t.to(device) for t in bone_numbers())

    def starts(self, evidence: PhotoEvidence) -> list[Start]:
        """The mean pose, then the same with hips and knees bent; turned as the torso is, with the mean shape."""
        root = rotmat_to_rotvec(torso_rotation(self.body.rest_joints, evidence.world))
        standing = torch.cat([root, self._prior.mean.expand(len(root), -1)], dim=1)
        sitting = standing.clone()
        for joint, turn in SITTING.items():
            sitting[:, 3 * joint : 3 * joint + 3] = torch.tensor([turn, 0.0, 0.0]).to(root)
        betas = torch.zeros(len(root), 10).to(root)
        return [Start(standing, betas), Start(sitting, betas)]

    def __call__(self, evidence: PhotoEvidence, starts: Sequence[Start]) -> PhotoFit:
        """The best fit of each person.

        Each further start is tried for those whose fit so far is unsure, and counts where its objective is smaller.
        """
        best = self._descend(evidence, starts[0])
        for start in starts[1:]:
            unsure = ((best.error > UNSURE_ERROR) | (best.direction > UNSURE_DIRECTION)).nonzero()[:, 0]
            if not len(unsure):
                break
            other = self._descend(evidence[unsure], start[unsure])
            rows = select(other.objective < best.objective[unsure], other, best[unsure])
            best = PhotoFit(
                **{n: getattr(best, n).index_copy(0, unsure, getattr(rows, n)) for n in vars(best)}
            )
        return best

    def used_points(self, evidence: PhotoEvidence) -> Float[Tensor, "B N"]:
        """What each fitted point weighs: its visibility times its weight, nothing far outside the crop."""
        inside = (evidence.points[:, self._points].abs() < MARGIN).all(dim=-1)
        return evidence.visibility[:, self._points] * self._weights * inside

    def _descend(self, evidence: PhotoEvidence, start: Start) -> PhotoFit:
        weights, bones = self.used_points(evidence), self._true_bones(evidence)
        with torch.no_grad():
            joints, _ = self.body(rotations(start.rotvec), start.betas)
            cam = _first_camera(joints[:, self._rows], evidence.points[:, self._points], weights)
        log_scale, shift = cam[:, :1].log(), cam[:, 1:].clone()
        unknowns = [start.rotvec.clone(), start.betas.clone(), log_scale, shift]
        for tensor in unknowns:
            tensor.requires_grad_()
        groups = [{"params": [p]} for p in unknowns[:2]] + [{"params": unknowns[2:]}]
        optimiser = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.95))
        for step in range(STEPS):
            done = step / STEPS
            for group, rate in zip(optimiser.param_groups, RATES, strict=True):
                group["lr"] = rate * min(1.0, 2 * (1 - done) + 0.05)
            optimiser.zero_grad()
            self._measure(evidence, weights, bones, unknowns, done).objective.sum().backward()
            optimiser.step()
        with torch.no_grad():
            return self._measure(evidence, weights, bones, unknowns, 1.0).detach()

    def _measure(
        self,
        evidence: PhotoEvidence,
        weights: Tensor,
        bones: tuple[Tensor, Tensor],
        unknowns: list[Tensor],
        done: float,
    ) -> PhotoFit:
        """The objective at `unknowns` (rotations, betas, log s, tx and ty) after the share `done` of the steps."""
        rotvec, betas, log_scale, shift = unknowns
        cam = torch.cat([log_scale.exp(), shift], dim=1)
        with_outline = done > OUTLINE_FROM
        joints, surface = self.body(rotations(rotvec), betas, with_outline)
        apart = project_to_crop(joints[:, self._rows], cam) - evidence.points[:, self._points]
        square = apart.square().sum(dim=-1)
        sigma = FAR if done < 0.4 else NEAR
        first, second = self._bone_rows
        angle = 1 - (F.normalize(joints[:, second] - joints[:, first], dim=-1) * bones[0]).sum(dim=-1)
        turned = (bones[1] * angle).sum(dim=1)
        prior, odd = self._oddness(rotvec[:, 3:])
        value = POINTS * (weights * square / (square + sigma**2)).sum(dim=1)
        value = value + (DIRECTIONS if done < DIRECTIONS_FROM else LATE_DIRECTIONS) * turned
        value = value + PRIOR * prior + LIMITS * odd + BETAS * betas.square().sum(dim=1)
        if with_outline:
            value = value + OUTLINE * outline_terms(evidence, project_to_crop(surface, cam))
        error = (weights * square.detach().sqrt()).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-6)
        return PhotoFit(rotvec, betas, cam, value, error, turned / bones[1].sum(dim=1), prior)

    def _true_bones(self, evidence: PhotoEvidence) -> tuple[Float[Tensor, "B M 3"], Float[Tensor, "B M"]]:
        """Directions of the bones, and their weights: by how visible both ends are, at least a twentieth."""
        first, second = self._bones
        sure = (evidence.visibility[:, first] * evidence.visibility[:, second]).clamp(0.05, 1)
        return F.normalize(
            evidence.world[:, second] - evidence.world[:, first], dim=-1
        ), sure * self._bone_weights

    def _oddness(self, pose: Float[Tensor, "B 69"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Squared distance from the mean pose in standard deviations, and squared radians beyond the limits."""
        away = pose - self._prior.mean
        beyond = (self._prior.low - pose).clamp(min=0).square() + (pose - self._prior.high).clamp(
            min=0
        ).square()
        return (away @ self._prior.precision * away).sum(dim=1), beyond.sum(dim=1)


def rotations(rotvec: Float[Tensor, "B 72"]) -> Float[Tensor, "B 24 3 3"]:
    """Rotation matrices of the 24 joints."""
    return batch_rodrigues(rotvec.reshape(-1, 3)).view(-1, NUM_JOINTS, 3, 3)


def torso_rotation(rest: Float[Tensor, "24 3"], world: Float[Tensor, "B 33 3"]) -> Float[Tensor, "B 3 3"]:
    """The rotation that brings resting shoulders and hips closest to those of BlazePose (Kabsch)."""
    still, moved = rest[list(TORSO_JOINTS)], world[:, list(TORSO_POINTS)]
    still, moved = still - still.mean(dim=0), moved - moved.mean(dim=1, keepdim=True)
    left, _, right = torch.linalg.svd(moved.transpose(1, 2) @ still)
    mirror = torch.ones(len(world), 3).to(left)
    mirror[:, 2] = torch.linalg.det(left @ right).sign()
    return left * mirror[:, None] @ right


def outline_terms(evidence: PhotoEvidence, surface: Float[Tensor, "B S 2"]) -> Float[Tensor, "B"]:
    """How far vertices lie outside the mask, plus how far its outline is from them; robust means, 0..2."""
    outside = F.grid_sample(
        evidence.distance[:, None], surface[:, :, None], align_corners=False, padding_mode="border"
    )[:, 0, :, 0]
    with torch.no_grad():
        near = torch.cdist(evidence.outline, surface).argmin(dim=2)
    apart = evidence.outline - surface.gather(1, near[..., None].expand(-1, -1, 2))
    apart = apart.square().sum(dim=-1).add(1e-9).sqrt()
    terms = sum((d / (d + OUTLINE_SIGMA)).mean(dim=1) for d in (outside, apart))
    return terms * evidence.has_outline


def _first_camera(
    joints: Float[Tensor, "B N 3"], points: Float[Tensor, "B N 2"], weights: Float[Tensor, "B N"]
) -> Float[Tensor, "B 3"]:
    """The camera under which middle and spread of the joints are those of the points."""
    share = (weights + 1e-6)[..., None]
    share = share / share.sum(dim=1, keepdim=True)
    middles = [(share * xy).sum(dim=1, keepdim=True) for xy in (joints[..., :2], points)]
    spreads = [
        (share * (xy - middle).square()).sum(dim=(1, 2)).sqrt()
        for xy, middle in zip((joints[..., :2], points), middles, strict=True)
    ]
    scale = (spreads[1] / spreads[0]).clamp(min=1e-3)[:, None]
    return torch.cat([scale, middles[1][:, 0] / scale - middles[0][:, 0]], dim=1)
