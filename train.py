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

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from datasets.fits import Fits, load_fits
from datasets.held_out import read_held_out
from datasets.label_counts import count_labels, passed_over
from datasets.loading import WorkerError, load_batches, load_planned, training_batches
from datasets.mixed_dataset import SYNTHETIC
from datasets.photographs import Photographs, held_out_people
from datasets.registry import PHOTOS, image_root
from datasets.sampler import Share, StepSampler, steps_per_epoch
from datasets.synthetic.dataset import SyntheticPeople
from datasets.training_data import DataConfig, TrainingData, build_mix
from models import build_danet
from models.evaluation.photographs import PeopleInPhotographs
from models.evaluation.run import score_people
from models.inference.predictor import Predictor
from models.targets import TargetBuilder
from models.training.best_weights import keep_if_best
from models.training.config import TrainingConfig
from models.training.loss_feed import SilentSteps, as_table, feeding, require_fed
from models.training.resuming import require_continuable, restore_state
from models.training.run_folder import open_run, require_free
from models.training.run_log import Pace, RunLog, format_scores
from models.training.stages import Stage
from models.training.state import build_state, export_weights
from models.training.step import SupervisedNetwork, Trainer, distribute
from models.training.validation import score
from utils.body import SMPL_ID, resolve_body
from utils.command_line import ALL_GOOD
from utils.config import ConfigError, group, parse_config, to_dict, to_yaml
from utils.io import DataFileError
from utils.runtime import (
    Processes,
    choose_device,
    joined_processes,
    keep_for_log_file,
    keep_freed_memory,
    report_error,
    seed_everything,
    setup_logging,
)
from utils.structures import Batch

log = logging.getLogger("train")


@dataclass(frozen=True)
class TrainConfig(TrainingConfig):
    """Settings of a training run: those of models/training/config.py, and of the data."""

    data: DataConfig = group(DataConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if SYNTHETIC in self.data.members and self.body == "smpl":
            raise ConfigError("Synthetic people show the open body: leave --body smpl or leave them out.")
        if self.data.train_data == SYNTHETIC:  # the length of an epoch is known
            self.stages.require_whole_epochs(steps_per_epoch(self.data.synthetic_size, self.batch_size))

    def without_effect(self) -> dict[str, str]:
        """Settings that were given and change nothing in this run: {name: reason}."""
        return self.data.without_effect() | super().without_effect()


# ----------------------------------------------------------------------------------------------------- set-up


def start_run(cfg: TrainConfig, processes: Processes) -> tuple[Trainer, Iterator[Batch]]:
    """A fresh run or the continuation of a checkpoint, and its batches; all is checked before anything is written."""
    seed_everything(cfg.seed)
    device = choose_device(cfg.device, processes.local_rank)
    assets = resolve_body("open" if SYNTHETIC in cfg.data.members else cfg.body, cfg.data_dir)
    body_labels = assets.body.model_id == SMPL_ID
    mix = build_mix(cfg.data, cfg.data_dir, cfg.seed, body=assets.body.model_id)
    fits = load_fits(mix, cfg.data_dir, skip_missing=cfg.data.skip_missing) if body_labels else None
    share = Share(processes.rank, processes.count, cfg.accumulate)
    epoch = steps_per_epoch(len(mix), cfg.batch_size, share)
    cfg.stages.require_whole_epochs(epoch)
    data = TrainingData(mix, cfg.data.easy_epochs, cfg.stages.rendered_epochs(epoch, cfg.num_epochs))

    run_name, continues = (cfg.log_dir, cfg.name, cfg.timestamp), bool(cfg.resume or cfg.checkpoint)
    if not continues:
        require_free(*run_name)
    state = build_state(
        cfg.net, cfg.optim, device, cfg.data_dir,
        whole=cfg.pretrained_checkpoint, pretr_set=cfg.pretr_set, continued=continues,
    )  # fmt: skip
    continued = None
    if continues:
        accept = partial(require_continuable, state=state, settings=to_dict(cfg), epoch_size=len(data))
        continued = restore_state(state, processes, accept, cfg.checkpoint, run_name)
    targets = TargetBuilder.of_body(assets, device, fits)
    shares = processes.count * cfg.accumulate
    network = SupervisedNetwork(state.model, targets.smpl, cfg.losses, shares, cfg.amp)
    network = distribute(network, processes, device, cfg.sync_bn)

    total_steps = epoch * cfg.num_epochs
    facts = check_labels(cfg, data, fits, cfg.stages.between(state.step, total_steps), body_labels)
    cfg.warn(state.step, total_steps)
    same_folder = None if cfg.checkpoint else continued
    folder, start = open_run(processes, run_name, same_folder, to_yaml(cfg), state.step, facts)
    if processes.is_first:
        setup_logging(folder / "train.log")
    log.info("Run %s; %s", folder, assets.log_line(f"a '{cfg.model}' in training, now at step {state.step}"))
    log.info("%s%s", mix.description, f"; {fits.description}" if fits else "")
    log.info("%s", as_table(facts["losses"]))
    for name, unused in facts["not_used"].items():
        log.info("Not used of %s: %s.", name, "; ".join(f"{what}: {count}" for what, count in unused.items()))
    sampler = StepSampler(
        len(data), cfg.batch_size, cfg.num_epochs,
        seed=cfg.seed, shuffle=cfg.data.shuffle_train, first_step=state.step, share=share,
    )  # fmt: skip
    pin = cfg.data.pin_memory and device.type == "cuda"
    batches = training_batches(data, sampler, cfg.data.num_workers, pin)
    trainer = Trainer(cfg, processes, device, state, network, targets, assets, len(data), total_steps, folder, start)
    return trainer, batches


def check_labels(
    cfg: TrainConfig, data: TrainingData, fits: Fits | None, stages: Sequence[Stage], body_labels: bool
) -> dict[str, Any]:
    """Facts about used and unused labels and settings. Raises ValueError for a stage that would learn nothing."""
    if not body_labels and any(getattr(member, "unused", None) for member in data.mix.members):
        log.warning("Labels of pose and shape belong to SMPL; the open body learns without them.")
    counts = count_labels(data.mix, fits)
    require_fed(cfg.losses, counts, stages)
    return data.to_dict() | {
        "labels": counts,
        "losses": feeding(cfg.losses, counts),
        "fits": fits.description if fits else "",
        "not_used": passed_over(data.mix, counts, cfg.data_dir, cfg.batch_size, body_labels=body_labels),
        "settings_without_effect": cfg.without_effect(),
    }


# --------------------------------------------------------------------------------------------------- the loop


def load_parts(
    trainer: Trainer, batches: Iterator[Batch], pace: Pace, stop: StopSignals
) -> Iterator[list[Batch]]:
    """This process's parts of the batch, on its device, for every remaining step."""
    timed = pace.timed(batches)
    try:
        for parts in zip(*[timed] * trainer.cfg.accumulate, strict=True):
            yield [batch.to(trainer.device, non_blocking=True) for batch in parts]
    except WorkerError:
        if not stop.asked:  # a signal to all processes of a job ends the workers, too
            raise


def open_held_out(cfg: TrainConfig) -> Photographs | None:
    """The held-out photographs that choose the best weights, where they are asked for; None without, with a warning."""
    if not cfg.data.paths.photos_root and PHOTOS not in cfg.data.members:
        return None
    try:
        root = image_root("photos_root", cfg.data_dir, cfg.data.paths)
        return held_out_people(root, read_held_out(cfg.data.photos_held_out))
    except (OSError, DataFileError) as error:
        log.warning("No held-out photographs choose the best weights: %s", error)
        return None


def evaluate(cfg: TrainConfig, trainer: Trainer, photographs: Photographs | None) -> dict[str, float]:
    """Scores of the weights that would ship, on held-out synthetic people, which show the open body, and photographs.

    Weights that are the best on the photographs so far are written.
    """
    with torch.random.fork_rng():  # fresh weights must not use up the training's random numbers
        model = build_danet(cfg.net).to(trainer.device)
    model.load_state_dict(trainer.state.shipped_weights())
    build_targets = trainer.build_targets
    if build_targets.smpl.model_id == SMPL_ID:
        build_targets = TargetBuilder.of_body(resolve_body("open"), trainer.device)
    people = SyntheticPeople(cfg.watch.test_size, split="eval", seed=1)
    batches = load_batches(people, cfg.batch_size, cfg.data.num_workers)
    scores = score(model, (batch.to(trainer.device) for batch in batches), build_targets)
    if photographs:
        scores |= score_photographs(cfg, Predictor(model, trainer.assets, trainer.device), photographs)
    log.info("Step %d: %s", trainer.state.step, format_scores(scores))
    body = trainer.assets.body.model_id
    if photographs and keep_if_best(trainer.folder, trainer.state, cfg, body, scores):
        log.info("These are the best on the held-out photographs so far.")
    return scores


def score_photographs(cfg: TrainConfig, predictor: Predictor, people: Photographs) -> dict[str, float]:
    """PCK and IoU on held-out photographs, as "photo_pck_body" and so on."""
    protocol = PeopleInPhotographs(predictor, people.labels, people.true_mask)
    workers = cfg.data.num_workers
    load = partial(load_planned, people, num_workers=workers, extra=protocol.extra)
    summary, _ = score_people(protocol, people, load, cfg.batch_size)
    return {"photo_" + one.name.lower().replace("@0.2", "").replace(" ", "_"): one.value for one in summary.scores}


def train(cfg: TrainConfig, processes: Processes) -> None:
    """Train from where the run is to its end, or until the time is over or a signal asks."""
    began = time.monotonic()
    keep_freed_memory()
    trainer, batches = start_run(cfg, processes)
    state, watch, is_first = trainer.state, cfg.watch, processes.is_first
    photographs = open_held_out(cfg) if is_first and watch.test_steps else None
    scores, pace, silent = {}, Pace(), SilentSteps()
    samples = trainer.total_steps * cfg.batch_size, state.step * cfg.batch_size
    with contextlib.closing(RunLog(trainer.folder, *samples, quiet=not is_first)) as record, StopSignals() as stop:
        for parts in load_parts(trainer, batches, pace, stop):
            result = trainer.step(parts)
            step = state.step  # finished ones; scalars and images come first in an interval, as in 2020
            silent.note(result.losses, step)
            record.advance(cfg.batch_size)
            pace.add(cfg.batch_size)
            if (step - 1) % watch.summary_steps == 0:
                losses = processes.mean(result.losses)
                record.scalars("loss_", losses, step)
                record.scalars("pace_", pace.take(), step)
                record.show(losses)
            with pace.paused():
                if is_first and (step - 1) % watch.vis_interval == 0:
                    record.images(trainer.images(parts[-1].image, result), step)
                if is_first and watch.test_steps and step % watch.test_steps == 0:
                    scores = evaluate(cfg, trainer, photographs)
                    record.scalars("test_", scores, step)
                if is_first and step % watch.checkpoint_steps == 0:
                    trainer.save()
            late = time.monotonic() - began > cfg.time_to_run
            if processes.any(late or bool(stop.asked)):  # all stop after the same step
                break
        if state.step < trainer.total_steps:
            log.info("%s; --resume continues the run.", stop.asked or "The time to run is over")
        if is_first:
            trainer.save()
    if is_first:
        body = trainer.build_targets.smpl.model_id
        export_weights(trainer.folder / f"{cfg.model}.safetensors", state, cfg.model, cfg.net, body, scores)


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
