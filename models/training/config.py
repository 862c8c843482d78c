"""The settings of a training run beside its data, and warnings about unlikely ones."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from models.danet import DaNetConfig, preset
from models.losses import LossWeights
from models.training.optim import OptimConfig
from models.training.pretrained_backbones import CHOICES
from models.training.run_log import WatchConfig
from models.training.stages import Stage, Stages
from utils.body import BODY_CHOICES, DATA_DIR
from utils.config import ConfigError, group, option, require_range

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run beside its data; the defaults are the published ones."""

    name: str = option(help="name of the run")
    model: str = option("danet", "named sizes of the network", choices=("danet", "danet_s"))
    net: DaNetConfig = group(DaNetConfig, preset_by="model", preset=preset)
    losses: LossWeights = group(LossWeights)
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
    pretr_set: str = option("auto", "weights that a fresh network starts from", choices=("auto", *CHOICES))
    num_epochs: int = option(4)
    batch_size: int = option(16, "samples of a step, over all processes and parts")
    accumulate: int = option(1, "parts in which a process computes its share of a batch, to save memory")
    pretr_step: int = option(5000, "steps of stage one, which trains the IUV estimator alone")
    rendered_steps: int = option(0, "steps after stage one that train the regressor alone, on rendered maps")
    estimated_steps: int = option(0, "steps after these that train it on the estimator's maps, which stay as they are")
    amp: bool = option(False, "compute the network in bfloat16; pays where the processor has it")
    sync_bn: bool = option(False, "batch norm over all processes (several CUDA devices)")
    seed: int = option(0)
    device: str = option("auto", "auto, cpu or cuda")
    time_to_run: float = option(math.inf, "seconds after which the run saves and ends")

    def __post_init__(self) -> None:
        if (self.resume or self.checkpoint) and self.pretrained_checkpoint:
            raise ConfigError("--pretrained_checkpoint starts a run, --resume or --checkpoint continues one.")
        require_range(self, 1, 1e9, "batch_size", "accumulate", "num_epochs")
        require_range(self, 0, 2**32 - 1, "seed")
        require_range(self, 0, 2**62, "pretr_step", "rendered_steps", "estimated_steps")
        require_range(self, 0, math.inf, "time_to_run")

    def without_effect(self) -> dict[str, str]:
        """Settings that were given and change nothing in this run: {name: reason}."""
        found = self.optim.without_effect()
        if self.pretr_set != "auto" and (self.resume or self.checkpoint or self.pretrained_checkpoint):
            found["pretr_set"] = "weights come from another file"
        if self.resume and self.checkpoint:
            found["resume"] = "--checkpoint names what is continued"
        for name in ("rendered_steps", "estimated_steps"):
            if self.stages.always_rendered and getattr(self, name):
                found[name] = "--input_mode iuv_gt always renders"
        if self.net.map_errors and not (self.stages.always_rendered or self.rendered_steps):
            found["map_errors"] = "no stage of this run has rendered maps, see --rendered_steps"
        if self.net.learn_trunk and self.net.backbone != "thunder":
            found["learn_trunk"] = f"it is for the backbone 'thunder', not '{self.net.backbone}'"
        return found

    @property
    def stages(self) -> Stages:
        """Lengths of the training's stages."""
        always_rendered = self.net.input_mode == "iuv_gt"
        return Stages(self.pretr_step, self.rendered_steps, self.estimated_steps, always_rendered)

    def warn(self, step: int, total: int) -> None:
        """Log warnings about unlikely settings of a run from `step` to `total` steps."""
        if step >= total:
            log.warning("All %d steps are done: more --num_epochs would go on.", total)
        elif self.stages.between(step, total) == [Stage.IUV]:
            log.warning(
                "The run ends after %d steps, within stage one (--pretr_step %d): the body's regressor is not "
                "trained.", total, self.pretr_step,
            )  # fmt: skip
        if self.watch.test_steps > total > step:
            log.warning(
                "No scores: --test_steps %d is more than the run's %d steps.", self.watch.test_steps, total
            )
        for name, reason in self.without_effect().items():
            log.warning("--%s has no effect: %s.", name, reason)
