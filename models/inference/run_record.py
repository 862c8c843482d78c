"""What a run of the demo did: `run.json`, for programs; the page of `--html` is made from it, too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.inference.confidence import LOW_CONFIDENCE
from utils.command_line import ALL_GOOD, NOTHING_DONE, SOME_SKIPPED
from utils.io import load_json, require_free, save_json_atomic
from utils.runtime import Processes
from utils.unused import Unused

SCHEMA, FILE_NAME = "danet-run-1", "run.json"
NAMES_SHOWN = 10


@dataclass(frozen=True)
class Outcome:
    """A person who was written, or a file (or somebody in it) that was skipped and why."""

    picture: str  # its file name
    stem: str = ""  # of the person's files; empty when there are none
    reason: str = ""  # why not
    is_earlier: bool = False  # written by an earlier run
    confidence: float | None = None  # of the person, 0..1; None: an earlier run did not say
    bystanders: int = 0  # others who were seen in a picture that was taken whole, and are left out


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
    def low_confidence(self) -> list[str]:
        """Stems of people below LOW_CONFIDENCE."""
        return [o.stem for o in self.outcomes if o.confidence is not None and o.confidence < LOW_CONFIDENCE]

    @property
    def remarks(self) -> list[str]:
        """What is to be known about the people whom this run wrote, each in a sentence."""
        written = [outcome for outcome in self.outcomes if outcome.stem and not outcome.is_earlier]
        said, doubtful = [], set(self.low_confidence)
        if low := [outcome.stem for outcome in written if outcome.stem in doubtful]:
            count = "1 person has" if len(low) == 1 else f"{len(low)} people have"
            said.append(f"{count} a low confidence (below {LOW_CONFIDENCE:g}): {_named(low)}.")
        if crops := [outcome.picture for outcome in written if outcome.bystanders]:
            left_out = sum(outcome.bystanders for outcome in written)
            said.append(
                f"Pictures taken whole, as one person's crop, with others in them who are left out ({left_out}): "
                f"{_named(crops)}. --detector movenet finds everybody."
            )
        return said

    @property
    def exit_code(self) -> int:
        """0 all good, 2 something was skipped, 1 nothing was done."""
        if not self.num_written:
            return NOTHING_DONE
        return SOME_SKIPPED if self.skipped else ALL_GOOD

    def save(self, out_dir: Path) -> None:
        """Write `run.json`. Raises OSError, also for one that is not the demo's."""
        require_free(out_dir / FILE_NAME, True, SCHEMA)
        people = [_listed(outcome) for outcome in self.outcomes if outcome.stem]
        skipped = [{"picture": picture, "reason": reason} for picture, reason in self.skipped]
        seconds = {stage: round(value, 3) for stage, value in self.seconds.items()}
        content = {
            "schema": SCHEMA,
            "facts": self.facts,
            "seconds": seconds,
            "people": people,
            "low_confidence": {"below": LOW_CONFIDENCE, "people": self.low_confidence},
            "skipped": skipped,
            "unused": self.unused.as_json(),
        }
        save_json_atomic(out_dir / FILE_NAME, content)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def _listed(person: Outcome) -> dict[str, Any]:
    trust = None if person.confidence is None else round(person.confidence, 3)
    entry = {
        "stem": person.stem,
        "picture": person.picture,
        "is_earlier": person.is_earlier,
        "confidence": trust,
    }
    return entry | ({"bystanders_left_out": person.bystanders} if person.bystanders else {})


def _earlier(entry: Mapping[str, Any]) -> Outcome:
    trust = entry.get("confidence")
    return Outcome(
        str(entry["picture"]),
        str(entry["stem"]),
        is_earlier=True,
        confidence=None if trust is None else float(trust),
        bystanders=int(entry.get("bystanders_left_out", 0)),
    )


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
        earlier = [_earlier(person) for person in listed]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
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
