"""Graph layers over the 24 joints and the adjacency matrices of the refinement (docs/method.md 4.1; paper section 3.3).

Graphs are [1,24,24]; features are [B,24,D].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from utils.skeleton import EXTRA_EDGES, NUM_JOINTS, SMPL_PARENTS, TREE_EDGES

if TYPE_CHECKING:
    from jaxtyping import Float



def normalize_undirected(adjacency: Float[Tensor, "*B N N"]) -> Float[Tensor, "*B N N"]:
    """D^-1/2 A D^-1/2 with D the column sums; an empty column stays empty."""
    degree = adjacency.sum(dim=-2)
    inverse = torch.where(degree > 0, degree.clamp(min=1e-12).rsqrt(), torch.zeros_like(degree))
    return inverse[..., :, None] * adjacency * inverse[..., None, :]


def normalize_rows(adjacency: Float[Tensor, "*B N N"]) -> Float[Tensor, "*B N N"]:
    """D^-1 A with D the row sums; an empty row stays empty."""
    return adjacency / adjacency.sum(dim=-1, keepdim=True).clamp(min=1e-12)


def refinement_mask() -> Float[Tensor, "1 24 24"]:
    """1 where two joints exchange features in the refinement; zero diagonal."""
    mask = torch.zeros(NUM_JOINTS, NUM_JOINTS)
    for a, b in (*TREE_EDGES, *EXTRA_EDGES):
        mask[a, b] = mask[b, a] = 1.0
    return mask[None]


def rotation_to_position_graph() -> Float[Tensor, "1 24 24"]:
    """A joint's position follows from the rotations of its strict ancestors (row-normalised; root row zero)."""
    graph = torch.zeros(NUM_JOINTS, NUM_JOINTS)
    for joint in range(1, NUM_JOINTS):
        ancestor = SMPL_PARENTS[joint]
        while ancestor >= 0:
            graph[joint, ancestor] = 1.0
            ancestor = SMPL_PARENTS[ancestor]
    return normalize_rows(graph)[None]


def position_to_rotation_graph() -> Float[Tensor, "1 24 24"]:
    """A joint's rotation follows from the positions of itself, its parent and its children (row-normalised)."""
    graph = torch.eye(NUM_JOINTS)
    for parent, child in TREE_EDGES:
        graph[parent, child] = graph[child, parent] = 1.0
    return normalize_rows(graph)[None]


class GraphConvolution(nn.Module):
    """A x W + b with weight [in, out]."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, x: Float[Tensor, "B N I"], graph: Float[Tensor, "*B N N"]) -> Float[Tensor, "B N O"]:
        """New features of the N nodes: a weighted sum over `graph` of their neighbours."""
        return graph @ (x @ self.weight) + self.bias


class GraphNet(nn.Module):
    """Graph convolutions, each followed by batch norm over the nodes and ReLU.

    One affine pair a node, statistics over batch and features. `act[i][0]` is a key name.
    """

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.gc = nn.ModuleList(GraphConvolution(i, o) for i, o in pairs)
        self.act = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(NUM_JOINTS), nn.ReLU(inplace=True)) for _ in pairs
        )

    def forward(self, x: Float[Tensor, "B 24 I"], graph: Float[Tensor, "1 24 24"]) -> Float[Tensor, "B 24 O"]:
        """New features of the 24 joints after all layers."""
        for convolution, activation in zip(self.gc, self.act, strict=True):
            x = activation(convolution(x, graph))
        return x
