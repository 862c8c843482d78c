"""Bodies as JSON in the form of MeshPose's benchmark, written and scored, whatever system they come from.

The file is a list of {image_id, id, smpl_xy_proj [V][2], smpl_z [V]}: image and annotation of a person in the label
file, pixels of the image and depths of the vertices (docs/method.md 11.6).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.evaluation.dense import DenseMaps, blend_parts, projected_bodies, square_of
from models.evaluation.resumable import Results
from utils.body import BodyAssets, Surface
from utils.checkpoint import weights_id
from utils.geometry import CROP_SIZE
from utils.io import DataFileError, atomic_write, load_json
from utils.renderer.projected import ProjectedBody
from utils.structures import Batch

if TYPE_CHECKING:
    from jaxtyping import Float

    from models.evaluation.dense import Look
    from models.evaluation.protocol import Crop, Rows

BEGIN = '[\n {"image_id": '  # how a written file begins
MAX_NUMBER = 1e6  # pixels, or units of depth


@dataclass(frozen=True)
class BodyFile:
    """Bodies of a file, in the place of a network: with what the facts of an evaluation say of one.

    Args:
        bodies: by the id of the annotation.
        image_ids: image of each, by the same id.
        assets: whose mesh they have.
    """

    path: Path
    bodies: dict[int, ProjectedBody]
    image_ids: dict[int, int]
    assets: BodyAssets
    regressor: str = "bodies"
    device: torch.device = torch.device("cpu")
    facts = {"refined": "no", "backend": "none"}

    @property
    def weights(self) -> BodyFile:
        return self

    @property
    def weights_id(self) -> str:
        return weights_id(self.path)

    def __str__(self) -> str:
        return f"bodies of {self.path.name} (id {self.weights_id}, {len(self.bodies):,} people)"

    def describe(self) -> str:
        """One line that says which bodies are scored on which body's surface."""
        return f"{self.assets.source}; {self}"


class DenseBodies(DenseMaps):
    """The maps drawn from the bodies of a file.

    Args:
        ids: of the people's annotations. Others as in `DenseMaps`.
    """

    legend = "crop, parts of the projected body, annotated points"
    sources = ("body",)

    def __init__(
        self,
        predictor: BodyFile,
        surface: Surface,
        people: Any,
        truth: dict[str, Any],
        image_ids: Sequence[int],
        ids: Sequence[int | None],
    ):
        """Raises DataFileError where no body belongs to one of the people, or one to another image."""
        super().__init__(predictor, surface, people, truth, image_ids)
        self.ids = ids
        images = dict(zip(ids, people.labels.image_id.tolist(), strict=True))
        known = predictor.image_ids.keys() & images.keys()
        if not known:
            raise DataFileError(
                f"{predictor.path}: none of its {len(predictor.bodies):,} bodies has the id of a labelled person."
            )
        wrong = [number for number in known if predictor.image_ids[number] != images[number]]
        if wrong:
            raise DataFileError(
                f"{predictor.path}: the body of annotation {wrong[0]} says image {predictor.image_ids[wrong[0]]}, but "
                f"the annotation is of image {images[wrong[0]]}."
            )

    def predict(self, batch: Batch) -> None:
        return None

    def own_rows(self, predicted: None) -> Rows:
        return {}

    def has_result(self, index: int) -> bool:
        return self.ids[index] in self.predictor.bodies

    def looks(self, predicted: None, batch: Batch) -> Iterator[dict[str, Look]]:
        for row, index in enumerate(batch.index.tolist()):
            square = square_of(batch.center[row], batch.scale[row])
            if self.has_result(index):
                yield {"body": self._look_at_body(self.predictor.bodies[self.ids[index]], *square)}
            else:
                yield {"body": lambda points: np.zeros((len(points), 3))}

    def overlay(self, results: Results, index: int, crop: Crop) -> Crop:
        if not self.has_result(index):
            return crop
        labels = self.people.labels
        corner, side = square_of(labels.center[index], labels.scale[index])
        drawing = self.renderer.draw(self.predictor.bodies[self.ids[index]], corner, side, CROP_SIZE)
        return blend_parts(crop, drawing[..., 0].astype(np.int64))


# ---------------------------------------------------------------------------------------------------------- files


def read_bodies(path: str | Path, assets: BodyAssets) -> BodyFile:
    """The bodies of a file. Raises FileNotFoundError, or DataFileError naming the entry that is wrong."""
    path, content, count = Path(path), load_json(path), len(assets.body.v_template)
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        raise DataFileError(
            f"{path} is no list of bodies: expected objects {{image_id, id, smpl_xy_proj, smpl_z}}, one or more."
        )
    bodies, image_ids = {}, {}
    for number, entry in enumerate(content):
        what = f"{path}, body {number}"
        for key in ("image_id", "id"):
            if type(entry.get(key)) is not int:
                raise DataFileError(
                    f"{what}: '{key}' is {str(entry.get(key))[:60]}, expected a whole number."
                )
        if entry["id"] in bodies:
            raise DataFileError(f"{what}: annotation {entry['id']} has a body already.")
        xy = _numbers(entry.get("smpl_xy_proj"), (count, 2), f"{what}: smpl_xy_proj", assets)
        depth = _numbers(entry.get("smpl_z"), (count,), f"{what}: smpl_z", assets)
        bodies[entry["id"]], image_ids[entry["id"]] = ProjectedBody(xy, depth), entry["image_id"]
    return BodyFile(path, bodies, image_ids, assets)


def _numbers(values: Any, shape: tuple[int, ...], what: str, assets: BodyAssets) -> Float[np.ndarray, "V *2"]:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.shape != shape:
        raise DataFileError(
            f"{what} must hold {' x '.join(map(str, shape))} numbers, one row for each vertex of the body "
            f"'{assets.body.model_id}'; it has the shape {array.shape}."
        )
    if not (np.abs(array) <= MAX_NUMBER).all():
        raise DataFileError(f"{what} holds numbers that are not finite or beyond {MAX_NUMBER:,.0f}.")
    return array


def write_bodies(
    path: str | Path, protocol: DenseMaps, results: Results, ids: Sequence[int | None], overwrite: bool
) -> None:
    """Write the network's bodies of all scored people: pixels to 0.01, depths in metres from the body's origin.

    Args:
        ids: of the people's annotations; those without one are left out.
    """
    labels = protocol.people.labels
    with atomic_write(path, "w", overwrite) as file:
        begun = False
        for index in np.flatnonzero(results.scored).tolist():
            if ids[index] is None:
                continue
            vertices, cam = protocol.body(results.rows, index)
            place = torch.tensor(labels.center[index]), torch.tensor(labels.scale[index])
            (body,) = projected_bodies(vertices[None], cam[None], *(values[None] for values in place))
            row = {
                "image_id": int(labels.image_id[index]),
                "id": ids[index],
                "smpl_z": np.round(vertices[:, 2].double().numpy(), 4).tolist(),
                "smpl_xy_proj": np.round(body.xy, 2).tolist(),
            }
            file.write((",\n " if begun else "[\n ") + json.dumps(row))
            begun = True
        file.write("\n]\n" if begun else "[]\n")
