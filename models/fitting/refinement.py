"""Bodies moved to agree with what the network itself sees of them: `--refine` (docs/method.md 14)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from models.fitting.evidence import EvidenceReader
from models.fitting.objective import BodyObjective, FitWeights, load_pose_prior
from models.fitting.points import MAX_BETA, FitState, PointBody
from models.fitting.solver import minimise, select
from models.smpl import SMPL
from utils.geometry import DEFAULT_SCALE, rotmat_to_rotvec
from utils.structures import Atlas, IUVEstimate, SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

STEPS = 8
WEIGHTS = FitWeights(prior=0.006, limits=0.3, pull_pose=0.1, pull_root=0.02, pull_betas=0.01, betas=0.005)


class Refiner:
    """Moves camera, shape and pose of each person to agree with the network's centres, keypoints and maps.

    Args:
        smpl: the body, on the device of the work.
        atlas: of this body.
    """

    def __init__(self, smpl: SMPL, atlas: Atlas):
        self._body = PointBody(smpl)
        self._read = EvidenceReader(self._body, atlas)
        self._prior = load_pose_prior().to(smpl.template.device)

    def objective(self, estimate: IUVEstimate, params: SMPLParams) -> tuple[BodyObjective, Bool[Tensor, "B"]]:
        """What is made small, and the people who can be moved: their bodies are usable and their maps not empty."""
        evidence = self._read(estimate)
        usable = _is_body(params)
        safe = select(usable, params, resting(params))
        network = _state(safe, safe.rotmat[:, 0])
        objective = BodyObjective(self._body, evidence, network, self._prior, WEIGHTS)
        return objective, usable & evidence.is_seen

    @torch.no_grad()
    def __call__(
        self, estimate: IUVEstimate, params: SMPLParams, before: SMPLParams | None = None
    ) -> SMPLParams:
        """The refined bodies of a batch.

        A person stays as it is where its body is not finite or stands behind the camera, where the map is empty, and
        where no step makes the objective smaller.

        Args:
            estimate: raw maps, heat maps, centres and keypoints of the network.
            params: the network's bodies, shapes within `MAX_BETA`.
            before: bodies from which to start where the objective is smaller there, as a person's in the frame before.
        """
        if len(params) == 0:
            return params
        objective, movable = self.objective(estimate, params)
        network = objective.network
        first = objective.at(network)
        start, here = network, first
        if before is not None:
            other = _state(select(_is_body(before), before, resting(before)), network.root)
            there = objective.at(other)
            closer = _is_body(before) & (there.value < first.value)
            start, here = select(closer, other, network), select(closer, there, first)
        found, here = minimise(objective, start, here, STEPS)
        moved = SMPLParams(found.cam, found.betas, found.rotmat())
        return select(movable & (here.value < first.value), moved, params)


def _is_body(params: SMPLParams) -> Bool[Tensor, "B"]:
    """Where a body is finite and before the camera."""
    return params.to_vector().isfinite().all(dim=1) & (params.cam[:, 0] > 0)


def bounded(params: SMPLParams) -> SMPLParams:
    """The same camera and pose, and the shape within MAX_BETA; numbers that are not finite stay, to be noticed."""
    betas = params.betas
    return replace(params, betas=torch.where(betas.isfinite(), betas.clamp(-MAX_BETA, MAX_BETA), betas))


def resting(like: SMPLParams) -> SMPLParams:
    """The resting body of the mean shape in the middle of the crop, for each person of a batch."""
    cam = torch.zeros_like(like.cam)
    cam[:, 0] = DEFAULT_SCALE
    rotmat = torch.eye(3).to(like.rotmat).expand_as(like.rotmat)
    return SMPLParams(cam, torch.zeros_like(like.betas), rotmat)


def _state(params: SMPLParams, root: Float[Tensor, "B 3 3"]) -> FitState:
    """The unknowns of bodies, whose root rotations are written as turns of `root`."""
    local = torch.cat([(root.transpose(1, 2) @ params.rotmat[:, 0])[:, None], params.rotmat[:, 1:]], dim=1)
    return FitState(root, rotmat_to_rotvec(local), params.betas, params.cam)
