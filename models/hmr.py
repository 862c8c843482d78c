"""The HMR baseline: image -> ResNet-50 -> SMPL in three steps of iterative regression (docs/method.md 4.4).

A network to compare with; evaluation selects it by `--regressor hmr`. Attribute names are the checkpoint's key names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import nn

from utils.body import DATA_DIR, MeanParams, load_mean_params
from utils.geometry import CROP_SIZE, rot6d_to_rotmat
from utils.structures import SMPLParams

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FEATURES, HIDDEN = 2048, 1024


class HMR(nn.Module):
    """Features of the whole image; from them pose, shape and camera are corrected again and again.

    There is no activation between the layers of the regressor.
    """

    def __init__(self, mean: MeanParams, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations
        self.register_buffer("init_pose", mean.pose_6d[None].clone())
        self.register_buffer("init_shape", mean.betas[None].clone())
        self.register_buffer("init_cam", mean.cam[None].clone())
        from torchvision.models import resnet50  # seconds to import, and only this baseline needs it

        trunk = resnet50(weights=None)  # fresh weights: nothing is downloaded
        self.conv1, self.bn1, self.relu, self.maxpool = trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4,
        )  # fmt: skip
        sizes = (self.init_pose.shape[1], self.init_shape.shape[1], self.init_cam.shape[1])
        self.fc1 = nn.Linear(FEATURES + sum(sizes), HIDDEN)
        self.drop1 = nn.Dropout()
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.drop2 = nn.Dropout()
        self.decpose, self.decshape, self.deccam = (nn.Linear(HIDDEN, size) for size in sizes)
        for decoder in (self.decpose, self.decshape, self.deccam):  # so that learning starts near the mean
            nn.init.xavier_uniform_(decoder.weight, gain=0.01)

    def forward(self, image: Float[Tensor, "B 3 224 224"]) -> SMPLParams:
        """The body of each crop. image: RGB, normalised by `utils.images.network_input`.

        Raises ValueError for another shape.
        """
        if image.shape[1:] != (3, CROP_SIZE, CROP_SIZE):
            raise ValueError(f"HMR takes images [B, 3, {CROP_SIZE}, {CROP_SIZE}], got {list(image.shape)}.")
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.regress(x.mean(dim=(2, 3)))

    def regress(self, features: Float[Tensor, "B 2048"]) -> SMPLParams:
        """The body of image features; each iteration adds a correction to the last estimate."""
        pose, betas, cam = (
            mean.expand(features.shape[0], -1) for mean in (self.init_pose, self.init_shape, self.init_cam)
        )
        for _ in range(self.iterations):
            hidden = self.drop1(self.fc1(torch.cat([features, pose, betas, cam], dim=1)))
            hidden = self.drop2(self.fc2(hidden))
            pose = pose + self.decpose(hidden)
            betas = betas + self.decshape(hidden)
            cam = cam + self.deccam(hidden)
        return SMPLParams(cam, betas, rot6d_to_rotmat(pose).view(-1, 24, 3, 3))


def build_hmr(data_dir: str | os.PathLike = DATA_DIR) -> HMR:
    """The baseline with fresh weights.

    Mean pose, shape and camera are the user's in `data_dir`, else the shipped ones; a checkpoint carries its own.
    """
    return HMR(load_mean_params(data_dir=data_dir))
