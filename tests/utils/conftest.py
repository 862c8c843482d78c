"""What several tests of drawing share."""

from __future__ import annotations

import pytest
import torch

from utils.body import body_tensors, load_open_body, skin
from utils.skeleton import SMPL_PARENTS


@pytest.fixture(scope="session")
def standing() -> torch.Tensor:
    """The open body in its rest pose, facing the camera: [1, V, 3] in camera axes."""
    rotmat = torch.eye(3).repeat(1, 24, 1, 1)
    rotmat[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    vertices = skin(body_tensors(load_open_body()), SMPL_PARENTS, rotmat, torch.zeros(1, 10))[0]
    return vertices.transpose(1, 2).contiguous()
