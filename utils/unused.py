"""Counts of the inputs that a run left out, by reason, with a few examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 5  # of each reason; a name is cut after so many letters
LONGEST_NAME = 120


@dataclass
class Unused:
    """Inputs left out: counts by reason, such as "files that are no images", each with the first examples."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, reason: str, count: int = 1, example: str = "") -> None:
        """Count inputs of one reason."""
        if count < 1:
            return
        self.counts[reason] = self.counts.get(reason, 0) + count
        shown = self.examples.setdefault(reason, [])
        if example and len(shown) < EXAMPLES:
            text = example.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # bytes that are not UTF-8
            shown.append(text[:LONGEST_NAME])

    def add_names(self, reason: str, names: Iterable[str]) -> None:
        """Count each of the names."""
        for name in names:
            self.add(reason, example=name)

    def with_others(self, others: Iterable[Unused]) -> Unused:
        """The sum of this one and others."""
        total = Unused()
        for each in (self, *others):
            for reason, count in each.counts.items():
                shown = each.examples[reason]
                total.add_names(reason, shown)
                total.add(reason, count - len(shown))
        return total

    def line(self) -> str:
        """A sentence for the log."""
        listed = "; ".join(f"{reason}: {count}" for reason, count in self.counts.items())
        return f"Not used: {listed}." if listed else "Everything that was given was used."

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Plain data for `run.json`: reason -> count and examples."""
        return {
            reason: {"count": count, **({"examples": shown} if (shown := self.examples[reason]) else {})}
            for reason, count in self.counts.items()
        }
