"""Two-stage training: first the IUV estimator, then everything (paper section 3.5; method.md 7).

python train.py --name danet --batch_size 16 --vis_interval 1000 --pretr_step 5000
python train.py --name danet_s --cfg data/open/danet_s_train.yaml
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from tensorboardX import SummaryWriter
from torch import Tensor
from tqdm import tqdm

from datasets.loading import epoch_batches, load_batches
from datasets.synthetic import SyntheticPeople
from datasets.transforms import denormalize
from models import SMPL, DaNetConfig, build_danet
from models.danet import preset
from models.losses import IUVCriterion, LossWeights, SMPLCriterion
from models.movenet import load_movenet_trunk
from models.scoring import score
from models.targets import TargetBuilder
from models.training import (
    Stage,
    TrainingState,
    export_weights,
    make_optimizer,
    newest_run,
    pretrained_parameters,
)
from utils.assets import DATA_DIR, resolve_body
from utils.body import OPEN_DIR
from utils.checkpoint import (
    find_latest,
    load_checkpoint,
    load_danet,
    prune_checkpoints,
    save_checkpoint,
)
from utils.config import ConfigError, group, option, parse_config, to_dict, to_yaml
from utils.optim import WeightAverage, learning_rate_factor
from utils.renderer import IUV_Renderer, MeshRenderer
from utils.runtime import (
    choose_device,
    keep_freed_memory,
    make_run_folder,
    seed_everything,
    setup_logging,
)
from utils.safe_io import atomic_write
from utils.structures import Batch, DaNetOutput, Targets
from utils.train_pictures import training_pictures

log = logging.getLogger("train")

# Fields of `DaNetConfig` that a resumed run may change: they alter training, not the weights' shapes.
NOT_SIZES = {"vis_threshold", "center_jitter", "scale_jitter", "partdrop_rate", "detach_maps"}


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
    amp: bool = option(False, "compute the network in bfloat16; pays where the processor has it")
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
        for name in ("batch_size", "summary_steps", "vis_interval", "checkpoint_steps", "keep", "test_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if self.synthetic_size < self.batch_size:
            raise ConfigError(
                f"--synthetic_size {self.synthetic_size} is less than one batch of {self.batch_size}."
            )
        per_epoch = self.synthetic_size // self.batch_size
        if self.rendered_steps and (self.pretr_step % per_epoch or self.rendered_steps % per_epoch):
            raise ConfigError(f"With --rendered_steps the stages must be whole epochs of {per_epoch} steps.")


@dataclass
class Run:
    """A training run: its settings, its folder and what changes from step to step."""

    cfg: TrainConfig
    folder: Path
    state: TrainingState

    @property
    def stage(self) -> Stage:
        """What the next step trains."""
        if self.state.step < self.cfg.pretr_step:
            return Stage.IUV
        rendered = self.state.step < self.cfg.pretr_step + self.cfg.rendered_steps
        return Stage.RENDERED if rendered else Stage.JOINT

    @property
    def steps_per_epoch(self) -> int:
        return self.cfg.synthetic_size // self.cfg.batch_size

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.cfg.num_epochs


# ----------------------------------------------------------------------------------------------------- set-up


def start_run(cfg: TrainConfig, device: torch.device) -> Run:
    """A fresh run, or the newest checkpoint of the same name."""
    newest = newest_run(cfg.log_dir, cfg.name) if cfg.resume else None
    folder = newest or make_run_folder(cfg.log_dir, cfg.name, cfg.timestamp)
    model = build_danet(cfg.net, cfg.data_dir)
    if cfg.net.backbone == "movenet":
        load_movenet_trunk(model.img2iuv.iuv_est.trunk, OPEN_DIR / "movenet_trunk.safetensors")
    if cfg.pretrained_checkpoint:
        log.info("Starting from %s", load_danet(model, cfg.pretrained_checkpoint))
    model = model.to(device, memory_format=torch.channels_last)
    average = WeightAverage(model, cfg.ema_decay) if cfg.ema_decay else None
    optimizer = make_optimizer(model, cfg.base_lr, cfg.backbone_lr_factor)
    run = Run(cfg, folder, TrainingState(model, optimizer, average))
    if newest:
        path = find_latest(folder / "checkpoints")
        saved = load_checkpoint(path)
        require_same_run(cfg, saved["config"])
        run.state.restore(saved)
        log.info("Continuing %s at step %d", path, run.state.step)
    with atomic_write(folder / "config.yaml", "w") as file:
        file.write(to_yaml(cfg))
    return run


def require_same_run(cfg: TrainConfig, saved: dict) -> None:
    """Raise ConfigError when a resumed run would mean another network or count its steps in another way."""
    now = to_dict(cfg)
    changed = [name for name in ("model", "batch_size", "synthetic_size", "seed") if now[name] != saved[name]]
    sizes = {name for name, value in saved["net"].items() if now["net"][name] != value} - NOT_SIZES
    if changed or sizes:
        listed = ", ".join(sorted({*changed, *sizes}))
        raise ConfigError(
            f"--resume: the saved run has other values of {listed}. Give the same ones, or start a new --name."
        )


def save(run: Run) -> Path:
    """Write a checkpoint, whole or not at all, and drop the oldest ones."""
    epoch, batch_index = divmod(run.state.step, run.steps_per_epoch)
    path = run.folder / "checkpoints" / f"{run.state.step:08d}.pt"
    where = {"epoch": epoch, "batch_idx": batch_index, "batch_size": run.cfg.batch_size, "dataset_perm": None}
    save_checkpoint(path, run.state.to_dict() | where | {"config": to_dict(run.cfg)})
    prune_checkpoints(path.parent, run.cfg.keep)
    return path


def training_batches(run: Run) -> Iterator[Batch]:
    """Batches from the run's step to its end; epoch after epoch."""
    cfg = run.cfg
    people = SyntheticPeople(cfg.synthetic_size, split="train", seed=cfg.seed)
    for epoch in range(run.state.step // run.steps_per_epoch, cfg.num_epochs):
        people.difficulty = min(1.0, (epoch + 1) / (cfg.easy_epochs + 1))
        people.labels_only = run.stage is Stage.RENDERED
        skip = run.state.step - epoch * run.steps_per_epoch
        yield from epoch_batches(people, epoch, skip, cfg.batch_size, cfg.num_workers)


# --------------------------------------------------------------------------------------------------- the loop


def train_step(
    run: Run, batch: Batch, build_targets: TargetBuilder, criteria: tuple[IUVCriterion, SMPLCriterion]
) -> tuple[dict[str, Tensor], DaNetOutput, Targets]:
    """One step of the stage the run is in. Raises FloatingPointError for a loss that is not finite."""
    cfg, state, stage = run.cfg, run.state, run.stage
    factor = learning_rate_factor(
        state.step, cfg.lr_schedule, run.total_steps, cfg.lr_steps, cfg.lr_gamma, cfg.warmup_steps
    )
    for parameters in state.optimizer.param_groups:
        parameters["lr"] = cfg.base_lr * factor * parameters["factor"]
    for parameter in pretrained_parameters(state.model):
        parameter.requires_grad_(state.step >= cfg.freeze_backbone)

    state.model.train()
    targets = build_targets(batch)
    with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=cfg.amp):
        if stage is Stage.RENDERED:
            output = state.model.forward_rendered(targets.iuv, targets.centers[..., :2])
        else:
            image = batch.image.contiguous(memory_format=torch.channels_last)
            output = state.model(image, iuv_only=stage is Stage.IUV)
    output = output.map(lambda t: t.float())
    iuv_criterion, smpl_criterion = criteria
    losses = {} if stage is Stage.RENDERED else iuv_criterion(output, targets)
    if stage is not Stage.IUV:
        losses |= smpl_criterion(output, targets)
    total = sum(losses.values())
    if not torch.isfinite(total):
        named = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        raise FloatingPointError(
            f"The loss is not finite at step {state.step} ({named}); samples: {batch.name}."
        )
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    state.optimizer.step()
    state.step += 1
    if state.average:
        state.average.update(state.model)
    named = losses | {"loss_total": total}
    return {name: value.detach() for name, value in named.items()}, output, targets


def evaluate(run: Run, build_targets: TargetBuilder, device: torch.device) -> dict[str, float]:
    """Scores of the weights that would ship, on held-out people."""
    with torch.random.fork_rng():  # fresh weights must not use up the training's random numbers
        model = build_danet(run.cfg.net).to(device)
    model.load_state_dict(run.state.shipped_weights())
    people = SyntheticPeople(run.cfg.test_size, split="eval", seed=1)
    batches = load_batches(people, run.cfg.batch_size, run.cfg.num_workers)
    return score(model, (batch.to(device) for batch in batches), build_targets)


def log_scalars(writer: SummaryWriter, prefix: str, values: dict[str, float | Tensor], step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(prefix + name.removeprefix("loss_"), float(value), step)


def train(cfg: TrainConfig) -> None:
    start = time.monotonic()
    keep_freed_memory()
    seed_everything(cfg.seed)
    device = choose_device(cfg.device)
    assets = resolve_body("open", cfg.data_dir)  # synthetic people show the open body
    run = start_run(cfg, device)
    state = run.state
    setup_logging(run.folder / "train.log")
    log.info("Run %s; %s", run.folder, assets.log_line(f"a '{cfg.model}' in training"))
    smpl = SMPL(assets.body, assets.extra).to(device)
    mesh_renderer = MeshRenderer(assets.body.faces)
    build_targets = TargetBuilder(smpl, IUV_Renderer(atlas=assets.atlas))
    criteria = IUVCriterion(cfg.losses), SMPLCriterion(smpl, cfg.losses)
    scores: dict[str, float] = {}
    with (
        SummaryWriter(str(run.folder / "tb_summary")) as writer,
        tqdm(
            total=run.total_steps * cfg.batch_size, initial=state.step * cfg.batch_size, unit="samples"
        ) as progress,
        suppress(KeyboardInterrupt),
    ):
        for batch in training_batches(run):
            losses, output, targets = train_step(run, batch.to(device), build_targets, criteria)
            progress.update(cfg.batch_size)
            if (state.step - 1) % cfg.summary_steps == 0:
                log_scalars(writer, "loss_", losses, state.step)
                shown = {name.removeprefix("loss_"): f"{float(value):.3g}" for name, value in losses.items()}
                progress.set_postfix(shown)
            if (state.step - 1) % cfg.vis_interval == 0:
                with torch.no_grad():
                    bodies = (
                        smpl(output.smpl.params.rotmat, output.smpl.params.betas) if output.smpl else None
                    )
                pictures = training_pictures(
                    denormalize(batch.image), output, targets, bodies and bodies.vertices, mesh_renderer
                )
                for name, picture in pictures.items():
                    writer.add_image(name, picture, state.step)
            if cfg.test_steps and state.step % cfg.test_steps == 0:
                scores = evaluate(run, build_targets, device)
                log_scalars(writer, "test_", scores, state.step)
                log.info("Step %d: %s", state.step, "  ".join(f"{k} {v:.4f}" for k, v in scores.items()))
            if state.step % cfg.checkpoint_steps == 0:
                save(run)
            if time.monotonic() - start > cfg.time_to_run:
                log.info("The time to run is over; the run can be continued with --resume.")
                break
    weights = run.folder / f"{cfg.model}.safetensors"
    export_weights(weights, state, cfg.model, cfg.net, smpl.model_id, scores)
    log.info("Saved %s and %s", save(run), weights)


def main(argv: list[str] | None = None) -> int:
    setup_logging()
    cfg = parse_config(TrainConfig, argv, __doc__.splitlines()[0])
    try:
        train(cfg)
    except (FileNotFoundError, ValueError, FloatingPointError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
