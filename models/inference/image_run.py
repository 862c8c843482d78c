"""The people of images through the network into files: reading, network and writing overlap.

A thread reads images and finds people in them while the network works on people read before, and others draw and
write those that it has seen. People of several images fill one batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from models.inference.dense_files import DenseFiles, DensePerson
from models.inference.image_files import ImageFiles
from models.inference.person import Person, make_person
from models.inference.pipeline import NETWORK, READING, WRITING, Seconds, TaskQueue, prefetch
from models.inference.predictor import Predictor
from models.inference.run_record import Outcome
from utils.images import ImageError, read_image
from utils.io import why_unwritable
from utils.people import BadImage, FullImage, PersonCrop
from utils.renderer.people import FullCamera
from utils.runtime import shared_threads
from utils.script import StopSignals

log = logging.getLogger(__name__)

READ_AHEAD = 4  # images
WRITERS, WRITE_BEHIND = 2, 16  # threads, people
NOT_LOOKED_AT = "not looked at: the run was stopped"
# On few cores, two batches on half of the threads each leave fewer of them waiting than one batch on all.
BATCHES_AT_ONCE = 2


class ImagePeople(Protocol):
    """Finds the people of images; `stems` holds what the names of each image's results begin with."""

    stems: dict[Path, str]

    def people_of(self, path: Path) -> Iterator[PersonCrop | BadImage]:
        """The people of one image, and what of it cannot be used."""


@dataclass
class _WaitingMap:
    """An image whose people are not all predicted yet."""

    path: Path
    size: tuple[int, int]  # width, height
    missing: int
    people: list[DensePerson] = field(default_factory=list)


@dataclass
class ImageRun:
    """Takes people one by one, predicts them in batches and writes their files, in threads:

    with ImageRun(...) as run:
        for crop in run.read_ahead(people, paths, stop):
            run.add(crop)
        outcomes = run.finish()
    """

    predictor: Predictor
    files: ImageFiles
    batch_size: int
    focal_length: float | None  # of the full images, pixels; None: their diagonal
    seconds: Seconds = field(default_factory=Seconds)
    dense: DenseFiles | None = None  # of the images' maps
    height: float | None = None  # of each person, standing, metres; None: as predicted

    def __post_init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._stems: dict[Path, str] = {}
        self._maps: dict[Path, _WaitingMap] = {}
        self._batch: list[PersonCrop] = []
        self._full: FullImage | None = None  # whose people are predicted now
        self._people: list[tuple[np.ndarray, FullCamera, Future[Outcome]]] = []  # in it, as far as predicted

    def __enter__(self) -> ImageRun:
        self._stack = ExitStack()
        self._stack.enter_context(shared_threads(BATCHES_AT_ONCE))
        self._predicting = self._stack.enter_context(TaskQueue(BATCHES_AT_ONCE, BATCHES_AT_ONCE))
        self._writing = self._stack.enter_context(TaskQueue(WRITERS, WRITE_BEHIND))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read_ahead(
        self, people: ImagePeople, paths: Sequence[Path], stop: StopSignals
    ) -> Iterator[PersonCrop | BadImage]:
        """The people of the images, in their order, found in a thread some images ahead of the network.

        An image is not read where its results are there, nor once `stop` was asked for: each is a `BadImage`.
        """
        self._stems = people.stems
        images = self._stack.enter_context(closing(prefetch(self._read(people, paths, stop), READ_AHEAD)))
        for path, crops, size in tqdm(images, total=len(paths), unit="image", disable=None):
            if self.dense is not None and size is not None:
                self._begin_map(path, crops, size)
            yield from crops

    def _read(
        self, people: ImagePeople, paths: Sequence[Path], stop: StopSignals
    ) -> Iterator[tuple[Path, list[PersonCrop | BadImage], tuple[int, int] | None]]:
        """Each image, its people, and its size, as far as that is needed and known."""
        for path in paths:
            if stop.asked:
                yield path, [BadImage(path, f"{NOT_LOOKED_AT} ({stop.asked})")], None
                continue
            with self.seconds.of(READING):
                stem = people.stems[path]
                needs_map = self.dense is not None and self.dense.is_missing(path.name, stem)
                reason = None if self.dense is None else self.dense.reason_to_skip(path.name, stem)
                reason = reason or (None if needs_map else self.files.reason_to_skip_unread(stem))
                found = [] if reason else list(people.people_of(path))
                crops = [crop for crop in found if isinstance(crop, PersonCrop)]
                is_full = any(crop.full_image is not None for crop in crops)
                stems = [crop.stem for crop in crops]
                reason = reason or self.files.reason_to_skip(stem, stems, is_full, needs_map)
                found = [BadImage(path, reason)] if reason else found
                size = None if self.dense is None else _size(path, found)
            yield path, found, size

    def _begin_map(self, path: Path, found: Sequence[PersonCrop | BadImage], size: tuple[int, int]) -> None:
        """Expect the people of an image for its map; that of an image without people is written at once."""
        waiting = _WaitingMap(path, size, sum(isinstance(item, PersonCrop) for item in found))
        self._maps[path] = waiting
        self._write_map_if_whole(waiting)

    def _write_map_if_whole(self, waiting: _WaitingMap) -> None:
        if waiting.missing == 0:
            self._writing.submit(self._write_map, self._maps.pop(waiting.path))

    def _write_map(self, waiting: _WaitingMap) -> Outcome | None:
        path = waiting.path
        with self.seconds.of(WRITING):
            try:
                self.dense.write(path.name, self._stems[path], waiting.size, waiting.people)
            except OSError as error:
                return Outcome(path.name, reason=self._not_written("the maps of the image", error))
        return None

    def add(self, crop: PersonCrop | BadImage) -> None:
        """Predict and write a person, when a batch is full."""
        if isinstance(crop, BadImage):
            self._note(Outcome(crop.path.name, reason=crop.reason))
        else:
            self._batch.append(crop)
            if len(self._batch) == self.batch_size:
                self._predict_batch()
        for outcome in self._writing.results():
            self._note(outcome)

    def finish(self) -> list[Outcome]:
        """Predict and write the people of the last batch; returns the outcomes of the run."""
        if self._batch:
            self._predict_batch()
        for predicted in self._predicting.finish():
            self._write_batch(predicted)
        self._write_full_image()
        for outcome in self._writing.finish():
            self._note(outcome)
        return self.outcomes

    def _note(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        self.outcomes.append(outcome)
        if outcome.reason and not outcome.reason.startswith(NOT_LOOKED_AT):
            log.error("%s: %s", outcome.image, outcome.reason)

    def _predict_batch(self) -> None:
        self._predicting.submit(self._predicted, self._batch)
        self._batch = []
        for predicted in self._predicting.results():
            self._write_batch(predicted)

    def _predicted(self, batch: Sequence[PersonCrop]) -> list[Person]:
        with self.seconds.of(NETWORK):
            needs_scores = self.dense is not None and self.dense.needs_scores
            bodies = self.predictor.predict([crop.crop for crop in batch], with_scores=needs_scores)
        assets, facts = self.predictor.assets, self.predictor.facts
        pairs = zip(batch, bodies, strict=True)
        camera_and_size = self.focal_length, self.height
        return [make_person(crop, arrays, assets, facts, *camera_and_size) for crop, arrays in pairs]

    def _write_batch(self, predicted: list[Person]) -> None:
        for person in predicted:
            self._add_to_map(person)
            written = self._writing.submit(self._write_person, person)
            full = person.crop.full_image
            if full is not self._full:
                self._write_full_image()
                self._full = full
            if self._full is not None:
                self._people.append((person.vertices, person.camera, written))

    def _add_to_map(self, person: Person) -> None:
        """Write the image's map with its last person."""
        if self.dense is None:
            return
        waiting = self._maps[person.crop.path]
        waiting.missing -= 1
        if not person.problem:
            waiting.people.append(person.dense)
        self._write_map_if_whole(waiting)

    def _write_full_image(self) -> None:
        if self._full is not None and self._people:
            self._writing.submit(self._write_people, self._full, self._people)
        self._full, self._people = None, []

    def _write_person(self, person: Person) -> Outcome:
        name, stem = person.crop.path.name, person.crop.stem
        if person.problem:
            return Outcome(name, reason=f"the prediction of '{stem}' {person.problem}")
        with self.seconds.of(WRITING):
            try:
                is_new = self.files.write_person(stem, person.crop.crop, person.arrays, person.facts)
            except OSError as error:
                return Outcome(name, reason=self._not_written(f"the results '{stem}'", error))
        return Outcome(name, stem, "", not is_new, person.confidence, person.crop.bystanders)

    def _write_people(
        self, full: FullImage, people: list[tuple[np.ndarray, FullCamera, Future[Outcome]]]
    ) -> Outcome | None:
        """Write the image with all people whose own files were written; None when all is well.

        It tells later runs that theirs are there, so there is none after a file that could not be written.
        """
        bodies = [(vertices, camera, bool(written.result().stem)) for vertices, camera, written in people]
        drawn = [(vertices, camera) for vertices, camera, is_written in bodies if is_written]
        if not drawn or any(np.isfinite(vertices).all() and not is_written for vertices, _, is_written in bodies):
            return None
        with self.seconds.of(WRITING):
            try:
                image = read_image(full.path)
                if image.shape[1::-1] != full.size:
                    raise ImageError("it has another size now")
                self.files.write_people(full.stem, image, drawn)
            except ImageError as error:
                return Outcome(full.path.name, reason=f"it changed while people were drawn in it: {error}")
            except OSError as error:
                return Outcome(full.path.name, reason=self._not_written("the image of all people", error))
        return None

    def _not_written(self, what: str, error: OSError) -> str:
        return f"{what} cannot be written to '{self.files.out_dir}': {why_unwritable(error)}"


def _size(path: Path, found: Sequence[PersonCrop | BadImage]) -> tuple[int, int] | None:
    """Width and height of an image with these people; None for one that cannot be read or must be left alone."""
    if found:
        sizes = [item.image_size if isinstance(item, PersonCrop) else item.size for item in found]
        return next(filter(None, sizes), None)
    try:  # it was not read: the boxes or keypoints name no person in it
        return read_image(path).shape[1::-1]
    except ImageError as error:
        return error.size
