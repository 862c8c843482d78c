"""What a protocol of an evaluation is: how the people of a set are scored (docs/method.md 11)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from models.evaluation.report import Score, Summary
from models.evaluation.resumable import Results
from models.inference.predictor import Predictor
from utils.geometry import FOCAL_LENGTH, batch_rodrigues, cam_to_translation, rotmat_to_rotvec
from utils.renderer import MeshRenderer
from utils.structures import Batch, SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped, UInt8

    Rows = Mapping[str, Shaped[np.ndarray, "n *row"]]  # named arrays with one entry a person
    Crop = UInt8[np.ndarray, "224 224 3"]


@dataclass(frozen=True)
class Certificate:
    """Findings of a check of ground truth, as sentences, and whether it passed."""

    passed: bool
    findings: tuple[str, ...]


class Protocol(ABC):
    """How the people of a set are scored.

    Attributes:
        predictor: the network that is scored, and its body.
        facts: what is compared with what, in words.
        legend: what the images of a person show.
        extra: number of a person -> what `score` needs of it beside the sample; None where that is nothing.
        suspicions: sentences about labels that are unusual, and scored as they are.
        averaged: rows that `scores` are made of.
    """

    predictor: Predictor
    facts: dict[str, str]
    legend: str
    extra: Callable[[int], Any] | None = None
    suspicions: Sequence[str] = ()
    averaged: Sequence[str] = ()

    def check(self) -> Certificate:
        """Whether the ground truth can be what it should be."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Any:
        """What `score` compares of a batch; here maps and bodies, a `DaNetOutput`."""
        return self.predictor.output(batch.image)

    @abstractmethod
    def score(self, predicted: Any, batch: Batch, extras: Sequence[Any]) -> Rows:
        """Rows of a batch from what `predict` gives: metres, pixels, and what `body_rows` gives."""

    def scores(self, rows: Rows) -> tuple[Score, ...]:
        """Scores of some people, where those are means over people."""
        return ()

    def caption(self, results: Results, index: int) -> str:
        """Scores of one person."""
        return format_scores(self.scores({name: rows[[index]] for name, rows in results.rows.items()}))

    @abstractmethod
    def summary(self, results: Results, names: Sequence[str]) -> Summary:
        """Scores of the set; `names` are those of all people."""

    @abstractmethod
    def compare(self, results: Results, index: int, crop: Crop) -> UInt8[np.ndarray, "224 W 3"]:
        """Image of prediction and truth of one scored person, whose crop is given."""

    def overlay(self, results: Results, index: int, crop: Crop) -> Crop:
        """The crop of a scored person with the predicted body over it."""
        vertices, cam = self.body(results.rows, index)
        renderer = MeshRenderer(self.predictor.assets.body.faces)
        return renderer.overlay(crop, vertices, cam_to_translation(cam), FOCAL_LENGTH)

    def body(self, rows: Rows, index: int) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "3"]]:
        """Predicted vertices (metres) and camera of a scored person, from its rows; on the CPU."""
        rotmat = batch_rodrigues(torch.from_numpy(rows["pose"][index].reshape(24, 3)))[None]
        betas, device = torch.from_numpy(rows["betas"][index])[None], self.predictor.device
        with torch.inference_mode():
            posed = self.predictor.smpl(rotmat.to(device), betas.to(device))
        return posed.vertices[0].cpu(), torch.from_numpy(rows["camera"][index])


def body_rows(params: SMPLParams) -> Rows:
    """Pose as axis-angle, shape and camera: what a 2020 result file holds beside the joints."""
    rows = {"pose": rotmat_to_rotvec(params.rotmat).flatten(1), "betas": params.betas, "camera": params.cam}
    return {name: value.cpu().numpy() for name, value in rows.items()}


def format_scores(scores: Sequence[Score]) -> str:
    """Scores as text, such as "MPJPE 52.10 mm, PA-MPJPE 40.02 mm"."""
    return ", ".join(f"{score.name} {score}" for score in scores)
