"""One training step: its stage, its losses, its share among processes, and what stops it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum, auto
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.danet import DaNet
from models.losses import IUVCriterion, Losses, SMPLCriterion
from models.smpl import SMPL
from models.targets import TargetBuilder
from utils.body import BodyAssets
from utils.checkpoint import save_checkpoint
from utils.renderer import IUV_Renderer
from utils.runtime import Processes
from utils.structures import Batch, BodyFits, DaNetOutput, Record, Targets

# Losses that are sums over annotated people instead of means (docs/method.md 6.3).
SUMMED = ("loss_Udp", "loss_Vdp")


class Stage(Enum):
    """IUV: the estimator alone. RENDERED: the regressor alone, on rendered maps. JOINT: everything."""

    IUV = auto()
    RENDERED = auto()
    JOINT = auto()


@dataclass(frozen=True)
class Stages:
    """Which steps train what. `always_rendered`: the regressor never learns from estimated maps (`iuv_gt`)."""

    pretr_step: int
    rendered_steps: int = 0
    always_rendered: bool = False

    def at(self, step: int) -> Stage:
        """What the step after `step` finished ones trains."""
        if step < self.pretr_step:
            return Stage.IUV
        rendered = self.always_rendered or step < self.pretr_step + self.rendered_steps
        return Stage.RENDERED if rendered else Stage.JOINT

    def between(self, step: int, total: int) -> list[Stage]:
        """What the steps from `step` to `total` train, in this order."""
        ends = (self.pretr_step, self.pretr_step + self.rendered_steps)
        firsts = sorted({step, *(end for end in ends if step < end)})
        return list(dict.fromkeys(self.at(first) for first in firsts if first < total))

    def require_whole_epochs(self, steps_per_epoch: int) -> None:
        """Raise ValueError when a rendered stage does not begin and end with an epoch.

        Its pictures are not painted, which is decided for whole epochs.
        """
        if self.rendered_steps and (
            self.pretr_step % steps_per_epoch or self.rendered_steps % steps_per_epoch
        ):
            raise ValueError(
                f"With --rendered_steps the stages must be whole epochs of {steps_per_epoch} steps."
            )

    def rendered_epochs(self, steps_per_epoch: int, epochs: int) -> range:
        """Epochs that no other stage has a part in."""
        end = epochs * steps_per_epoch if self.always_rendered else self.pretr_step + self.rendered_steps
        return range(-(-self.pretr_step // steps_per_epoch), end // steps_per_epoch)


class SupervisedNetwork(nn.Module):
    """Network and criteria as one module, so that `DistributedDataParallel` sees one forward pass.

    shares: into how many parts a batch is split, over processes and time; gradients are averaged over them.
    """

    def __init__(
        self,
        network: DaNet,
        iuv_criterion: IUVCriterion,
        smpl_criterion: SMPLCriterion,
        shares: int = 1,
        amp: bool = False,
    ):
        super().__init__()
        self.network = network
        self.iuv_criterion, self.smpl_criterion = iuv_criterion, smpl_criterion
        self.shares, self.amp = shares, amp

    def forward(self, image: Tensor, targets: Targets, stage: Stage) -> tuple[Losses, DaNetOutput]:
        """Named losses of a stage, and the output without its graph."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
            if stage is Stage.RENDERED:
                output = self.network.forward_rendered(targets.iuv, targets.centers[..., :2])
            else:
                image = image.contiguous(memory_format=torch.channels_last)
                output = self.network(image, iuv_only=stage is Stage.IUV)
        output = output.map(lambda t: t.float())
        losses = {} if stage is Stage.RENDERED else self.iuv_criterion(output, targets)
        if stage is not Stage.IUV:
            losses |= self.smpl_criterion(output, targets)
        if self.shares > 1:  # the average over shares of a sum must be the sum
            losses |= {name: self.shares * losses[name] for name in SUMMED if name in losses}
        return losses, output.detach()


def make_targets(
    assets: BodyAssets, device: torch.device, fits: Callable[[Batch], BodyFits] | None = None
) -> TargetBuilder:
    """Targets that show the body of `assets`."""
    smpl = SMPL(assets.body, assets.extra).to(device)
    return TargetBuilder(smpl, IUV_Renderer(atlas=assets.atlas), fits)


@torch.no_grad()
def body_of(output: DaNetOutput, smpl: SMPL) -> Tensor | None:
    """Vertices [B,V,3] of the predicted bodies, if the stage predicts any."""
    if output.smpl is None:
        return None
    return smpl(output.smpl.params.rotmat, output.smpl.params.betas).vertices


def distribute(
    module: SupervisedNetwork, processes: Processes, device: torch.device, sync_bn: bool = False
) -> nn.Module:
    """The module, in several processes with averaged gradients. Raises ValueError for `sync_bn` without CUDA."""
    if sync_bn and (device.type != "cuda" or processes.count == 1):
        raise ValueError("--sync_bn needs several processes on CUDA devices: start them with torchrun.")
    if processes.count == 1:
        return module
    if sync_bn:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    # Each stage leaves other parameters alone.
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)


def exchanging(module: nn.Module, last: bool) -> contextlib.AbstractContextManager:
    """Processes exchange gradients once a step, with its last part."""
    several = isinstance(module, DistributedDataParallel)
    return module.no_sync() if several and not last else contextlib.nullcontext()


def add_gradients(
    network: nn.Module,
    build_targets: Callable[[Batch], Targets],
    parts: Sequence[Batch],
    stage: Stage,
    step: int,
    suspect: Path,
) -> tuple[Losses, DaNetOutput, Targets]:
    """Add the gradients of the mean loss over the parts of a batch to those of the parameters.

    network: a `SupervisedNetwork`, perhaps distributed. suspect: where a batch is written whose loss is not finite.
    Returns the mean of each loss ("loss_total": their sum), and output and targets of the last part. Raises
    FloatingPointError for a loss that is not finite.
    """
    means: Losses = {}
    for number, batch in enumerate(parts, start=1):
        targets = build_targets(batch)
        with exchanging(network, last=number == len(parts)):
            losses, output = network(batch.image, targets, stage)
            require_finite(losses, step, batch, suspect)
            total = sum(losses.values())
            (total / len(parts)).backward()
        for name, value in (losses | {"loss_total": total}).items():
            means[name] = means.get(name, 0.0) + value.detach() / len(parts)
    return means, output, targets


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """The random numbers of a step depend on these three alone, so a continued run needs to know no others."""
    numbers = np.random.SeedSequence((seed, step, rank)).generate_state(2, np.uint32)
    torch.manual_seed(int(numbers[0]) << 32 | int(numbers[1]))


def require_finite(losses: Mapping[str, Tensor], step: int, batch: Batch, path: Path) -> None:
    """Raise FloatingPointError unless all losses are finite, after writing the batch to `path` for a closer look.

    The file holds plain data that `utils.io.load_torch` reads.
    """
    if torch.isfinite(sum(losses.values())):
        return
    values = {name: value.item() for name, value in losses.items()}
    save_checkpoint(path, {"step": step, "losses": values, "batch": _plain(batch)})
    bad = {name: value for name, value in values.items() if not np.isfinite(value)} or values
    named = ", ".join(f"{name} {value:.3g}" for name, value in bad.items())
    raise FloatingPointError(
        f"The loss is not finite at step {step} ({named}); samples: {', '.join(batch.name)}. The batch lies in {path}."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Tensor):
        return value.detach().cpu()
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
