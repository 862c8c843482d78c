"""Which run and which of its checkpoints a training continues, and whether it can: everything is checked first."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models.training.checkpoints import STEP_FILE, Accept, find_latest
from models.training.run_log import read_starts, understood
from utils.checkpoint import StateMismatchError, fitting_weights
from utils.io import DataFileError
from utils.io.temporary import remove_leftovers
from utils.wording import shorten, shown

if TYPE_CHECKING:
    from models.training.state import TrainingState

log = logging.getLogger(__name__)

# Settings that give the steps of a run their meaning; a continued run must have the same.
MEANING = ("model", "batch_size", "train_data", "synthetic_size", "shuffle_train", "seed")
# Fields of `DaNetConfig` that may change: they alter training, not the weights' shapes.
NOT_SIZES = {"vis_threshold", "center_jitter", "scale_jitter", "partdrop_rate", "detach_maps"}


# ---------------------------------------------------------------------------------------------- the newest run


@dataclass(frozen=True)
class RunFolder:
    """A run by what its folder says: `number` counts the starts of all runs of a name, whatever the clock showed."""

    folder: Path
    starts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def number(self) -> int:
        return max((start["number"] for start in self.starts), default=0)

    @property
    def time(self) -> str:
        return max((start["time"] for start in self.starts), default="")

    @property
    def step(self) -> int:
        """Of the newest checkpoint's name; -1 without any."""
        found = (STEP_FILE.fullmatch(path.name) for path in (self.folder / "checkpoints").glob("*.pt"))
        return max((int(match[1]) for match in found if match), default=-1)

    def __str__(self) -> str:
        when = f"start {self.number} of the name, {self.time}" if self.starts else "start unknown"
        step = f"step {self.step:,}" if self.step >= 0 else "no checkpoint"
        return f"{self.folder.name} ({when}, {step})"


def runs_of(log_dir: str | Path, name: str) -> list[RunFolder]:
    """All runs of a name, the one that was started or continued last first."""
    folders = [path for path in (Path(log_dir) / name).glob("log_*") if path.is_dir()]
    runs = [RunFolder(path, read_starts(path) or _starts_in_checkpoint(path)) for path in folders]
    return sorted(runs, key=lambda run: (run.number, run.time, run.step, run.folder.name), reverse=True)


def _starts_in_checkpoint(folder: Path) -> list[dict[str, Any]]:
    """Where `git.json` is damaged: the start that the run's newest checkpoint tells of."""
    found: list[dict[str, Any]] = []
    find_latest(folder / "checkpoints", lambda path, saved: found.extend(understood([saved.get("start")])))
    return found[:1]


def newest_checkpoint(log_dir: str, name: str, timestamp: str = "", accept: Accept | None = None) -> Path:
    """The newest usable checkpoint of the newest run of this name (and timestamp, when given) that has one.

    Newest is what was started last by the runs' own count; the times of folders and clocks do not matter. The log says
    which run it is and which others there are. accept: see `find_latest`. Raises FileNotFoundError when there is none.
    """
    runs = [run for run in runs_of(log_dir, name) if not timestamp or run.folder.name == f"log_{timestamp}"]
    for place, run in enumerate(runs):
        if path := find_latest(run.folder / "checkpoints", accept):
            others = ", ".join(map(str, runs[:place] + runs[place + 1 : 6])) or "none"
            log.info("Continuing %s of %s, which was started last. Other runs: %s.", path.name, run, others)
            return path
        log.warning("%s has no checkpoint that can be continued.", run.folder)
    which = f"named '{name}'" + (f" with the timestamp '{timestamp}'" if timestamp else "")
    damaged = any(run.step >= 0 for run in runs)
    raise FileNotFoundError(
        f"--resume: no {'undamaged ' if damaged else ''}checkpoint of a run {which} in {log_dir}. "
        "Start it without --resume."
    )


def require_free(log_dir: str | Path, name: str, timestamp: str) -> None:
    """Raise ValueError where a new run would get the folder of one that has checkpoints."""
    folder = Path(log_dir) / name / f"log_{timestamp}"
    if timestamp and RunFolder(folder).step >= 0:
        raise ValueError(
            f"{folder} holds the checkpoints of another run. Continue it with --resume, or give another --timestamp."
        )


def tidy_checkpoints(newest: Path) -> None:
    """After a crash: drop what was half written, and set the damaged checkpoints after `newest` aside (*.damaged)."""
    for folder in (newest.parent, newest.parent.parent):
        remove_leftovers(folder)
    for path in newest.parent.iterdir():
        if STEP_FILE.fullmatch(path.name) and int(path.stem) > int(newest.stem):
            set_aside(path)


def set_aside(path: Path) -> Path:
    """Give a damaged file another name, which replaces nothing; returns it."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in range(10_000))
    aside = next(name for name in names if not name.exists() and not name.is_symlink())
    path.rename(aside)
    return aside


# ---------------------------------------------------------------------------------------- what can be continued


def require_continuable(
    path: Path, saved: Mapping[str, Any], state: TrainingState, settings: dict[str, Any], epoch_size: int
) -> None:
    """Raise DataFileError for a checkpoint that is damaged, ValueError for a good one of a run with other settings.

    state: what shall be restored; settings, epoch_size: see `require_same_run`.
    """
    if not isinstance(saved.get("config"), Mapping):
        raise DataFileError(
            f"{path} holds weights, but no training of ours that could be continued. Start a run from it with "
            "--pretrained_checkpoint."
        )
    _require(path, "config.net", saved["config"].get("net"), Mapping)
    require_same_run(path, saved, settings, epoch_size)  # first: it names the setting that other shapes come from
    require_state(path, saved, state)


def require_state(path: Path, saved: Mapping[str, Any], state: TrainingState) -> None:
    """Raise DataFileError, naming file and entry, unless `state.restore(saved)` will work to the last number."""
    step = _require_count(path, "total_step_count", saved.get("total_step_count"))
    if STEP_FILE.fullmatch(path.name) and int(path.stem) != step:
        raise DataFileError(f"{path}: 'total_step_count' is {shown(step)}, not the step of the file's name.")
    try:
        fitting_weights(path, saved["model"], state.model.state_dict())
        _require_moments(path, saved.get("optimizer"), state.optimizer)
        average = saved.get("average")
        if state.average and average is not None:
            _require(path, "average", average, Mapping)
            _require_count(path, "average.updates", average.get("updates"))
            weights = _require(path, "average.state", average.get("state"), Mapping)
            fitting_weights(path, weights, state.average.state)
    except StateMismatchError as error:
        raise DataFileError(shorten(error, 600)) from error


def _require(path: Path, entry: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        wanted = "a dictionary" if kind is Mapping else f"a {kind.__name__}"
        raise DataFileError(f"{path}: '{entry}' is {shown(value)}, expected {wanted}.")
    return value


def _require_count(path: Path, entry: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise DataFileError(f"{path}: '{entry}' is {shown(value)}, expected a whole number from 0.")
    return value


def _require_moments(path: Path, saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise DataFileError unless `saved` holds Adam's moments of just this optimiser's parameters."""
    _require(path, "optimizer", saved, Mapping)
    groups, own = saved.get("param_groups"), optimizer.state_dict()["param_groups"]
    groups = groups if isinstance(groups, list) else []
    numbers = [group.get("params") for group in groups if isinstance(group, Mapping)]
    plain = all(isinstance(n, list) and all(type(i) is int for i in n) for n in numbers)
    if not plain or numbers != [group["params"] for group in own]:
        raise DataFileError(f"{path}: 'optimizer.param_groups' does not list this network's parameters.")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, moments in _require(path, "optimizer.state", saved.get("state"), Mapping).items():
        entry = f"optimizer.state.{shown(number)}"
        if type(number) is not int or not 0 <= number < len(parameters):
            raise DataFileError(f"{path}: '{entry}' belongs to no parameter of this network.")
        _require(path, entry, moments, Mapping)
        shapes = {"step": (), "exp_avg": parameters[number].shape, "exp_avg_sq": parameters[number].shape}
        for name in moments.keys() | shapes.keys():
            value, shape = moments.get(name), shapes.get(name)
            fits = isinstance(value, Tensor) and value.dtype == torch.float32 and value.shape == shape
            if not fits or value.layout is not torch.strided or not torch.isfinite(value).all():
                raise DataFileError(
                    f"{path}: '{entry}.{shown(name)}' is no moment of Adam for its parameter."
                )


def require_same_run(path: Path, saved: Mapping[str, Any], settings: dict[str, Any], epoch_size: int) -> None:
    """Raise ValueError when continuing a checkpoint would mean another network or count its steps in another way.

    settings: those of now, as `to_dict` gives them; epoch_size: people in an epoch of the data of now.
    """
    before, now = _leaves(saved["config"]), _leaves(settings)
    changed = {name for name in MEANING if name in before and _other(before[name], now[name])}
    network = _leaves({"net": saved["config"]["net"]}).keys() - NOT_SIZES
    changed |= {name for name in network if _other(before[name], now.get(name))}
    if changed:
        raise ValueError(
            f"--resume: the run of {path} has other values of {', '.join(sorted(changed))}. Give the same ones, or "
            "start a new --name."
        )
    before = saved.get("epoch_size", epoch_size)
    if type(before) is not int or before != epoch_size:
        raise ValueError(
            f"--resume: an epoch of the saved run has {shown(before)} people, the data now have "
            f"{epoch_size}. Give back the same files, or start a new --name with --pretrained_checkpoint."
        )


def _other(before: Any, now: Any) -> bool:
    if isinstance(before, str | int | float | None):
        return before != now
    return shown(before) != shown(now)  # what a file holds may not be comparable at all


def _leaves(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name; groups are flattened, because they have moved between versions."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _leaves(value) if isinstance(value, Mapping) else {str(name): value}
    return flat
