"""What a fit makes small: points of the body away from their places, and an odd body (docs/method.md 14.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.fitting.points import BETAS, POSE, FitState, PointBody, RestPoints
from models.fitting.solver import Local
from utils.geometry import MAP_SIZE
from utils.io import OPEN_DIR, load_npz
from utils.structures import Record

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

JOINTS_69 = slice(3, 72)  # rows of the unknowns: all rotations but the root's


@dataclass(frozen=True)
class PosePrior(Record):
    """Plausible poses: mean, precision (inverse covariance) and limits of 23 rotation vectors, radians."""

    mean: Float[Tensor, "69"]
    precision: Float[Tensor, "69 69"]
    low: Float[Tensor, "69"]
    high: Float[Tensor, "69"]


def load_pose_prior() -> PosePrior:
    """The prior that ships with the project (data/open/build/pose_prior.py)."""
    arrays = load_npz(OPEN_DIR / "pose_prior.npz")
    return PosePrior(*(torch.from_numpy(np.float32(arrays[n])) for n in ("mean", "precision", "low", "high")))


@dataclass(frozen=True)
class FitWeights:
    """How much each term of the objective counts. Squares are of radians, betas, and -1..1 of the crop."""

    prior: float  # (pose - mean) precision (pose - mean)
    limits: float  # squared radians beyond the limits
    pull_pose: float  # squared change of a joint's rotation vector from the network's
    pull_root: float  # the same of the root
    pull_betas: float  # squared change of a shape coefficient
    betas: float  # squared shape coefficient


@dataclass(frozen=True)
class Evidence(Record):
    """What is seen of each person: N points of the body with their places in the crop (-1..1), and M anywhere on it."""

    points: RestPoints  # N, then M
    target: Float[Tensor, "B 2 N"]
    weight: Float[Tensor, "B N+M"]
    sigma: Float[Tensor, "N+M"]  # distance from which a point counts little
    nearest: Float[Tensor, "B 2 H*W"]  # the middle of the person's cell nearest to each cell
    is_seen: Bool[Tensor, "B"]  # whether the map shows a person at all

    def places(self, projected: Float[Tensor, "B 2 N+M"]) -> tuple[Tensor, Tensor]:
        """Targets and weights of the points where they are now.

        The last M points belong on the person, anywhere: their target is the nearest cell of the person, and they
        weigh nothing inside it or outside the crop.
        """
        free = projected[:, :, self.target.shape[2] :]
        # A number that is not finite (numbers of the body may be beyond float32) stands for no cell.
        cell = ((free + 1) * (MAP_SIZE / 2)).floor().nan_to_num(0.0).clamp(0, MAP_SIZE - 1)
        number = (cell[:, 1] * MAP_SIZE + cell[:, 0]).long()
        near = self.nearest.gather(2, number[:, None].expand(-1, 2, -1))
        is_inside = (near - cell_middle(cell)).abs().amax(1) < 1 / MAP_SIZE
        counts = ~is_inside & (free.abs() <= 1).all(dim=1)
        weight = torch.cat(
            [self.weight[:, : self.target.shape[2]], self.weight[:, self.target.shape[2] :] * counts], dim=1
        )
        return torch.cat([self.target, near], dim=2), weight


def cell_middle(cell: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """The middle of a row or column of the maps, -1..1 of the crop."""
    return (cell + 0.5) * (2 / MAP_SIZE) - 1


class BodyObjective:
    """The robust distances of points from their places, and what pulls a body to the plausible and to the network's."""

    def __init__(
        self, body: PointBody, evidence: Evidence, network: FitState, prior: PosePrior, weights: FitWeights
    ):
        """network: the state that the pull leads to, with the root rotation of the states that are looked at."""
        self.body, self.evidence, self.network, self.prior, self.weights = (
            body,
            evidence,
            network,
            prior,
            weights,
        )
        pull = torch.zeros(85)
        pull[POSE], pull[:3], pull[BETAS] = weights.pull_pose, weights.pull_root, weights.pull_betas
        self._pull = pull.to(network.betas)

    def at(self, state: FitState) -> Local:
        """Value and normal equations at a state."""
        projected, derivative = self.body.project(state, self.evidence.points)
        target, weight = self.evidence.places(projected)
        local = robust_squares(projected - target, derivative, weight, self.evidence.sigma)
        return self._with_priors(local, state)

    def _with_priors(self, local: Local, state: FitState) -> Local:
        w, prior = self.weights, self.prior
        pose = state.rotvec[:, 1:].flatten(1)
        odd = pose - prior.mean
        toward = odd @ prior.precision
        beyond = (pose - prior.high).clamp(min=0) - (prior.low - pose).clamp(min=0)
        moved = torch.cat(
            [(state.rotvec - self.network.rotvec).flatten(1), state.betas - self.network.betas], dim=1
        )
        pull = self._pull[: BETAS.stop]
        value = local.value + w.prior * (odd * toward).sum(1) + w.limits * beyond.square().sum(1)
        value = value + (pull * moved.square()).sum(1) + w.betas * state.betas.square().sum(1)
        diagonal = self._pull.expand(len(pose), -1).clone()
        diagonal[:, JOINTS_69] += w.limits * (beyond != 0)
        diagonal[:, BETAS] += w.betas
        normal = local.normal + torch.diag_embed(diagonal)
        normal[:, JOINTS_69, JOINTS_69] += w.prior * prior.precision
        descent = local.descent.clone()
        descent[:, : BETAS.stop] -= pull * moved
        descent[:, JOINTS_69] -= w.prior * toward + w.limits * beyond
        descent[:, BETAS] -= w.betas * state.betas
        return Local(value, normal, descent)


def robust_squares(
    error: Float[Tensor, "B 2 N"],
    derivative: Float[Tensor, "B 85 2 N"],
    weight: Float[Tensor, "B N"],
    sigma: Float[Tensor, "N"],
) -> Local:
    """Sum of w e^2 s^2 / (e^2 + s^2) over the points (Geman and McClure), with its reweighted normal equations."""
    square = error.square().sum(dim=1)
    share = sigma**2 / (square + sigma**2)
    value = (weight * square * share).sum(dim=1)
    weighted = (derivative * (weight * share**2)[:, None, None]).flatten(2)
    normal = weighted @ derivative.flatten(2).transpose(1, 2)
    descent = -(weighted @ error.flatten(1)[..., None])[..., 0]
    return Local(value, normal, descent)
