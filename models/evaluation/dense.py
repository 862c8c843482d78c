"""GPS, GPSm, AP and AR of dense maps: the network's, and the one drawn from its body (docs/method.md 11.6)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from models.evaluation.average_precision import STAT_NAMES, average_precision, box_iou
from models.evaluation.protocol import Protocol, body_rows
from models.evaluation.report import Score, Summary, Table
from models.evaluation.resumable import Results
from models.inference.predictor import Predictor
from utils import report
from utils.body import COARSE_PARTS, Surface, coarse_means, point_similarity
from utils.geometry import BOX_UNIT, CROP_SIZE, cam_to_translation, project_to_crop
from utils.iuvmap import iuv_map2img, sample_iuv
from utils.renderer.panel import colorize_parts
from utils.renderer.projected import ProjectedBody, ProjectedRenderer
from utils.skeleton import NUM_PARTS
from utils.structures import Batch, DaNetOutput

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

    from models.evaluation.protocol import Crop, Rows

    Look = Callable[[Float[np.ndarray, "N 2"]], Float[np.ndarray, "N 3"]]  # pixels of the image -> part, U, V
    Labelled = Sequence[tuple[int, Any]]  # place among the image's annotations, and its `DensePerson`

LATTICE = 128  # points across a box on which masks are compared
MEASURES = ("GPS", "GPSm")
POINT_RADIUS = 2  # pixels of a drawn point


@dataclass(frozen=True)
class PersonScores:
    """One map against the labelled people of its image, by their places among the image's annotations."""

    gps: Float[np.ndarray, "G"]  # mean similarity of the person's points
    iou: Float[np.ndarray, "G"]  # of the masks
    coarse: Float[
        np.ndarray, "8"
    ]  # mean similarity by coarse part, of the person whose box it is; NaN without points


def score_person(
    look: Look, box: Float[np.ndarray, "4"], labelled: Labelled, own: int, places: int, surface: Surface
) -> PersonScores:
    """Scores of a map with every labelled person.

    Args:
        look: gives what the map shows.
        box: x, y, width, height of the map's person, pixels; what lies outside counts as background.
        own: place of the person whose box it is.
        places: G, the number of places.
    """
    cells = (np.arange(LATTICE) + 0.5) / LATTICE
    lattice = box[:2] + np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2) * box[2:]
    points = [person.box[:2] + person.xy * person.box[2:] / 255 for _, person in labelled]
    whole = np.concatenate([lattice, *points])
    inside = ((whole >= box[:2]) & (whole < box[:2] + box[2:])).all(axis=1)
    seen = look(whole) * inside[:, None]
    mask, start = seen[: len(lattice), 0] > 0, len(lattice)
    gps, iou, coarse = np.zeros(places), np.zeros(places), np.full(len(COARSE_PARTS), np.nan)
    for place, person in labelled:
        part, u, v = seen[start : start + len(person.xy)].T
        start += len(person.xy)
        predicted = part.astype(np.int64), u, v
        similarity = point_similarity(surface, (person.part, person.u, person.v), predicted)
        gps[place] = similarity.mean() if len(similarity) else 0.0
        iou[place] = mask_iou(mask, lattice, box, person)
        if place == own:
            coarse = coarse_means(similarity, person.part)
    return PersonScores(gps, iou, coarse)


def mask_iou(
    mask: np.ndarray, lattice: Float[np.ndarray, "L 2"], box: Float[np.ndarray, "4"], person: Any
) -> float:
    """Intersection over union of a map's mask, given on a lattice over its box, and a person's annotated mask."""
    size = len(person.labels)
    cells = np.floor((lattice - person.box[:2]) / person.box[2:] * size)
    inside = ((cells >= 0) & (cells < size)).all(axis=1)
    column, row = np.where(inside[:, None], cells, 0).astype(np.int64).T
    true = inside & (person.labels[row, column] > 0)
    cell = box[2:].prod() / len(lattice)  # pixels of the image
    both, predicted = (mask & true).sum() * cell, mask.sum() * cell
    annotated = (person.labels > 0).mean() * person.box[2:].prod()
    return float(both / max(annotated + predicted - both, 1e-9))


class DenseMaps(Protocol):
    """The network's map (`map`) and the one drawn from its body (`body`) against annotated surface points.

    Args:
        surface: of the predictor's body, gives distances.
        people: has `labels` (`image_id`, `score`, `center`, `scale`), `boxes` [N, 4], `labels_in(index)` and
            `most_people`, as a `DenseCOCODataset`.
        truth, image_ids: as in `average_precision`.
    """

    legend = "crop, predicted body, parts of the predicted map, annotated points"
    sources: tuple[str, ...] = ("map", "body")

    def __init__(
        self,
        predictor: Predictor,
        surface: Surface,
        people: Any,
        truth: dict[str, Any],
        image_ids: Sequence[int],
    ):
        self.predictor, self.surface, self.people = predictor, surface, people
        self.truth, self.image_ids, self.extra = truth, image_ids, people.labels_in
        self.renderer = ProjectedRenderer(predictor.assets.atlas)
        if predictor.regressor == "hmr":
            self.sources = ("body",)

    def score(self, predicted: Any, batch: Batch, extras: Sequence[Labelled]) -> Rows:
        rows: dict[str, list[Any]] = defaultdict(list)
        for index, looks, labelled in zip(
            batch.index.tolist(), self.looks(predicted, batch), extras, strict=True
        ):
            box, own = self.people.boxes[index], self._own(index, labelled)
            rows["own"].append(own)
            for source, look in looks.items():
                found = score_person(look, box, labelled, own, self.people.most_people, self.surface)
                for name, values in vars(found).items():
                    rows[f"{name}_{source}"].append(values)
        return {name: np.stack(values) for name, values in rows.items()} | self.own_rows(predicted)

    def _own(self, index: int, labelled: Labelled) -> int:
        """Place of the labelled person whose box overlaps most with that of person `index`; -1 for none."""
        if not labelled:
            return -1
        overlap = box_iou(self.people.boxes[[index]], [person.box for _, person in labelled])[0]
        return labelled[int(overlap.argmax())][0] if overlap.max() > 0 else -1

    def own_rows(self, predicted: DaNetOutput) -> Rows:
        """Rows beside the scores: body and parts."""
        rows = body_rows(predicted.smpl.params)
        if predicted.iuv is None:
            return rows
        image = iuv_map2img(*predicted.iuv.iuv)[:, 0]
        return rows | {"parts": (image * NUM_PARTS).round().byte().cpu().numpy()}

    def has_result(self, index: int) -> bool:
        """Whether there is a map of person `index`; without one the person counts as not found."""
        return True

    def looks(self, predicted: DaNetOutput, batch: Batch) -> Iterator[dict[str, Look]]:
        """For each person, what each source shows at pixels of the image."""
        params = predicted.smpl.params
        vertices = self.predictor.smpl(params.rotmat, params.betas).vertices
        bodies = projected_bodies(vertices, params.cam, batch.center, batch.scale)
        for row, body in enumerate(bodies):
            corner, side = square_of(batch.center[row], batch.scale[row])
            looks = {"body": self._look_at_body(body, corner, side)}
            if predicted.iuv is not None:
                looks["map"] = _look_at_map(predicted.iuv.iuv[row], corner, side)
            yield looks

    def _look_at_body(self, body: ProjectedBody, corner: np.ndarray, side: float) -> Look:
        return lambda points: self.renderer.sample(body, corner, side, points)

    # ------------------------------------------------------------------------------------------------- summary

    def own_gps(self, results: Results, source: str) -> Float[np.ndarray, "N"]:
        """GPS of each person with the annotations of its own box; NaN where not scored, or no box overlaps."""
        gps, own = results.rows[f"gps_{source}"], results.rows["own"]
        found = np.take_along_axis(gps, np.maximum(own, 0)[:, None], axis=1)[:, 0]
        return np.where((results.scored > 0) & (own >= 0), found, np.nan)

    def stats(self, results: Results, source: str, measure: str) -> dict[str, float]:
        """COCO's ten numbers of a source by a measure."""
        scored = [index for index in np.flatnonzero(results.scored).tolist() if self.has_result(index)]
        gps, iou = (results.rows[f"{name}_{source}"][scored] for name in ("gps", "iou"))
        similarity = gps if measure == "GPS" else np.sqrt(gps * iou)
        count = Counter(entry["image_id"] for entry in self.truth["annotations"])
        found, by_image = [], defaultdict(list)
        for index, row in zip(scored, similarity, strict=True):
            image, score = (
                values[index].item() for values in (self.people.labels.image_id, self.people.labels.score)
            )
            box = self.people.boxes[index].tolist()
            found.append({"image_id": image, "category_id": 1, "bbox": box, "score": score})
            by_image[image].append(row[: count[image]])
        by_image = {image: np.stack(rows) for image, rows in by_image.items()}
        return average_precision(self.truth, found, self.image_ids, by_image)

    def summary(self, results: Results, names: Sequence[str]) -> Summary:
        scores, rows, parts, charts = [], [], [], []
        for source in self.sources:
            for measure in MEASURES:
                stats = self.stats(results, source, measure)
                scores += [Score(f"{source}: {name} ({measure})", stats[name]) for name in ("AP", "AR")]
                rows.append((f"{source}, {measure}", *(f"{stats[name]:.3f}" for name in STAT_NAMES)))
            gps = self.own_gps(results, source)
            scores.append(Score(f"{source}: mean GPS", _mean(gps)))
            means = np.array([_mean(column) for column in results.of_scored(f"coarse_{source}").T])
            parts.append((source, *(f"{mean:.3f}" for mean in means)))
            charts.append(report.histogram(f"GPS of people ({source})", gps))
        tables = (
            Table("AP and AR", ("", *STAT_NAMES), tuple(rows)),
            Table("Mean GPS by coarse part", ("", *COARSE_PARTS), tuple(parts)),
        )
        return Summary(tuple(scores), -self.own_gps(results, self.sources[0]), tuple(charts), tables)

    def caption(self, results: Results, index: int) -> str:
        return ", ".join(
            f"GPS of the {source} {self.own_gps(results, source)[index]:.2f}" for source in self.sources
        )

    def compare(self, results: Results, index: int, crop: Crop) -> UInt8[np.ndarray, "224 W 3"]:
        points = self.draw_points(index, crop)
        if "parts" not in results.rows:
            return points
        return np.concatenate([blend_parts(crop, results.rows["parts"][index]), points], axis=1)

    def draw_points(self, index: int, crop: Crop) -> Crop:
        """The crop with the annotated points of the labelled people of the image, in the colours of their parts."""
        image, labels = crop.copy(), self.people.labels
        corner, side = square_of(labels.center[index], labels.scale[index])
        for _, person in self.people.labels_in(index):
            points = (person.box[:2] + person.xy * person.box[2:] / 255 - corner) * (CROP_SIZE / side)
            for point, color in zip(np.rint(points).astype(int), colorize_parts(person.part), strict=True):
                cv2.circle(image, point.tolist(), POINT_RADIUS, color.tolist(), -1, cv2.LINE_AA)
        return image


def _look_at_map(maps: Any, corner: Float[np.ndarray, "2"], side: float) -> Look:
    def look(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
        return (
            sample_iuv(maps, torch.from_numpy((points - corner) * (2 / side) - 1).float())
            .cpu()
            .double()
            .numpy()
        )

    return look


def projected_bodies(vertices: Any, cam: Any, center: Any, scale: Any) -> list[ProjectedBody]:
    """Bodies in pixels of their images, from vertices [B, V, 3], cameras [B, 3] and squares of their crops."""
    half = (BOX_UNIT / 2) * scale.double()
    xy = center.double()[:, None] + project_to_crop(vertices, cam).double() * half[:, None, None]
    depth = vertices[..., 2] + cam_to_translation(cam)[:, None, 2]
    return [
        ProjectedBody(*(values[row].cpu().double().numpy() for values in (xy, depth)))
        for row in range(len(vertices))
    ]


def square_of(center: Any, scale: Any) -> tuple[Float[np.ndarray, "2"], float]:
    """Upper left corner and side of a crop's square, pixels of the image."""
    side = BOX_UNIT * float(scale)
    return np.asarray(center, np.float64) - side / 2, side


def blend_parts(crop: Crop, parts: Int[np.ndarray, "H H"]) -> Crop:
    """The crop with the colours of parts over it."""
    colors = cv2.resize(colorize_parts(parts), (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_NEAREST)
    return np.where(colors.any(axis=2, keepdims=True), (0.35 * crop + 0.65 * colors).astype(np.uint8), crop)


def _mean(values: Float[np.ndarray, "N"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
