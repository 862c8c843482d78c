"""`SyntheticPeople`: a torch data set of rendered, clothed people with exact labels.

A person follows from (seed, split, epoch, index) alone; `split` holds out material for evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from datasets.labels.densepose import no_dense_labels
from datasets.labels.masks import no_mask
from datasets.synthetic.body import project
from datasets.synthetic.fitted_poses import FittedPoses
from datasets.synthetic.generator import SyntheticRender, load_resources, render_person
from utils.geometry import BOX_UNIT, CROP_SIZE
from utils.images import normalize_bytes
from utils.structures import Sample


@dataclass(frozen=True)
class Draw:
    """Epoch, difficulty and kind of the rendered samples.

    Args:
        epoch: another epoch gives other people.
        difficulty: 0..1, scales occluders, other people and busy backgrounds.
        labels_only: leave the images black, with the same labels, in a fifth of the time.
    """

    epoch: int = 0
    difficulty: float = 1.0
    labels_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.difficulty <= 1:
            raise ValueError(f"The difficulty is {self.difficulty} but must lie between 0 and 1.")


class SyntheticPeople(Dataset):
    """`size` rendered people in an epoch.

    Args:
        split: train or eval, which share no motion clip, texture or background.
        seed: another seed gives other people.
        draw: how `people[index]` is drawn; `sample` takes another one.
        backgrounds: folder of images without people, used beside the procedural backgrounds.
        fitted: poses that some people take.
    Raises:
        ValueError: for values out of range. FileNotFoundError: for a folder without images.
    """

    name = "synthetic"
    suspicions, left_out = (), {}  # labels of our own need no check

    def __init__(
        self,
        size: int,
        *,
        split: str = "train",
        seed: int = 0,
        draw: Draw = Draw(),  # noqa: B008 (frozen)
        backgrounds: Path | str | None = None,
        fitted: FittedPoses | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"A data set of {size} people was asked for; give a positive number.")
        if seed < 0:
            raise ValueError(f"The seed is {seed} but must not be negative.")
        self.size, self.seed, self.default_draw = size, seed, draw
        self.resources = load_resources(split, backgrounds, fitted)

    def __len__(self) -> int:
        return self.size

    def name_of(self, index: int, epoch: int = 0) -> str:
        """Name of person `index`, in place of an image's file name."""
        return f"{self.resources.split.name}_{self.seed}_{epoch}_{index}"

    def render(self, index: int, draw: Draw) -> SyntheticRender:
        """Image, camera and posed body of person `index`. Raises IndexError outside 0..size-1."""
        if not 0 <= index < self.size:
            raise IndexError(f"Person {index} was asked for, the data set holds 0..{self.size - 1}.")
        if get_worker_info() is not None:
            cv2.setNumThreads(1)
        rng = np.random.default_rng((self.seed, self.resources.split.number, draw.epoch, index))
        return render_person(rng, self.resources, draw.difficulty, draw.labels_only)

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index, self.default_draw)

    def sample(self, index: int, draw: Draw) -> Sample:
        """Person `index` with its labels in the form of every data set. Raises IndexError outside 0..size-1."""
        render = self.render(index, draw)
        body, cam = render.body, render.cam
        joints_3d = np.concatenate([body.joints[25:], np.ones((24, 1), np.float32)], axis=1)
        return Sample(
            image=torch.from_numpy(normalize_bytes(render.image)),
            rotvec=torch.from_numpy(np.float32(body.rotvec.reshape(72))),
            betas=torch.from_numpy(body.betas),
            keypoints=torch.from_numpy(_labels_2d(body.joints, cam, only_inside=True)),
            joints_3d=torch.from_numpy(joints_3d),
            smpl_keypoints=torch.from_numpy(_labels_2d(body.smpl_joints, cam, only_inside=False)),
            dense=no_dense_labels(),
            has_smpl=torch.tensor(True),
            has_dense=torch.tensor(False),
            has_joints_3d=torch.tensor(True),
            is_flipped=torch.tensor(False),
            rotation_deg=torch.tensor(0.0),
            center=torch.full((2,), CROP_SIZE / 2),
            scale=torch.tensor(CROP_SIZE / BOX_UNIT),
            gender=torch.tensor(-1),
            index=torch.tensor(index),
            dense_only=torch.tensor(False),
            mask=no_mask(),
            dataset=self.name,
            name=self.name_of(index, draw.epoch),
        )


def _labels_2d(points: np.ndarray, cam: np.ndarray, only_inside: bool) -> np.ndarray:
    """Points [N,3] in metres -> x, y in [-1,1] of the crop and confidence; outside it 0 if `only_inside`."""
    xy = project(points, cam)[:, :2] / np.float32(CROP_SIZE / 2) - 1
    inside = (np.abs(xy) <= 1).all(1) | (not only_inside)
    return np.concatenate([xy, inside[:, None]], axis=1).astype(np.float32)
