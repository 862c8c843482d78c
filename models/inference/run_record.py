"""What a run of the demo did: `run.json`, for programs; the page of `--html` is made from it, too."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.inference.confidence import LOW_CONFIDENCE
from utils.command_line import ALL_GOOD, NOTHING_DONE, SOME_SKIPPED
from utils.io import load_json, require_free, save_json_atomic
from utils.renderer.backends import renderer_problem
from utils.runtime import Processes
from utils.unused import Unused

SCHEMA, FILE_NAME = "danet-run-1", "run.json"
NAMES_SHOWN = 10


@dataclass(frozen=True)
class Outcome:
    """A person who was written, or a file (or a person in it) that was skipped and why."""

    image: str  # file name of the image or video
    stem: str = ""  # of the person's files; empty when there are none
    reason: str = ""  # why not
    is_earlier: bool = False  # written by an earlier run
    confidence: float | None = None  # of the person, 0..1; None: an earlier run did not say
    bystanders: int = 0  # others who were seen in an image that was taken whole, and are left out


@dataclass(frozen=True)
class MapsOfImage:
    """The whole-image maps of an image or video."""

    image: str  # its file name
    files: tuple[str, ...]  # in the folder of results; of a video's frames with * in place of the number
    is_earlier: bool = False  # written by an earlier run


@dataclass(frozen=True)
class RunRecord:
    """Outcomes of a run, with its times, settings and unused inputs."""

    outcomes: tuple[Outcome, ...]
    seconds: Mapping[str, float]  # by stage, of the first process; stages overlap, so they need not add up
    facts: Mapping[str, str]  # weights, body, settings
    unused: Unused = field(default_factory=Unused)  # of what the run was given
    maps: tuple[MapsOfImage, ...] = ()

    @property
    def people(self) -> list[str]:
        """Stems of the people whose files are there."""
        return [outcome.stem for outcome in self.outcomes if outcome.stem]

    @property
    def written(self) -> list[Outcome]:
        """The people whom this run wrote."""
        return [outcome for outcome in self.outcomes if outcome.stem and not outcome.is_earlier]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """File name and reason of each skipped file or person."""
        return [(outcome.image, outcome.reason) for outcome in self.outcomes if not outcome.stem]

    @property
    def exit_code(self) -> int:
        """0 all good, 2 something was skipped, 1 nothing was done."""
        if not self.written and all(each.is_earlier for each in self.maps):
            return NOTHING_DONE
        return SOME_SKIPPED if self.skipped else ALL_GOOD

    def remarks(self) -> list[str]:
        """Warnings about the people whom this run wrote, each a sentence."""
        remarks = []
        if low := _low_confidence(self.written):
            count = "1 person has" if len(low) == 1 else f"{len(low)} people have"
            remarks.append(f"{count} a low confidence (below {LOW_CONFIDENCE:g}): {_listed(low)}.")
        if crops := [outcome.image for outcome in self.written if outcome.bystanders]:
            left_out = sum(outcome.bystanders for outcome in self.written)
            remarks.append(
                f"Images taken whole, as one person's crop, with others in them who are left out ({left_out}): "
                f"{_listed(crops)}. --detector movenet finds every person."
            )
        several = [image for image, people in Counter(each.image for each in self.written).items() if people > 1]
        if "height" in self.facts and several:
            given = f"Each person is given the height of {self.facts['height']} m"
            remarks.append(f"{given}, also where there are several: {_listed(several)}.")
        return remarks

    def save(self, out_dir: Path) -> None:
        """Write `run.json`.

        Raises:
            OSError: it cannot be written, or would replace a file of others.
        """
        require_free(out_dir / FILE_NAME, True, SCHEMA)
        content = {
            "schema": SCHEMA,
            "facts": self.facts,
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
            "people": [_entry(outcome) for outcome in self.outcomes if outcome.stem],
            "low_confidence": {"below": LOW_CONFIDENCE, "people": _low_confidence(self.outcomes)},
            "skipped": [{"picture": image, "reason": reason} for image, reason in self.skipped],
            "unused": self.unused.as_json(),
        }
        if self.maps:
            content["densepose"] = [
                {"picture": each.image, "files": each.files, "is_earlier": each.is_earlier} for each in self.maps
            ]
        save_json_atomic(out_dir / FILE_NAME, content)


def with_earlier(
    outcomes: Iterable[Outcome], out_dir: Path, order: Sequence[str], endings: Sequence[str]
) -> tuple[Outcome, ...]:
    """The outcomes, and the people whom earlier runs wrote and this one did not.

    Args:
        out_dir: the folder whose `run.json` names people of earlier runs; a damaged or foreign one counts as empty.
        order: file names of the run's images; outcomes come by image, those of other images last, and by person: x_2
            before x_10.
        endings: people whose files with these endings (after the stem) are not all there any more are dropped.
    """
    outcomes = list(outcomes)
    try:
        earlier = [_outcome(entry) for entry in load_json(out_dir / FILE_NAME)["people"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        earlier = []
    if earlier:
        written, present = {outcome.stem for outcome in outcomes}, set(os.listdir(out_dir))
        earlier = [e for e in earlier if e.stem not in written and present.issuperset(e.stem + x for x in endings)]
    rank = {name: number for number, name in enumerate(order)}
    return tuple(
        sorted((*earlier, *outcomes), key=lambda o: (rank.get(o.image, len(rank)), o.image, len(o.stem), o.stem))
    )


def with_earlier_maps(
    maps: Iterable[MapsOfImage], out_dir: Path, order: Sequence[str]
) -> tuple[MapsOfImage, ...]:
    """The maps, and those of earlier runs whose files are there still; `out_dir` and `order` as of `with_earlier`.

    An image of which this run wrote maps keeps those that earlier runs wrote of other presets.
    """
    by_image = {each.image: each for each in maps}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no record, or a damaged or foreign one
        for entry in load_json(out_dir / FILE_NAME)["densepose"]:
            names = [name for name in map(str, entry["files"]) if "*" in name or os.path.lexists(out_dir / name)]
            if names:
                image = str(entry["picture"])
                own = by_image.get(image, MapsOfImage(image, (), True))
                by_image[image] = replace(own, files=tuple(dict.fromkeys((*own.files, *names))))
    rank = {name: number for number, name in enumerate(order)}
    return tuple(sorted(by_image.values(), key=lambda each: (rank.get(each.image, len(rank)), each.image)))


def shown_settings(config: Any, processes: Processes) -> dict[str, str]:
    """Settings of the demo that the record shows: those that differ from None, False and ()."""
    names = [
        "img_dir" if config.video is None else "video", "detector", "detector_weights", "boxes", "keypoints",
        "focal_length", "height", "checkpoint", "batch_size", "reference_input", "smooth", "static_camera", "renderer",
        "export", "densepose",
    ]  # fmt: skip
    given = {name: value for name in names if (value := getattr(config, name)) not in (None, False, ())}
    shown = {name: " ".join(v) if isinstance(v, tuple) else str(v) for name, v in given.items()}
    if config.densepose:
        shown["dense_source"] = config.dense_source
    if config.detector_stride > 1:
        shown["detector_stride"] = str(config.detector_stride)
    return {**shown, "processes": str(processes.count)}


def settings_without_effect(config: Any) -> Unused:
    """Settings of the demo that were given and change nothing in this run."""
    unused, no_effect, is_video = Unused(), "settings without effect", config.video is not None
    if is_video and config.img_dir != type(config).img_dir:
        unused.add(no_effect, example=f"img_dir {config.img_dir}: --video is used instead")
    if config.dense_source != type(config).dense_source and not config.densepose:
        unused.add(no_effect, example=f"dense_source {config.dense_source}: no --densepose preset is given")
    if config.detector_stride > 1 and (not is_video or config.detector == "none"):
        reason = "--detector none takes every frame whole" if is_video else "it is for --video"
        unused.add(no_effect, example=f"detector_stride {config.detector_stride}: {reason}")
    if config.use_opendr and is_video:
        unused.add(no_effect, example="use_opendr: it adds to the panels of images")
    elif config.use_opendr and renderer_problem("opendr"):
        unused.add(no_effect, example="use_opendr: opendr does not work here")
    return unused


def _low_confidence(outcomes: Iterable[Outcome]) -> list[str]:
    return [o.stem for o in outcomes if o.confidence is not None and o.confidence < LOW_CONFIDENCE]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def _entry(person: Outcome) -> dict[str, Any]:
    entry = {
        "stem": person.stem,
        "picture": person.image,
        "is_earlier": person.is_earlier,
        "confidence": None if person.confidence is None else round(person.confidence, 3),
    }
    return entry | ({"bystanders_left_out": person.bystanders} if person.bystanders else {})


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    """Inverse of `_entry`, of an earlier run."""
    confidence = None if entry.get("confidence") is None else float(entry["confidence"])
    bystanders = int(entry.get("bystanders_left_out", 0))
    return Outcome(str(entry["picture"]), str(entry["stem"]), "", True, confidence, bystanders)
