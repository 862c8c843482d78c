"""A training step: losses of its stage, gradients shared by processes, what stops it (docs/method.md 6.3 and 7)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.backbones.thunder import ReleasedFeatures, ThunderBackbone
from models.danet import DaNet
from models.losses import IUVCriterion, Losses, LossWeights, SMPLCriterion
from models.smpl import SMPL
from models.targets import TargetBuilder
from models.training.checkpoints import prune_checkpoints, write_checkpoint
from models.training.config import TrainingConfig
from models.training.pretrained_backbones import THUNDER_WEIGHTS
from models.training.run_log import format_scores
from models.training.stages import Stage
from models.training.state import TrainingState
from models.training.tensorboard_images import training_images
from utils.body import BodyAssets
from utils.checkpoint import save_checkpoint
from utils.config import to_dict
from utils.images import denormalize
from utils.runtime import Processes
from utils.structures import Batch, DaNetOutput, Targets

# Losses that are sums over annotated people instead of means (docs/method.md 6.3).
SUMMED = ("loss_Udp", "loss_Vdp")


class SupervisedNetwork(nn.Module):
    """Network and criteria as one module, so that `DistributedDataParallel` sees one forward pass.

    Args:
        smpl: poses the predicted bodies.
        shares: into how many parts a batch is split, over processes and time; gradients are averaged over them.
        amp: compute the network in bfloat16.
    """

    def __init__(
        self, network: DaNet, smpl: SMPL, weights: LossWeights | None = None, shares: int = 1, amp: bool = False
    ):
        super().__init__()
        self.network, self.shares, self.amp = network, shares, amp
        self.iuv_criterion, self.smpl_criterion = IUVCriterion(weights), SMPLCriterion(smpl, weights)
        self.weights, self.released = self.iuv_criterion.weights, None
        backbone = network.img2iuv.iuv_est
        if isinstance(backbone, ThunderBackbone) and backbone.learn_trunk:
            self.released = ReleasedFeatures(THUNDER_WEIGHTS).to(next(network.parameters()).device)

    def forward(self, image: Tensor, targets: Targets, stage: Stage) -> tuple[Losses, DaNetOutput]:
        """Named losses of a stage, and the output without its graph; `image` is [B,3,224,224], normalised."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
            if stage is Stage.RENDERED:
                output = self.network.forward_rendered(targets.iuv, targets.centers[..., :2])
            else:
                image = image.contiguous(memory_format=torch.channels_last)
                if stage is Stage.ESTIMATED:
                    output = self.network.forward_estimated(image)
                else:
                    output = self.network(image, iuv_only=stage is Stage.IUV)
        output = output.map(lambda t: t.float())
        losses = self.iuv_criterion(output, targets) if stage.trains_estimator else {}
        if self.released is not None and stage.trains_estimator:
            difference = self.released.difference(output.iuv.trunk)
            losses["loss_keypoint_features"] = self.weights.keypoint_features_weight * difference
        if stage.trains_regressor:
            losses |= self.smpl_criterion(output, targets)
        if self.shares > 1:  # the average over shares of a sum must be the sum
            losses |= {name: self.shares * losses[name] for name in SUMMED if name in losses}
        return losses, output.detach()


def distribute(
    module: nn.Module, processes: Processes, device: torch.device, sync_bn: bool = False
) -> nn.Module:
    """The module, whose gradients are averaged where there are several processes.

    Raises:
        ValueError: for `sync_bn` (batch norm over all processes) without several CUDA devices.
    """
    if sync_bn and (device.type != "cuda" or processes.count == 1):
        raise ValueError("--sync_bn needs several processes on CUDA devices: start them with torchrun.")
    if processes.count == 1:
        return module
    if sync_bn:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    # Each stage leaves other parameters alone.
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)


@dataclass(frozen=True)
class StepResult:
    """The mean of each loss over the parts of a batch ("loss_total": their sum); the last part's output and targets."""

    losses: Losses
    output: DaNetOutput
    targets: Targets


def add_gradients(
    network: nn.Module,
    build_targets: TargetBuilder,
    parts: Sequence[Batch],
    stage: Stage,
    step: int,
    dump_path: Path,
) -> StepResult:
    """Add the gradients of the mean loss over the parts of a batch to those of the parameters.

    Args:
        network: a `SupervisedNetwork`, perhaps distributed.
        step: number of the step, for messages.
        dump_path: where a batch is written whose loss is not finite.

    Raises:
        FloatingPointError: for a loss that is not finite.
    """
    means: Losses = {}
    for number, batch in enumerate(parts, start=1):
        targets = build_targets(batch)
        # Processes exchange gradients once a step, with its last part.
        waits = isinstance(network, DistributedDataParallel) and number < len(parts)
        with network.no_sync() if waits else contextlib.nullcontext():
            losses, output = network(batch.image, targets, stage)
            require_finite(losses, step, batch, dump_path)
            total = sum(losses.values())
            (total / len(parts)).backward()
        for name, value in (losses | {"loss_total": total}).items():
            means[name] = means.get(name, 0.0) + value.detach() / len(parts)
    return StepResult(means, output, targets)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch by these three numbers alone, so that a continued run needs to know no state of a generator."""
    numbers = np.random.SeedSequence((seed, step, rank)).generate_state(2, np.uint32)
    torch.manual_seed(int(numbers[0]) << 32 | int(numbers[1]))


def require_finite(losses: Mapping[str, Tensor], step: int, batch: Batch, dump_path: Path) -> None:
    """Raise FloatingPointError unless all losses are finite, after writing the batch to `dump_path`.

    The file holds plain data that `utils.io.load_torch` reads.
    """
    if torch.isfinite(sum(losses.values())):
        return
    values = {name: value.item() for name, value in losses.items()}
    save_checkpoint(dump_path, {"step": step, "losses": values, "batch": asdict(batch.to("cpu"))})
    bad = {name: value for name, value in values.items() if not np.isfinite(value)} or values
    raise FloatingPointError(
        f"The loss is not finite at step {step} ({format_scores(bad)}); samples: {', '.join(batch.name)}. The batch "
        f"lies in {dump_path}."
    )


@dataclass(frozen=True)
class Trainer:
    """A training run that is ready for its next step: all that a step changes or needs beside its batch."""

    cfg: TrainingConfig
    processes: Processes
    device: torch.device
    state: TrainingState
    network: nn.Module  # a `SupervisedNetwork` of the state's model, perhaps distributed
    build_targets: TargetBuilder
    assets: BodyAssets  # of the body that the targets show
    epoch_size: int  # samples
    total_steps: int
    folder: Path
    start: dict[str, Any]  # number and time of this start, see `note_start`
    written: list[Path] = field(default_factory=list)  # checkpoints since this start

    def step(self, parts: Sequence[Batch]) -> StepResult:
        """Train on this process's parts of a batch; what is random depends on seed, step and rank alone."""
        state, rank = self.state, self.processes.rank
        state.set_rates(self.cfg.optim, self.total_steps)
        state.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        seed_step(self.cfg.seed, state.step, rank)
        dump_path = self.folder / f"not_finite_{state.step:08d}_{rank}.pt"
        stage = self.cfg.stages.at(state.step)
        result = add_gradients(self.network, self.build_targets, parts, stage, state.step, dump_path)
        state.advance()
        return result

    def images(self, inputs: Tensor, result: StepResult) -> dict[str, Tensor]:
        """Named grids for TensorBoard; `inputs` are the network's of the last part."""
        return training_images(denormalize(inputs), result.output, result.targets, self.build_targets.smpl)

    def save(self) -> None:
        """Write a checkpoint and delete the oldest ones."""
        cfg, folder = self.cfg, self.folder / "checkpoints"
        path = write_checkpoint(folder, self.state, to_dict(cfg), self.epoch_size, cfg.batch_size, self.start)
        self.written.append(path)
        prune_checkpoints(folder, cfg.watch.keep, self.written)
