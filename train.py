"""Two-stage training: first the IUV estimator, then everything (paper section 3.5; docs/method.md 7).

python train.py --name danet --batch_size 16 --vis_interval 1000 --pretr_step 5000
python train.py --name danet --train_data h36m_coco_itw --resume
torchrun --nproc_per_node 2 train.py --name danet_s --cfg data/open/danet_s_train.yaml

Exit code 0: trained, or stopped as asked; 1: nothing was trained, or the run ended before its time.
"""

from __future__ import annotations

from utils.script import StopSignals, run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.fits import Fits, load_fits
from datasets.label_counts import UNLABELLED, count_labels, passed_over
from datasets.loading import WorkerError, load_batches, training_batches
from datasets.mixed_dataset import SYNTHETIC
from datasets.sampler import Share, StepSampler
from datasets.synthetic.dataset import SyntheticPeople
from datasets.training_data import DataConfig, TrainingData, build_training_data
from models import SMPL, DaNetConfig, build_danet
from models.danet import preset
from models.losses import IUVCriterion, LossWeights, SMPLCriterion
from models.targets import TargetBuilder
from models.training.checkpoints import load_unchanged, prune_checkpoints
from models.training.loss_feed import SilentSteps, as_table, feeding, require_fed
from models.training.optim import OptimConfig
from models.training.pretrained_backbones import CHOICES as PRETRAINED
from models.training.resuming import newest_checkpoint, require_continuable, require_free, tidy_checkpoints
from models.training.run_log import Pace, RunLog, WatchConfig, in_words, note_start, require_positive
from models.training.state import TrainingState, build_state, export_weights, write_checkpoint
from models.training.step import (
    Stage,
    Stages,
    SupervisedNetwork,
    add_gradients,
    body_of,
    distribute,
    make_targets,
    seed_step,
)
from models.training.tensorboard_images import training_pictures
from models.training.validation import score
from utils.body import BODY_CHOICES, DATA_DIR, SMPL_ID, resolve_body
from utils.command_line import ALL_GOOD
from utils.config import ConfigError, group, option, parse_config, require_range, to_dict, to_yaml
from utils.images import denormalize
from utils.renderer import MeshRenderer
from utils.runtime import (
    Processes,
    choose_device,
    joined_processes,
    keep_for_log_file,
    keep_freed_memory,
    make_run_folder,
    report_error,
    seed_everything,
    setup_logging,
)
from utils.structures import Batch, DaNetOutput, Targets

log = logging.getLogger("train")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; the defaults are the published ones."""

    name: str = option(help="name of the run")
    model: str = option("danet", "named sizes of the network", choices=("danet", "danet_s"))
    net: DaNetConfig = group(DaNetConfig, preset_by="model", preset=preset)
    losses: LossWeights = group(LossWeights)
    data: DataConfig = group(DataConfig)
    optim: OptimConfig = group(OptimConfig)
    watch: WatchConfig = group(WatchConfig)
    body: str = option(
        "auto", "body of the targets; synthetic people need the open one", choices=BODY_CHOICES
    )
    data_dir: str = option(str(DATA_DIR), "folder of the necessary files")
    log_dir: str = option("logs", "folder of all runs")
    timestamp: str = option("", "name of the run's sub-folder (default: now)")
    resume: bool = option(False, "continue the newest checkpoint of this run's name")
    checkpoint: str = option("", "training checkpoint to continue from, in a new folder")
    pretrained_checkpoint: str = option("", "whole model to start from")
    pretr_set: str = option("auto", "weights that a fresh network starts from", choices=("auto", *PRETRAINED))
    num_epochs: int = option(4)
    batch_size: int = option(16, "samples of a step, over all processes and parts")
    accumulate: int = option(1, "parts in which a process computes its share of a batch, to save memory")
    pretr_step: int = option(5000, "steps of stage one, which trains the IUV estimator alone")
    rendered_steps: int = option(0, "steps after stage one that train the regressor alone, on rendered maps")
    amp: bool = option(False, "compute the network in bfloat16; pays where the processor has it")
    sync_bn: bool = option(False, "batch norm over all processes (several CUDA devices)")
    seed: int = option(0)
    device: str = option("auto", "auto, cpu or cuda")
    time_to_run: float = option(math.inf, "seconds after which the run saves and ends")

    def __post_init__(self):
        if (self.resume or self.checkpoint) and self.pretrained_checkpoint:
            raise ConfigError("--pretrained_checkpoint starts a run, --resume or --checkpoint continues one.")
        require_positive(self, "batch_size", "accumulate", "num_epochs")
        require_range(self, 0, 2**32 - 1, "seed")
        require_range(self, 0, 2**62, "pretr_step", "rendered_steps")
        require_range(self, 0, math.inf, "time_to_run")
        if SYNTHETIC in self.data.members and self.body == "smpl":
            raise ConfigError("Synthetic people show the open body: leave --body smpl or leave them out.")
        size = self.data.synthetic_size
        if self.data.train_data == SYNTHETIC:
            if size < self.batch_size:
                raise ConfigError(f"--synthetic_size {size} is less than one batch of {self.batch_size}.")
            self.stages.require_whole_epochs(size // self.batch_size)

    def without_effect(self) -> dict[str, str]:
        """Settings that were given and change nothing in this run: {name: reason}."""
        start, cosine = "weights come from another file", "the rate follows a cosine"
        found = self.data.without_effect()
        if self.pretr_set != "auto" and (self.resume or self.checkpoint or self.pretrained_checkpoint):
            found["pretr_set"] = start
        if self.resume and self.checkpoint:
            found["resume"] = "--checkpoint names what is continued"
        if self.optim.lr_schedule == "cosine":
            changed = [
                n for n in ("lr_steps", "lr_gamma") if getattr(self.optim, n) != getattr(OptimConfig(), n)
            ]
            found |= dict.fromkeys(changed, cosine)
        if self.stages.always_rendered and self.rendered_steps:
            found["rendered_steps"] = "--input_mode iuv_gt always renders"
        return found

    @property
    def stages(self) -> Stages:
        return Stages(self.pretr_step, self.rendered_steps, self.net.input_mode == "iuv_gt")


@dataclass
class Run:
    """A training run: its settings, its folder, and all that its steps need."""

    cfg: TrainConfig
    processes: Processes
    device: torch.device
    data: TrainingData
    order: StepSampler
    state: TrainingState
    folder: Path
    start: dict[str, Any]  # its number and time
    smpl: SMPL
    build_targets: TargetBuilder
    network: nn.Module  # with its losses, perhaps one of several processes

    @property
    def total_steps(self) -> int:
        return self.order.steps_per_epoch * self.cfg.num_epochs


# ----------------------------------------------------------------------------------------------------- set-up


def start_run(cfg: TrainConfig, processes: Processes) -> Run:
    """A fresh run, or the continuation of a checkpoint, ready for its next step."""
    seed_everything(cfg.seed)
    device = choose_device(cfg.device, processes.local_rank)
    assets = resolve_body("open" if SYNTHETIC in cfg.data.members else cfg.body, cfg.data_dir)
    has_labels = assets.body.model_id == SMPL_ID
    if not has_labels and cfg.data.members != (SYNTHETIC,):
        log.warning("Labels of pose and shape belong to SMPL; the open body learns without them.")
    data = build_training_data(cfg.data, cfg.data_dir, cfg.seed, body_labels=has_labels)
    fits = load_fits(data.mix, cfg.data_dir, skip_missing=cfg.data.skip_missing) if has_labels else None
    order = StepSampler(
        len(data), cfg.batch_size, cfg.num_epochs,
        seed=cfg.seed, shuffle=cfg.data.shuffle_train, share=Share(processes.rank, processes.count, cfg.accumulate),
    )  # fmt: skip
    cfg.stages.require_whole_epochs(order.steps_per_epoch)
    data.rendered = cfg.stages.rendered_epochs(order.steps_per_epoch, cfg.num_epochs)
    state, path = start_state(cfg, processes, device, len(data))
    order.first_step = state.step
    facts = check_use(cfg, data, fits, state.step, order, has_labels)
    folder, start = open_folder(cfg, processes, path, state.step, facts)
    if processes.is_first:
        setup_logging(folder / "train.log")
    log.info("Run %s; %s", folder, assets.log_line(f"a '{cfg.model}' in training, now at step {state.step}"))
    log.info("%s%s", data.mix.description, f"; {fits.description}" if fits else "")
    log.info("%s", as_table(facts["losses"]))
    for name, unused in facts["not_used"].items():
        log.info("Not used of %s: %s.", name, "; ".join(f"{what}: {count}" for what, count in unused.items()))

    build_targets = make_targets(assets, device, fits)
    smpl = build_targets.smpl
    criteria = IUVCriterion(cfg.losses), SMPLCriterion(smpl, cfg.losses)
    shares = processes.count * cfg.accumulate
    network = SupervisedNetwork(state.model, *criteria, shares=shares, amp=cfg.amp)
    network = distribute(network, processes, device, cfg.sync_bn)
    return Run(cfg, processes, device, data, order, state, folder, start, smpl, build_targets, network)


def start_state(
    cfg: TrainConfig, processes: Processes, device: torch.device, epoch_size: int
) -> tuple[TrainingState, Path | None]:
    """Fresh or restored weights, and the checkpoint that they were restored from, if any."""
    settings, path = to_dict(cfg), Path(cfg.checkpoint) if cfg.checkpoint else None
    if not (path or cfg.resume):
        require_free(cfg.log_dir, cfg.name, cfg.timestamp)
    state = build_state(
        cfg.net, cfg.optim, device, cfg.data_dir,
        whole=cfg.pretrained_checkpoint, pretr_set=cfg.pretr_set, continued=bool(path or cfg.resume),
    )  # fmt: skip

    def accept(path: Path, saved: dict[str, Any]) -> None:
        require_continuable(path, saved, state, settings, epoch_size)

    if cfg.resume and not path:
        is_first = processes.is_first
        found = newest_checkpoint(cfg.log_dir, cfg.name, cfg.timestamp, accept) if is_first else None
        path = Path(processes.share(str(found)))
    if path:
        saved = load_unchanged(path)
        accept(path, saved)
        state.restore(saved)
        log.info("Continuing %s", path)
    return state, path


def check_use(
    cfg: TrainConfig, data: TrainingData, fits: Fits | None, step: int, order: StepSampler, has_labels: bool
) -> dict[str, Any]:
    """What of the data and settings the run uses, for `data.json`; warns of what is without effect.

    Raises ValueError for a stage that would learn nothing.
    """
    total, counts = order.steps_per_epoch * cfg.num_epochs, count_labels(data.mix, fits)
    stages = cfg.stages.between(step, total)
    require_fed(cfg.losses, counts, stages)
    unused = passed_over(data.mix, cfg.data_dir, body_labels=has_labels)
    for name, count in counts.items():
        if without := count.get(UNLABELLED):
            unused.setdefault(name, {})[UNLABELLED] = without
    if rest := len(data) % cfg.batch_size:
        unused["each epoch"] = {"people left over by whole batches, others in each epoch": rest}
    if step >= total:
        log.warning("All %d steps are done: more --num_epochs would go on.", total)
    elif stages == [Stage.IUV]:
        log.warning(
            "The run ends after %d steps, within stage one (--pretr_step %d): the body's regressor is not trained.",
            total, cfg.pretr_step,
        )  # fmt: skip
    if cfg.watch.test_steps > total > step:
        log.warning(
            "No scores: --test_steps %d is more than the run's %d steps.", cfg.watch.test_steps, total
        )
    idle = cfg.without_effect()
    for name, reason in idle.items():
        log.warning("--%s has no effect: %s.", name, reason)
    return data.to_dict() | {
        "labels": counts,
        "losses": feeding(cfg.losses, counts),
        "fits": fits.description if fits else "",
        "not_used": unused,
        "settings_without_effect": idle,
    }


def open_folder(
    cfg: TrainConfig, processes: Processes, path: Path | None, step: int, facts: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """The run's folder, a new one unless --resume found checkpoint `path`, and this start as it is noted there."""
    folder, start = None, {}
    if processes.is_first:
        if path and not cfg.checkpoint:
            folder = path.parent.parent
            tidy_checkpoints(path)
        else:
            require_free(cfg.log_dir, cfg.name, cfg.timestamp)
            folder = make_run_folder(cfg.log_dir, cfg.name, cfg.timestamp)
        start = note_start(folder, to_yaml(cfg), step, facts)
    return Path(processes.share(str(folder))), start


def save(run: Run) -> None:
    """Write a checkpoint, whole or not at all, and drop the oldest ones. Only the first process does."""
    if run.processes.is_first:
        cfg, data = run.cfg, run.data
        path = write_checkpoint(
            run.folder / "checkpoints", run.state, to_dict(cfg), len(data), cfg.batch_size, run.start
        )
        prune_checkpoints(path.parent, cfg.watch.keep)
        log.info("Saved %s", path)


# --------------------------------------------------------------------------------------------------- the loop


def load_parts(run: Run, pace: Pace, stop: StopSignals) -> Iterator[list[Batch]]:
    """For every step from now on, this process's parts of the batch."""
    pin = run.cfg.data.pin_memory and run.device.type == "cuda"
    batches = pace.timed(training_batches(run.data, run.order, run.cfg.data.num_workers, pin))
    try:
        for parts in zip(*[batches] * run.cfg.accumulate, strict=True):
            yield [batch.to(run.device, non_blocking=True) for batch in parts]
    except WorkerError:
        if not stop.asked:  # a signal to all processes of a job ends the workers, too
            raise


def train_step(run: Run, parts: Sequence[Batch]) -> tuple[dict[str, Tensor], DaNetOutput, Targets]:
    """One step of the stage the run is in: losses, and output and targets of the last part."""
    cfg, state, rank = run.cfg, run.state, run.processes.rank
    state.set_rates(cfg.optim, run.total_steps)
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    seed_step(cfg.seed, state.step, rank)
    suspect = run.folder / f"not_finite_{state.step:08d}_{rank}.pt"
    result = add_gradients(
        run.network, run.build_targets, parts, cfg.stages.at(state.step), state.step, suspect
    )
    state.advance()
    return result


def evaluate(run: Run) -> dict[str, float]:
    """Scores of the weights that would ship, on held-out synthetic people, which show the open body."""
    with torch.random.fork_rng():  # fresh weights must not use up the training's random numbers
        model = build_danet(run.cfg.net).to(run.device)
    model.load_state_dict(run.state.shipped_weights())
    foreign = run.smpl.model_id == SMPL_ID
    build_targets = make_targets(resolve_body("open"), run.device) if foreign else run.build_targets
    people = SyntheticPeople(run.cfg.watch.test_size, split="eval", seed=1)
    batches = load_batches(people, run.cfg.batch_size, run.cfg.data.num_workers)
    return score(model, (batch.to(run.device) for batch in batches), build_targets)


def draw(run: Run, batch: Batch, output: DaNetOutput, targets: Targets) -> dict[str, Tensor]:
    renderer, vertices = MeshRenderer(run.smpl.faces), body_of(output, run.smpl)
    return training_pictures(denormalize(batch.image), output, targets, vertices, renderer)


def train(cfg: TrainConfig, processes: Processes) -> None:
    """Train from where the run is to its end, or until the time is over or a signal asks."""
    start = time.monotonic()
    keep_freed_memory()
    run = start_run(cfg, processes)
    state, watch, scores, pace, silent = run.state, cfg.watch, {}, Pace(), SilentSteps()
    total, done = run.total_steps * cfg.batch_size, state.step * cfg.batch_size
    with RunLog(run.folder, total, done, quiet=not processes.is_first) as record, StopSignals() as stop:
        for parts in load_parts(run, pace, stop):
            losses, output, targets = train_step(run, parts)
            silent.note(losses, state.step)
            record.advance(cfg.batch_size)
            pace.samples += cfg.batch_size
            if watch.scalars_due(state.step):
                losses = processes.mean(losses)
                record.scalars("loss_", losses, state.step)
                record.scalars("pace_", pace.take(), state.step)
                record.show(losses)
            with pace.paused():
                if watch.pictures_due(state.step) and processes.is_first:
                    record.pictures(draw(run, parts[-1], output, targets), state.step)
                if watch.test_due(state.step) and processes.is_first:
                    scores = evaluate(run)
                    record.scalars("test_", scores, state.step)
                    log.info("Step %d: %s", state.step, in_words(scores))
                if watch.checkpoint_due(state.step):
                    save(run)
            late = time.monotonic() - start > cfg.time_to_run
            if processes.any(late or bool(stop.asked)):  # all stop after the same step
                break
        if state.step < run.total_steps:
            log.info("%s; --resume continues the run.", stop.asked or "The time to run is over")
        save(run)
    if processes.is_first:
        weights = run.folder / f"{cfg.model}.safetensors"
        export_weights(weights, state, cfg.model, cfg.net, run.smpl.model_id, scores)
        log.info("Wrote %s", weights)


def main(argv: list[str] | None = None) -> int:
    setup_logging()
    cfg = parse_config(TrainConfig, argv, __doc__.splitlines()[0])
    try:
        with joined_processes("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo") as processes:
            setup_logging(level=logging.INFO if processes.is_first else logging.WARNING)
            if processes.is_first:
                keep_for_log_file()
            train(cfg, processes)
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        return report_error(log, error)
    return ALL_GOOD


if __name__ == "__main__":
    run_script(main)
