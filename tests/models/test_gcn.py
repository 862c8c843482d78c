"""Graphs of the refinement against the 2020 matrices."""

from __future__ import annotations

import numpy as np
import torch

from models import gcn


def test_graphs(golden):
    with np.load(golden / "functions.npz") as file:
        numbers = {key.replace("__", "/"): torch.from_numpy(file[key]) for key in file.files}
    assert torch.equal(gcn.refinement_mask(), numbers["graph/A_mask"])
    torch.testing.assert_close(gcn.rotation_to_position_graph(), numbers["graph/r2p_A"])
    torch.testing.assert_close(gcn.position_to_rotation_graph(), numbers["graph/p2r_A"])
    weighted = numbers["graph/I_n"] + numbers["graph/A_mask"] * numbers["graph_edge/edge_importance"].relu()
    torch.testing.assert_close(gcn.normalize_undirected(weighted)[0], numbers["graph_edge/norm"])
    matrix = numbers["graph_norm/M"]
    torch.testing.assert_close(gcn.normalize_undirected(matrix), numbers["graph_norm/undi"])
    torch.testing.assert_close(gcn.normalize_rows(matrix), numbers["graph_norm/DA"])


def test_layers_see_neighbours_only():
    """With one layer a joint's output depends on its graph neighbours alone."""
    net, graph = gcn.GraphNet((4, 4)).eval(), gcn.position_to_rotation_graph()
    x = torch.randn(1, 24, 4, requires_grad=True)
    net(x, graph)[0, 18].sum().backward()
    touched = set(x.grad[0].abs().sum(-1).nonzero().flatten().tolist())
    assert touched <= set(graph[0, 18].nonzero().flatten().tolist()) and touched
