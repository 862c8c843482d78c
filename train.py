"""Two-stage training: first the IUV estimator, then everything (paper section 3.5; method.md 7).

python train.py --name danet --batch_size 16 --vis_interval 1000 --pretr_step 5000
python train.py --name danet_s --cfg data/open/danet_s_train.yaml
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import torch
from tensorboardX import SummaryWriter
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.sampler import ResumableSampler
from datasets.synthetic import SyntheticPeople
from datasets.transforms import denormalize
from models import SMPL, DaNetConfig, build_danet
from models.danet import preset
from models.losses import IUVCriterion, LossWeights, SMPLCriterion
from models.movenet import load_movenet_trunk
from models.scoring import score
from models.targets import TargetBuilder
from utils.assets import DATA_DIR, resolve_body
from utils.body import OPEN_DIR
from utils.checkpoint import (
    export_safetensors,
    find_latest,
    load_checkpoint,
    load_danet,
    prune_checkpoints,
    save_checkpoint,
)
from utils.config import ConfigError, group, option, parse_config, to_dict, to_yaml
from utils.optim import WeightAverage, learning_rate_factor
from utils.renderer import IUV_Renderer
from utils.runtime import (
    choose_device,
    keep_freed_memory,
    make_run_folder,
    seed_everything,
    setup_logging,
)
from utils.safe_io import atomic_write
from utils.structures import Batch, collate_samples
from utils.train_pictures import training_pictures

log = logging.getLogger("train")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; the defaults are the published ones."""

    name: str = option(help="name of the run")
    model: str = option("danet", "named sizes of the network", choices=("danet", "danet_s"))
    net: DaNetConfig = group(DaNetConfig, preset_by="model", preset=preset)
    losses: LossWeights = group(LossWeights)
    train_data: str = option("synthetic", "data mix", choices=("synthetic",))
    synthetic_size: int = option(16000, "synthetic people in an epoch")
    easy_epochs: int = option(0, "epochs over which the synthetic pictures grow to full difficulty")
    body: str = option("auto", "body of the run", choices=("auto", "smpl", "open"))
    data_dir: str = option(str(DATA_DIR), "folder of the necessary files")
    log_dir: str = option("logs", "folder of all runs")
    timestamp: str = option("", "name of the run's sub-folder (default: now)")
    resume: bool = option(False, "continue the newest checkpoint of this run's name")
    pretrained_checkpoint: str = option("", "whole model to start from")
    num_epochs: int = option(4)
    batch_size: int = option(16)
    pretr_step: int = option(5000, "steps of stage one, which trains the IUV estimator alone")
    rendered_steps: int = option(0, "steps after stage one that train the regressor alone, on rendered maps")
    base_lr: float = option(1e-4, "learning rate")
    lr_schedule: str = option("step", "learning rate over time", choices=("step", "cosine"))
    lr_steps: tuple[int, ...] = option((30000, 60000), "steps at which the rate falls")
    lr_gamma: float = option(0.1, "factor of each fall")
    warmup_steps: int = option(0, "steps over which the rate rises")
    backbone_lr_factor: float = option(1.0, "factor on the rate of the pretrained trunk")
    freeze_backbone: int = option(0, "first steps that leave the trunk alone")
    ema_decay: float = option(0.0, "moving average of the weights; 0: none")
    amp: bool = option(False, "bfloat16 in the network where the machine is fast at it")
    seed: int = option(0)
    num_workers: int = option(2)
    device: str = option("auto", "auto, cpu or cuda")
    time_to_run: float = option(math.inf, "seconds after which the run saves and ends")
    summary_steps: int = option(100, "steps between scalars")
    vis_interval: int = option(1000, "steps between pictures")
    checkpoint_steps: int = option(10000, "steps between checkpoints")
    keep: int = option(3, "checkpoints kept")
    test_steps: int = option(1000, "steps between scores on held-out people; 0: none")
    test_size: int = option(64, "held-out people scored each time")

    def __post_init__(self):
        if self.resume and self.pretrained_checkpoint:
            raise ConfigError("--resume and --pretrained_checkpoint contradict each other: give one of them.")
        if self.synthetic_size < self.batch_size:
            raise ConfigError(
                f"--synthetic_size {self.synthetic_size} is less than one batch of {self.batch_size}."
            )
        per_epoch = self.synthetic_size // self.batch_size
        if self.rendered_steps and (self.pretr_step % per_epoch or self.rendered_steps % per_epoch):
            raise ConfigError(f"With --rendered_steps the stages must be whole epochs of {per_epoch} steps.")


class Stage(Enum):
    """IUV: the estimator alone. RENDERED: the regressor alone, on rendered maps. JOINT: everything."""

    IUV = auto()
    RENDERED = auto()
    JOINT = auto()


@dataclass
class Run:
    """What a training run carries from step to step."""

    cfg: TrainConfig
    folder: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    step: int = 0

    def stage(self, step: int) -> Stage:
        """What a step trains."""
        if step < self.cfg.pretr_step:
            return Stage.IUV
        return Stage.RENDERED if step < self.cfg.pretr_step + self.cfg.rendered_steps else Stage.JOINT

    @property
    def steps_per_epoch(self) -> int:
        return self.cfg.synthetic_size // self.cfg.batch_size

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.cfg.num_epochs


# ----------------------------------------------------------------------------------------------------- set-up


def pretrained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the trunk: those that can come from pretrained files."""
    fresh = ("final_pred.", "neck.")
    return [p for n, p in model.img2iuv.iuv_est.named_parameters() if not n.startswith(fresh)]


def make_optimizer(model: nn.Module, cfg: TrainConfig) -> torch.optim.Optimizer:
    trunk = pretrained_parameters(model)
    in_trunk = {id(p) for p in trunk}
    rest = [p for p in model.parameters() if id(p) not in in_trunk]
    groups = [{"params": rest, "factor": 1.0}, {"params": trunk, "factor": cfg.backbone_lr_factor}]
    return torch.optim.Adam(groups, lr=cfg.base_lr)


def start_run(cfg: TrainConfig, device: torch.device) -> Run:
    """A fresh run, or the newest checkpoint of the same name."""
    newest = newest_run(cfg) if cfg.resume else None
    folder = newest or make_run_folder(cfg.log_dir, cfg.name, cfg.timestamp)
    model = build_danet(cfg.net)
    if cfg.net.backbone == "movenet":
        load_movenet_trunk(model.img2iuv.iuv_est.trunk, OPEN_DIR / "movenet_trunk.safetensors")
    if cfg.pretrained_checkpoint:
        log.info("Starting from %s", load_danet(model, cfg.pretrained_checkpoint))
    model = model.to(device, memory_format=torch.channels_last)
    average = WeightAverage(model, cfg.ema_decay) if cfg.ema_decay else None
    run = Run(cfg, folder, model, make_optimizer(model, cfg), average)
    if newest:
        restore(run, find_latest(folder / "checkpoints"))
    with atomic_write(folder / "config.yaml", "w") as file:
        file.write(to_yaml(cfg))
    return run


def newest_run(cfg: TrainConfig) -> Path:
    """Folder of the newest run of this name that has a checkpoint. Raises FileNotFoundError when there is none."""
    folders = sorted((Path(cfg.log_dir) / cfg.name).glob("log_*"), key=lambda path: path.stat().st_mtime)
    for folder in reversed(folders):
        if find_latest(folder / "checkpoints"):
            return folder
    raise FileNotFoundError(
        f"--resume: no checkpoint of a run named '{cfg.name}' in {cfg.log_dir}. Start it without --resume."
    )


def restore(run: Run, path: Path) -> None:
    saved = load_checkpoint(path)
    run.model.load_state_dict(saved["model"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.step = saved["total_step_count"]
    torch.set_rng_state(saved["rng_state"])
    if run.average and saved["average"]:
        run.average.load_state_dict(saved["average"])
    log.info("Continuing %s at step %d", path, run.step)


def save(run: Run) -> Path:
    """Write a checkpoint, whole or not at all, and drop the oldest ones."""
    epoch, batch_index = divmod(run.step, run.steps_per_epoch)
    path = run.folder / "checkpoints" / f"{run.step:08d}.pt"
    state = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "average": run.average.state_dict() if run.average else None,
        "epoch": epoch,
        "batch_idx": batch_index,
        "batch_size": run.cfg.batch_size,
        "dataset_perm": None,  # a function of seed and epoch
        "total_step_count": run.step,
        "rng_state": torch.get_rng_state(),
        "config": to_dict(run.cfg),
    }
    save_checkpoint(path, state)
    prune_checkpoints(path.parent, run.cfg.keep)
    return path


def export(run: Run, smpl: SMPL, scores: dict[str, float]) -> Path:
    """Write the weights (their average, where there is one) as the file that demo.py reads."""
    path = run.folder / f"{run.cfg.model}.safetensors"
    meta = {
        "model": run.cfg.model,
        "body": smpl.model_id,
        "step": str(run.step),
        "config": json.dumps(to_dict(run.cfg)),
        "scores": json.dumps(scores),
    }
    export_safetensors(path, run.average.state if run.average else run.model.state_dict(), meta)
    return path


# ------------------------------------------------------------------------------------------------------- data


def training_batches(run: Run) -> Iterator[Batch]:
    """Batches from the run's step to its end; epoch after epoch."""
    cfg = run.cfg
    people = SyntheticPeople(cfg.synthetic_size, split="train", seed=cfg.seed)
    sampler = ResumableSampler(len(people), cfg.seed)
    for epoch in range(run.step // run.steps_per_epoch, cfg.num_epochs):
        people.set_epoch(epoch)
        people.difficulty = min(1.0, (epoch + 1) / (cfg.easy_epochs + 1))
        people.labels_only = run.stage(run.step) is Stage.RENDERED
        skip = run.step - epoch * run.steps_per_epoch
        sampler.start_at(epoch, skip * cfg.batch_size)
        yield from make_loader(people, cfg, sampler)


def make_loader(
    people: SyntheticPeople, cfg: TrainConfig, sampler: ResumableSampler | None = None
) -> DataLoader:
    return DataLoader(
        people,
        cfg.batch_size,
        sampler=sampler,
        num_workers=cfg.num_workers,
        collate_fn=collate_samples,
        drop_last=sampler is not None,
        worker_init_fn=lambda _: torch.set_num_threads(1),
        generator=torch.Generator(),  # otherwise every start of an epoch would draw from the training's numbers
    )


# --------------------------------------------------------------------------------------------------- the loop


def train_step(
    run: Run, batch: Batch, build_targets: TargetBuilder, criteria: tuple[IUVCriterion, SMPLCriterion]
) -> tuple[dict[str, Tensor], tuple]:
    """One step of the stage the run is in: named losses, and (output, targets) for pictures."""
    cfg, stage = run.cfg, run.stage(run.step)
    factor = learning_rate_factor(
        run.step, cfg.lr_schedule, run.total_steps, cfg.lr_steps, cfg.lr_gamma, cfg.warmup_steps
    )
    for parameters in run.optimizer.param_groups:
        parameters["lr"] = cfg.base_lr * factor * parameters["factor"]
    for parameter in pretrained_parameters(run.model):
        parameter.requires_grad_(run.step >= cfg.freeze_backbone)

    run.model.train()
    targets = build_targets(batch)
    with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=cfg.amp):
        if stage is Stage.RENDERED:
            output = run.model.forward_rendered(targets.iuv, targets.centers[..., :2])
        else:
            image = batch.image.contiguous(memory_format=torch.channels_last)
            output = run.model(image, iuv_only=stage is Stage.IUV)
    output = output.map(lambda t: t.float())
    iuv_criterion, smpl_criterion = criteria
    losses = {} if stage is Stage.RENDERED else iuv_criterion(output, targets)
    if stage is not Stage.IUV:
        losses |= smpl_criterion(output, targets)
    total = sum(losses.values())
    if not torch.isfinite(total):
        named = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        raise FloatingPointError(
            f"The loss is not finite at step {run.step} ({named}); samples: {batch.name}."
        )
    run.optimizer.zero_grad(set_to_none=True)
    total.backward()
    run.optimizer.step()
    run.step += 1
    if run.average:
        run.average.update(run.model)
    named = losses | {"loss_total": total}
    return {name: value.detach() for name, value in named.items()}, (output, targets)


def evaluate(run: Run, build_targets: TargetBuilder, device: torch.device) -> dict[str, float]:
    """Scores of the averaged weights on held-out people."""
    model = build_danet(run.cfg.net).to(device)
    model.load_state_dict(run.average.state if run.average else run.model.state_dict())
    people = SyntheticPeople(run.cfg.test_size, split="eval", seed=1)
    return score(model, (batch.to(device) for batch in make_loader(people, run.cfg)), build_targets)


def log_scalars(writer: SummaryWriter, prefix: str, values: dict[str, float | Tensor], step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(prefix + name.removeprefix("loss_"), float(value), step)


def train(cfg: TrainConfig) -> Run:
    start = time.monotonic()
    keep_freed_memory()
    seed_everything(cfg.seed)
    device = choose_device(cfg.device)
    assets = resolve_body(cfg.body, cfg.data_dir)
    run = start_run(cfg, device)
    setup_logging(run.folder / "train.log")
    log.info("Run %s; %s", run.folder, assets.log_line(cfg.model))
    smpl = SMPL(assets.body, assets.extra).to(device)
    build_targets = TargetBuilder(smpl, IUV_Renderer(atlas=assets.atlas))
    criteria = IUVCriterion(cfg.losses), SMPLCriterion(smpl, cfg.losses)
    writer = SummaryWriter(str(run.folder / "tb_summary"))
    scores: dict[str, float] = {}
    progress = tqdm(total=run.total_steps * cfg.batch_size, initial=run.step * cfg.batch_size, unit="samples")
    try:
        for batch in training_batches(run):
            losses, (output, targets) = train_step(run, batch.to(device), build_targets, criteria)
            progress.update(cfg.batch_size)
            if (run.step - 1) % cfg.summary_steps == 0:
                log_scalars(writer, "loss_", losses, run.step)
                progress.set_postfix({k.removeprefix("loss_"): f"{float(v):.3g}" for k, v in losses.items()})
            if (run.step - 1) % cfg.vis_interval == 0 and output.iuv:
                for name, picture in training_pictures(denormalize(batch.image), output, targets).items():
                    writer.add_image(name, picture, run.step)
            if cfg.test_steps and run.step % cfg.test_steps == 0:
                scores = evaluate(run, build_targets, device)
                log_scalars(writer, "test_", scores, run.step)
                log.info("Step %d: %s", run.step, "  ".join(f"{k} {v:.4f}" for k, v in scores.items()))
            if run.step % cfg.checkpoint_steps == 0:
                save(run)
            if time.monotonic() - start > cfg.time_to_run:
                log.info("The time to run is over; the run can be continued with --resume.")
                break
    finally:
        progress.close()
        writer.close()
        log.info("Saved %s and %s", save(run), export(run, smpl, scores))
    return run


def main(argv: list[str] | None = None) -> int:
    setup_logging()
    cfg = parse_config(TrainConfig, argv, __doc__.splitlines()[0])
    try:
        train(cfg)
    except (FileNotFoundError, ValueError, FloatingPointError) as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        log.info("Stopped; continue with --resume.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
