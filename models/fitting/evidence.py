"""What the network's own maps and centres say about where the body is (docs/method.md 14.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from models.fitting.objective import Evidence, cell_middle
from models.fitting.points import PointBody
from models.part_crop import TEMPERATURE
from utils.geometry import MAP_SIZE
from utils.skeleton import NUM_COCO, NUM_JOINTS, NUM_PARTS
from utils.structures import Atlas, IUVEstimate, IUVMaps

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

MIN_SEEN = 0.01  # of the map's pixels; where the network sees less of a body, there is none
SURFACE_STEPS = 32  # U and V of a part in as many steps
NUM_CELLS = 160  # of the person's, spread evenly over them
NUM_OUTLINE = 130  # vertices that belong on the person
DOUBTFUL, SURE = 0.1, 0.6  # scores of keypoints that count nothing, and in full
SURE_SPREAD = 0.1  # of a heat map, halves of the crop's side, where a centre counts half
# Of the joints' centres, the keypoints, the cells and the outline: what each term of the objective weighs in all, and
# the distance (-1..1 of the crop) from which a point counts little.
CENTERS, KEYPOINTS, CELLS, OUTLINE = 36.0, 500.0, 48.0, 48.0
SIGMAS = (0.2, 0.2, 0.2, 0.1)


class EvidenceReader:
    """Reads the evidence of a batch of network outputs."""

    def __init__(self, body: PointBody, atlas: Atlas):
        self.body = body
        device = body.joints.device
        self._surface = surface_table(atlas).to(device)
        first, end = body.first_joint, body.first_keypoint + NUM_COCO
        self._joints = torch.arange(first, end, device=device)  # and keypoints
        self._outline = torch.linspace(0, body.first_joint - 1, NUM_OUTLINE, device=device).long()
        counts = torch.tensor([NUM_JOINTS, NUM_COCO, NUM_CELLS, NUM_OUTLINE], device=device)
        self._sigma = torch.tensor(SIGMAS, device=device).repeat_interleave(counts)

    def __call__(self, estimate: IUVEstimate) -> Evidence:
        """The evidence of raw maps, centres and keypoints.

        Points that are not finite, and maps without a person, weigh nothing; keypoints weigh by their scores.
        """
        centers, keypoints = estimate.centers, estimate.keypoints
        if keypoints is None:
            keypoints = centers.new_zeros(len(centers), NUM_COCO, 3)
        vertices, places, trust, is_person = self._cells(estimate.iuv)
        shown = is_person.float().mean(dim=1) >= MIN_SEEN
        known = centers.isfinite().all(dim=-1)
        center_trust = torch.where(known, heatmap_trust(estimate.heatmaps, centers), 0.0).nan_to_num()
        centers = torch.where(known[..., None], centers, 0.0)
        keypoints = torch.where(keypoints.isfinite().all(dim=-1, keepdim=True), keypoints, 0.0)
        batch = len(centers)
        numbers = [self._joints.expand(batch, -1), vertices, self._outline.expand(batch, -1)]
        weight = [
            center_trust * (CENTERS / NUM_JOINTS),
            keypoint_trust(keypoints[..., 2]) * (KEYPOINTS / NUM_COCO),
            trust * (CELLS / NUM_CELLS),
            shown[:, None].expand(-1, NUM_OUTLINE) * (OUTLINE / NUM_OUTLINE),
        ]
        return Evidence(
            self.body.rest(torch.cat(numbers, dim=1)),
            torch.cat([centers.transpose(1, 2), keypoints[..., :2].transpose(1, 2), places], dim=2),
            torch.cat(weight, dim=1),
            self._sigma,
            nearest_cells(is_person.unflatten(1, (MAP_SIZE, MAP_SIZE))),
            shown,
        )

    def _cells(self, maps: IUVMaps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of some of the person's cells: the vertex seen [B,N], its place [B,2,N], its trust [B,N]; all cells."""
        part = maps.index.max(dim=1, keepdim=True).indices
        trust = maps.index.softmax(dim=1).gather(1, part).flatten(1)
        part, u, v = part.flatten(1), maps.u.gather(1, part).flatten(1), maps.v.gather(1, part).flatten(1)
        is_person = (part > 0) & u.isfinite() & v.isfinite() & trust.isfinite()
        ranks = is_person.cumsum(dim=1)
        steps = (torch.arange(NUM_CELLS, device=part.device) + 0.5) / NUM_CELLS
        wanted = (steps * ranks[:, -1:]).long() + 1
        cell = torch.searchsorted(ranks, wanted).clamp(max=part.shape[1] - 1)
        steps = [
            (x.gather(1, cell).nan_to_num() * SURFACE_STEPS).long().clamp(0, SURFACE_STEPS - 1)
            for x in (u, v)
        ]
        vertices = self._surface[part.gather(1, cell), steps[0], steps[1]]
        places = torch.stack([cell_middle(cell % MAP_SIZE), cell_middle(cell // MAP_SIZE)], dim=1)
        counts = is_person.gather(1, cell)
        return vertices, places, torch.where(counts, trust.gather(1, cell), 0.0), is_person


def keypoint_trust(score: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Trust in a keypoint, 0..1, of its score: ((score - 0.1) / 0.5)^2 between 0.1 and 0.6.

    Of the keypoints of people in photographs that score 0.1, 0.3 and 0.6, about 15, 50 and 90 of a hundred are right.
    """
    return ((score - DOUBTFUL) / (SURE - DOUBTFUL)).clamp(0, 1).square()


def heatmap_trust(
    heatmaps: Float[Tensor, "B P H W"], centers: Float[Tensor, "B P 2"]
) -> Float[Tensor, "B P"]:
    """Trust in each centre, 0..1: 1 / (1 + (r / SURE_SPREAD)^2) with r the spread of its heat map about it."""
    weights = (TEMPERATURE * heatmaps).flatten(2).softmax(dim=-1).view_as(heatmaps)
    height, width = heatmaps.shape[-2:]
    x, y = (torch.arange(n, device=heatmaps.device) * (2 / n) - 1 for n in (width, height))
    across, down = weights.sum(dim=2), weights.sum(dim=3)
    square = (across * (x - centers[..., :1]) ** 2).sum(-1) + (down * (y - centers[..., 1:]) ** 2).sum(-1)
    return 1 / (1 + square / SURE_SPREAD**2)


def nearest_cells(is_person: Bool[Tensor, "B H W"]) -> Float[Tensor, "B 2 H*W"]:
    """The middle (x, y in -1..1) of the person's cell that is nearest to each cell; any where there is no person."""
    size = is_person.shape[-1]
    line = torch.arange(size, device=is_person.device, dtype=torch.float32)
    apart = (line[:, None] - line).square()
    in_row, column = torch.where(is_person[:, :, None], apart, 4.0 * size**2).min(dim=-1)  # [B, row, column]
    row = (in_row.transpose(1, 2)[:, :, None] + apart).min(dim=-1).indices.transpose(1, 2)
    return torch.stack([cell_middle(column.gather(1, row)), cell_middle(row)], dim=1).flatten(2)


def surface_table(atlas: Atlas) -> Int[Tensor, "25 32 32"]:
    """The body's vertex nearest to each place (part, U, V) of the atlas; the background's are 0."""
    steps = (np.arange(SURFACE_STEPS) + 0.5) / SURFACE_STEPS
    places = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    vertices = atlas.vertex_map[atlas.faces]
    table = np.zeros((NUM_PARTS + 1, SURFACE_STEPS, SURFACE_STEPS), np.int64)
    for part in range(1, NUM_PARTS + 1):
        of_part = atlas.face_part == part
        nearest = cKDTree(atlas.face_uv[of_part].reshape(-1, 2)).query(places)[1]
        table[part] = vertices[of_part].reshape(-1)[nearest].reshape(SURFACE_STEPS, SURFACE_STEPS)
    return torch.from_numpy(table)
