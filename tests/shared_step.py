"""Gradients of one fixed batch, as one process or as one of several that share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from tiny import STEADY
from torch import nn

from datasets.synthetic.dataset import Draw, SyntheticPeople
from models import build_danet
from models.targets import TargetBuilder
from models.training.stages import Stage
from models.training.step import SupervisedNetwork, add_gradients, distribute
from utils.body import resolve_body
from utils.checkpoint import save_checkpoint
from utils.runtime import Processes, joined_processes
from utils.structures import Batch, DensePosePoints, Sample, collate_samples

CPU = torch.device("cpu")


def densely_labelled(sample: Sample, seed: int) -> Sample:
    """The sample as one of dp_coco: annotated points instead of a body."""
    generator = torch.Generator().manual_seed(seed)

    def whole(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    points = DensePosePoints(
        ann_labels=whole(15, 56, 56), xy=torch.rand(196, 2, generator=generator) * 55, part=whole(25, 196),
        u=torch.rand(196, generator=generator), v=torch.rand(196, generator=generator),
    )  # fmt: skip
    no = torch.tensor(False)
    return replace(sample, dense=points, has_dense=~no, has_smpl=no, has_joints_3d=no, dense_only=~no)


def mixed_batch() -> Batch:
    """A body, a densely labelled person, a body, a densely labelled person."""
    people = SyntheticPeople(4, seed=3, draw=Draw(labels_only=True))
    image = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    samples = [replace(people[i], image=image[i]) for i in range(4)]
    return collate_samples([densely_labelled(s, i) if i % 2 else s for i, s in enumerate(samples)])


def gradients(processes: Processes, parts: int = 1) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients of both stages, by parameter, averaged over processes and parts of the batch."""
    torch.manual_seed(0)
    model = build_danet(replace(STEADY, backbone="resnet")).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    build_targets = TargetBuilder.of_body(resolve_body("open"))
    shares = processes.count * parts
    supervised = SupervisedNetwork(model, build_targets.smpl, shares=shares)
    network = distribute(supervised, processes, CPU)
    batch, size = mixed_batch(), 4 // shares
    first = processes.rank * parts
    own = [_slice(batch, (first + part) * size, size) for part in range(parts)]
    found = {}
    for stage in (Stage.IUV, Stage.JOINT, Stage.RENDERED, Stage.ESTIMATED):
        model.zero_grad(set_to_none=True)
        add_gradients(network, build_targets, own, stage, 0, Path("unused"))
        found[stage.name] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found


def _slice(batch: Batch, start: int, size: int) -> Batch:
    part = slice(start, start + size)
    return replace(batch[part], dataset=batch.dataset[part], name=batch.name[part])


def write_gradients(path: Path) -> int:
    """What a process of the group does."""
    with joined_processes() as processes:
        found = gradients(processes)
        if processes.is_first:
            save_checkpoint(path, found)
    return 0
