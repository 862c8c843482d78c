"""Scores by 3D joints and surface: MPJPE, PA-MPJPE, PVE against stored joints or posed bodies (docs/method.md 11.1)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from models.evaluation.protocol import Certificate, Protocol, body_rows
from models.evaluation.report import Score, Summary, Table, stick_figures
from models.evaluation.resumable import Results
from models.inference.predictor import Predictor
from models.smpl import SMPL
from utils import report
from utils.body import SMPL_ID, find_smpl_file
from utils.geometry import batch_rodrigues
from utils.metrics import by_action, per_joint_error, pve, similarity_align
from utils.skeleton import GT24_TO_J14, GT24_TO_J17, H36M17_NAMES, H36M_TO_J14, H36M_TO_J17
from utils.structures import Batch, DaNetOutput, Regressor, require_same_body

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

    from models.evaluation.protocol import Crop, Rows

# Keys of `utils.body.LICENSED_FILES` that a run on official bodies cannot do without.
JOINT_NEED = ("body", "regressor_extra", "regressor_h36m")
GENDER_NEED = (*JOINT_NEED, "body_male", "body_female")
MILLIMETRES = 1000.0
JOINT_SCORES = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "pve": "PVE"}
TOLERANCE = 1e-3  # metres between stored joints and those of the stored parameters; float32 files reach 1e-6
ROOT_TOLERANCE = 1e-3  # metres between a root-centred skeleton's pelvis and the origin
ROOT_IMPOSSIBLE = 0.05  # metres, of the median
CHUNK = 256
# Joints of both sets (places among the 14) at the ends of a bone, and the lengths that people have, metres.
BONES = {"thigh": (((1, 2), (3, 4)), (0.25, 0.65)), "shin": (((0, 1), (4, 5)), (0.25, 0.65)),
         "upper arm": (((7, 8), (9, 10)), (0.15, 0.45)), "lower arm": (((6, 7), (10, 11)), (0.12, 0.42))}  # fmt: skip
PELVIS = 14  # among the 24 stored joints


@dataclass(frozen=True)
class JointSet:
    """Joints that are scored: their indices among the 17 regressed ones and among the 24 stored ones."""

    name: str
    regressed: tuple[int, ...]
    stored: tuple[int, ...]


J14 = JointSet("J14", H36M_TO_J14, GT24_TO_J14)
J17 = JointSet("J17", H36M_TO_J17, GT24_TO_J17)


class JointRegressor:
    """The 17 Human3.6M joints of posed vertices. Raises ValueError for a regressor of another body than `smpl`."""

    def __init__(self, smpl: SMPL, h36m: Regressor):
        require_same_body(smpl.model_id, h36m)
        used = np.flatnonzero(np.any(h36m.matrix != 0, axis=0))
        arrays = (used, h36m.matrix[:, used].copy())
        self.used, self.weights = (torch.from_numpy(array).to(smpl.template.device) for array in arrays)

    def __call__(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B 17 3"]:
        return self.weights @ vertices[:, self.used]


class JointProtocol(Protocol):
    """MPJPE, PA-MPJPE and, where the true surface is known, PVE, all about the pelvis.

    Predicted joints are always regressed from vertices by the 17 x V matrix of Human3.6M.

    Args:
        about: where the truth comes from.
        per_action: also score by the action in the name of a Human3.6M image.
    """

    root: str  # what prediction and truth are made relative to
    legend = "crop, predicted body, skeletons from the front and the side (predicted blue, true orange)"
    averaged = tuple(JOINT_SCORES)

    def __init__(self, predictor: Predictor, joint_set: JointSet, about: str, per_action: bool = False):
        self.predictor, self.joint_set, self.per_action = predictor, joint_set, per_action
        self.regress = JointRegressor(predictor.smpl, predictor.assets.h36m)
        self.joint_names = tuple(H36M17_NAMES[joint] for joint in joint_set.regressed)
        self.facts = {
            "truth": about,
            "root": self.root,
            "joint set": f"{joint_set.name}: {', '.join(self.joint_names)}",
            "PA-MPJPE": "after the best similarity (rotation, scale, shift; no reflection) of each sample",
        }

    @abstractmethod
    def truth(self, batch: Batch) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B V 3"] | None]:
        """True joints and, where they are known, vertices in metres."""

    def score(self, output: DaNetOutput, batch: Batch, extras: Sequence[Any] = ()) -> Rows:
        params = output.smpl.params
        vertices = self.predictor.smpl(params.rotmat, params.betas).vertices
        joints = self.regress(vertices)
        pelvis = joints[:, :1]
        pred = (joints - pelvis)[:, self.joint_set.regressed].double()
        true, true_vertices = self.truth(batch)
        true = true.double()
        rows = {
            "pred_joints": joints,
            "true_joints": true.float(),
            "joint_error": per_joint_error(pred, true).float(),
            "pa_joint_error": per_joint_error(similarity_align(pred, true), true).float(),
        }
        rows |= {"mpjpe": rows["joint_error"].mean(dim=1), "pa_mpjpe": rows["pa_joint_error"].mean(dim=1)}
        if true_vertices is not None:
            rows["pve"] = pve(vertices - pelvis, true_vertices)
        return {name: value.cpu().numpy() for name, value in rows.items()} | body_rows(params)

    def scores(self, rows: Rows) -> tuple[Score, ...]:
        return tuple(
            Score(title, float(rows[name].mean(dtype=np.float64)) * MILLIMETRES, "mm")
            for name, title in JOINT_SCORES.items()
            if name in rows
        )

    def summary(self, results: Results, names: Sequence[str]) -> Summary:
        rows = {name: results.of_scored(name) for name in results.rows}
        plain, aligned = rows["mpjpe"] * MILLIMETRES, rows["pa_mpjpe"] * MILLIMETRES
        charts = [report.histogram(f"{t} of samples", v, "mm") for t, v in (("MPJPE", plain), ("PA-MPJPE", aligned))]
        for title, name in (("MPJPE", "joint_error"), ("PA-MPJPE", "pa_joint_error")):
            bars = rows[name].mean(axis=0) * MILLIMETRES
            charts.append(report.bar_chart(f"{title} of each joint", self.joint_names, bars, "mm"))
        tables = []
        if self.per_action:
            scored = np.asarray(names)[results.scored > 0].tolist()
            plain, aligned = by_action(scored, plain), by_action(scored, aligned)
            charts.append(report.bar_chart("PA-MPJPE of each action", tuple(aligned), tuple(aligned.values()), "mm"))
            cells = [(action, f"{plain[action]:.2f}", f"{aligned[action]:.2f}") for action in plain]
            means = [f"{np.mean([*group.values()]):.2f}" for group in (plain, aligned)]
            header = ("action", "MPJPE", "PA-MPJPE")
            tables = [Table("Actions, mm", header, (*cells, ("mean over actions", *means)))]
        return Summary(self.scores(rows), results.rows["pa_mpjpe"], tuple(charts), tuple(tables))

    def compare(self, results: Results, index: int, crop: Crop) -> UInt8[np.ndarray, "224 448 3"]:
        joints = results.rows["pred_joints"][index]
        pred = (joints - joints[0])[list(self.joint_set.regressed)]
        return stick_figures(pred, results.rows["true_joints"][index])


class StoredJoints(JointProtocol):
    """Against joints as the label file stores them, relative to the pelvis (Human3.6M, MPI-INF-3DHP).

    Args:
        joints: [N, 24, 4], metres and confidence, of all people of `file`.

    Raises ValueError where a score would mean nothing: joints that are not relative to the pelvis, or unannotated.
    """

    root = "prediction: its regressed pelvis subtracted; truth: as stored, which is root-centred"

    def __init__(
        self,
        predictor: Predictor,
        joint_set: JointSet,
        joints: Float[np.ndarray, "N 24 4"],
        file: Path,
        per_action: bool = False,
    ):
        super().__init__(predictor, joint_set, "joints stored in the annotation file (S)", per_action)
        self.joints, self.off = joints, np.linalg.norm(joints[:, PELVIS, :3], axis=1)
        self.missing = int((joints[:, joint_set.stored, 3] <= 0).any(axis=1).sum())
        if (median := np.median(self.off)) > ROOT_IMPOSSIBLE:
            raise ValueError(
                f"{file}: the pelvis (row {PELVIS} of S) is {median:.3g} m from the origin (median), and truth is not "
                "centred when scored. Subtract it from all joints."
            )
        if self.missing == len(joints):
            raise ValueError(f"{file}: no person has all joints of {joint_set.name} annotated in S.")
        far, most = int((self.off > ROOT_TOLERANCE).sum()), self.off.max() * 1000
        found = {
            f"the pelvis of {far} people is up to {most:.0f} mm from the origin of S.": far,
            f"{self.missing} people lack joints of {joint_set.name}; they are scored as they stand.": self.missing,
        }
        self.suspicions = [f"{file}: {sentence}" for sentence, count in found.items() if count]

    def truth(self, batch: Batch) -> tuple[Float[Tensor, "B J 3"], None]:
        return batch.joints_3d[:, self.joint_set.stored, :3], None

    def check(self) -> Certificate:
        """Check that all joints are annotated, root-centred, in metres, with limbs of human length."""
        off, name = self.off * 1000, self.joint_set.name
        findings = [
            f"{len(off)} samples; joints of {name} without annotation in {self.missing} of them.",
            f"Distance of the stored pelvis from the origin: mean {off.mean():.3f} mm, largest {off.max():.3f} mm "
            f"(allowed {ROOT_TOLERANCE * 1000:g} mm: truth is not centred when scored).",
        ]
        passed = not self.missing and bool(self.off.max() <= ROOT_TOLERANCE)
        points = self.joints[:, self.joint_set.stored, :3]
        for bone, (pairs, (low, high)) in BONES.items():
            right, left = (np.median(np.linalg.norm(points[:, a] - points[:, b], axis=1)) for a, b in pairs)
            fits = bool(low <= min(right, left) and max(right, left) <= high)
            passed &= fits
            note = "" if fits else f", outside {low}..{high} m: wrong units or joint order"
            findings.append(f"Median {bone}: right {right:.3f} m, left {left:.3f} m{note}.")
        return Certificate(passed, tuple(findings))


class PosedBodies(JointProtocol):
    """Against joints and vertices of the labelled pose and shape, about their own regressed pelvis.

    Args:
        bodies: gender (0 male, 1 female, -1 unknown) -> body.
        about: which bodies these are.
        labels: makes a record of all people for the check: `rotvec` [N, 72], `betas` [N, 10], `gender` [N] and
            `smpl_joints` [N, 24, 3] (metres) or None.
    """

    root = "prediction and truth: the pelvis regressed from their own vertices subtracted (PVE too)"

    def __init__(
        self,
        predictor: Predictor,
        joint_set: JointSet,
        bodies: Mapping[int, SMPL],
        about: str,
        labels: Callable[[], Any],
    ):
        super().__init__(predictor, joint_set, about)
        h36m, self.labels = predictor.assets.h36m, labels
        self.bodies = {gender: (smpl, JointRegressor(smpl, h36m)) for gender, smpl in bodies.items()}

    def truth(self, batch: Batch) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B V 3"]]:
        vertices, joints, _ = self._pose(batch.rotvec, batch.betas, batch.gender)
        pelvis = joints[:, :1]
        return (joints - pelvis)[:, self.joint_set.regressed], vertices - pelvis

    def _pose(self, rotvec: Tensor, betas: Tensor, gender: Tensor) -> list[Tensor]:
        """Vertices, 17 regressed joints and 24 SMPL joints of the people's own bodies."""
        rotmat = batch_rodrigues(rotvec.reshape(-1, 3)).view(-1, 24, 3, 3)
        whole: list[Tensor] = []
        for code, (smpl, regress) in self.bodies.items():
            rows = gender == code
            if not rows.any():
                continue
            posed = smpl(rotmat[rows], betas[rows])
            part = (posed.vertices, regress(posed.vertices), posed.smpl_joints)
            whole = whole or [values.new_zeros(len(rows), *values.shape[1:]) for values in part]
            for target, values in zip(whole, part, strict=True):
                target[rows] = values
        return whole

    @torch.inference_mode()
    def check(self) -> Certificate:
        """Compare the SMPL joints of posed bodies with the labelled ones, both relative to the pelvis."""
        labels = self.labels()
        gender, joints = np.asarray(labels.gender), labels.smpl_joints
        if unknown := int(np.isin(gender, list(self.bodies), invert=True).sum()):
            return Certificate(False, (f"{unknown} of {len(gender)} samples have no gender that a body stands for.",))
        if joints is None:
            finding = "The annotation file stores no joints beside pose and shape, so the two cannot be compared; the "
            return Certificate(True, (finding + "converter datasets.preprocess.pw3d writes them (field smpl_joints).",))
        distances = []
        for start in range(0, len(gender), CHUNK):
            rows = slice(start, start + CHUNK)
            pose, shape, stored = (
                torch.from_numpy(np.ascontiguousarray(values[rows], np.float32)).to(self.predictor.device)
                for values in (labels.rotvec, labels.betas, joints)
            )
            posed = self._pose(pose, shape, torch.from_numpy(gender[rows]).to(pose.device))[2]
            distances.append((posed - posed[:, :1] - stored + stored[:, :1]).norm(dim=-1))
        mean, largest = torch.cat(distances).mean().item(), torch.cat(distances).max().item()
        finding = (
            f"Body forward of the stored parameters against the stored joints, {len(gender)} samples, 24 joints: "
            f"mean {mean * 1000:.4f} mm, largest {largest * 1000:.4f} mm (allowed {TOLERANCE * 1000:g} mm)."
        )
        return Certificate(largest <= TOLERANCE, (finding,))


def gendered_bodies(predictor: Predictor, data_dir: str) -> tuple[dict[int, SMPL], str]:
    """Bodies of people by gender (0 male, 1 female), and a sentence about them; the open body is one for all.

    Raises FileNotFoundError when an official body of a gender is missing.
    """
    smpl, assets = predictor.smpl, predictor.assets
    if smpl.model_id != SMPL_ID:
        return {0: smpl, 1: smpl, -1: smpl}, f"the body '{smpl.model_id}' for every gender"
    files = {code: find_smpl_file(gender, data_dir) for code, gender in enumerate(("male", "female"))}
    bodies = {code: SMPL(file, assets.extra, assets.surface).to(predictor.device) for code, file in files.items()}
    return bodies, "SMPL_MALE and SMPL_FEMALE by the annotated gender"


def require_bodies(has_smpl: Bool[np.ndarray, "N"], file: Path) -> None:
    """Raise ValueError where people have no true body: they would be scored against one at rest."""
    if not has_smpl.all():
        raise ValueError(f"{file}: has_smpl is 0 for {(~has_smpl).sum()} of {len(has_smpl)} people; leave them out.")
