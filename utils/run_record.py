"""What a run of the demo did: `run.json`, for programs; the page of `--html` is made from it, too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.command_line import ALL_GOOD, NOTHING_DONE, SOME_SKIPPED
from utils.runtime import Processes
from utils.safe_io import load_json, save_json_atomic
from utils.unused import Unused

SCHEMA, FILE_NAME = "danet-run-1", "run.json"


@dataclass(frozen=True)
class Outcome:
    """A person who was written, or a file (or somebody in it) that was skipped and why."""

    picture: str  # its file name
    stem: str = ""  # of the person's files; empty when there are none
    reason: str = ""  # why not
    is_earlier: bool = False  # written by an earlier run


@dataclass(frozen=True)
class RunRecord:
    """The outcomes of a run and the seconds that it took."""

    outcomes: tuple[Outcome, ...]
    seconds: Mapping[str, float]  # by stage, of the first process; stages overlap, so they need not add up
    facts: Mapping[str, str]  # weights, body, settings
    unused: Unused = field(default_factory=Unused)  # of what the run was given

    @property
    def people(self) -> list[str]:
        """Stems of the people whose files are there."""
        return [outcome.stem for outcome in self.outcomes if outcome.stem]

    @property
    def num_written(self) -> int:
        """Number of people whom this run wrote."""
        return sum(bool(outcome.stem) and not outcome.is_earlier for outcome in self.outcomes)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """File name and reason of all that was not done."""
        return [(outcome.picture, outcome.reason) for outcome in self.outcomes if not outcome.stem]

    @property
    def exit_code(self) -> int:
        """0 all good, 2 something was skipped, 1 nothing was done."""
        if not self.num_written:
            return NOTHING_DONE
        return SOME_SKIPPED if self.skipped else ALL_GOOD

    def save(self, out_dir: Path) -> None:
        """Write `run.json`. Raises OSError."""
        people = [
            {"stem": o.stem, "picture": o.picture, "is_earlier": o.is_earlier}
            for o in self.outcomes
            if o.stem
        ]
        skipped = [{"picture": picture, "reason": reason} for picture, reason in self.skipped]
        seconds = {stage: round(value, 3) for stage, value in self.seconds.items()}
        content = {
            "schema": SCHEMA,
            "facts": self.facts,
            "seconds": seconds,
            "people": people,
            "skipped": skipped,
            "unused": self.unused.as_json(),
        }
        save_json_atomic(out_dir / FILE_NAME, content)


def joined_outcomes(
    outcomes: Iterable[Outcome], order: Sequence[str], processes: Processes
) -> tuple[Outcome, ...]:
    """The outcomes of all processes, in the order of the pictures' names."""
    processes.wait_for_all()  # shares may differ by hours
    everyone = [outcome for each in processes.gather(list(outcomes)) for outcome in each]
    return _in_order(everyone, order)


def with_earlier(
    outcomes: Sequence[Outcome], out_dir: Path, order: Sequence[str], endings: Sequence[str]
) -> tuple[Outcome, ...]:
    """The outcomes, and the people whom earlier runs wrote and this one did not, pictures in their `order`.

    They are those of the folder's `run.json` whose files (stem and each of `endings`) are still there; a damaged or
    foreign one counts for nothing.
    """
    try:
        listed = load_json(out_dir / FILE_NAME)["people"]
        earlier = [Outcome(str(p["picture"]), str(p["stem"]), is_earlier=True) for p in listed]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return tuple(outcomes)
    written, there = {outcome.stem for outcome in outcomes}, set(os.listdir(out_dir))
    kept = [e for e in earlier if e.stem not in written and there.issuperset(e.stem + end for end in endings)]
    return _in_order((*kept, *outcomes), order)


def _in_order(outcomes: Iterable[Outcome], order: Sequence[str]) -> tuple[Outcome, ...]:
    """By picture, those of other runs' pictures last, and by person: x_2 before x_10."""
    place = {name: number for number, name in enumerate(order)}

    def key(outcome: Outcome) -> tuple[int, str, int, str]:
        rank = place.get(outcome.picture, len(place))
        return rank, outcome.picture, len(outcome.stem), outcome.stem

    return tuple(sorted(outcomes, key=key))
