"""A tiny network, and samples without labels that tests fill in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from models import DaNetConfig
from models.backbones.resnet import BasicBlock
from utils.geometry import project_to_crop
from utils.structures import DensePosePoints, Sample, SMPLOutput

TINY = DaNetConfig(
    backbone_width=8, hrnet_stem=8, hrnet_blocks=1, hrnet_modules=(1, 1, 1), resnet_width=4,
    resnet_blocks=(1, 1, 1, 1), deconv_width=8, body_width=4, limb_width=4, features=8, gcn_hidden=8,
)  # fmt: skip
# Nothing random in training, so that samples do not depend on their place in a batch.
STEADY = replace(TINY, center_jitter=0.0, scale_jitter=0.0, partdrop_rate=0.0)


@contextmanager
def without_init() -> Iterator[None]:
    """Networks built inside have no fresh weights: for those that are filled afterwards, or asked for shapes alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_"):
            patch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
        yield


@contextmanager
def shallow() -> Iterator[None]:
    """Networks built inside have one block a layer behind the maps: exporters take their time by the layers."""

    def one_block(in_channels, channels, num_blocks, stride=1, groups=1):
        return torch.nn.Sequential(BasicBlock(in_channels, channels, stride, groups))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.backbones.resnet.basic_layer", one_block)
        yield


def unlabelled(count: int, size: int = 224) -> Sample:
    """A batch of black images of `size` pixels and people without any label."""
    points = torch.zeros(count, 196)
    no = torch.zeros(count, dtype=torch.bool)
    return Sample(
        image=torch.zeros(count, 3, size, size), rotvec=torch.zeros(count, 72), betas=torch.zeros(count, 10),
        keypoints=torch.zeros(count, 49, 3), joints_3d=torch.zeros(count, 24, 4),
        smpl_keypoints=torch.zeros(count, 24, 3),
        dense=DensePosePoints(
            torch.zeros(count, size // 4, size // 4, dtype=torch.long), torch.zeros(count, 196, 2), points.long(),
            points, points,
        ),
        has_smpl=no, has_dense=no, has_joints_3d=no, is_flipped=no, rotation_deg=torch.zeros(count),
        center=torch.zeros(count, 2), scale=torch.ones(count), gender=torch.full((count,), -1),
        index=torch.arange(count), dataset=("h36m",) * count, name=tuple(map(str, range(count))),
    )  # fmt: skip


def with_joints(sample: Sample, body: SMPLOutput, cam: torch.Tensor) -> Sample:
    """The sample with the body's 2D keypoints under the camera [3] and its 3D joints, all of them sure."""
    count = len(body.joints)
    keypoints = torch.cat([project_to_crop(body.joints, cam.expand(count, 3)), torch.ones(count, 49, 1)], dim=-1)
    joints = torch.cat([body.joints[:, 25:], torch.ones(count, 24, 1)], dim=-1)
    return replace(sample, keypoints=keypoints, joints_3d=joints, has_joints_3d=torch.ones(count, dtype=torch.bool))
