"""The way of a folder's people through the network into files: reading, network and writing overlap.

A thread reads pictures and finds the people in them while the network works on people read before, and others draw and
write those whom the network has seen. People of several pictures fill one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from datasets.people.crops import People
from models.inference.confidence import why_no_body, with_keypoints
from models.inference.person_files import PersonFiles
from models.inference.pipeline import NETWORK, READING, WRITING, Seconds, TaskQueue, prefetch
from models.inference.run_record import Outcome
from utils.export import PEOPLE_SUFFIX
from utils.images import ImageError, read_image
from utils.io import why_unwritable
from utils.people import BadImage, FullImage, PersonCrop
from utils.renderer.people import FullCamera, full_camera
from utils.runtime import shared_threads
from utils.script import StopSignals

if TYPE_CHECKING:
    from jaxtyping import UInt8

    Predict = Callable[[Sequence[UInt8[np.ndarray, "224 224 3"]]], list[dict[str, np.ndarray]]]

READ_AHEAD = 4  # pictures
WRITERS, WRITE_BEHIND = 2, 16  # threads, people
NOT_LOOKED_AT = "not looked at: the run was stopped"
# On few cores, two batches on half of the threads each leave fewer of them waiting than one batch on all.
BATCHES_AT_ONCE = 2


@dataclass(frozen=True)
class PictureRun:
    """What happens to the people of each picture."""

    people: People
    predict: Predict
    files: PersonFiles
    facts: dict[str, Any]  # that every result file holds: body, weights
    seconds: Seconds  # filled by stage
    batch_size: int
    focal_length: float | None  # of the full pictures, pixels; None: their diagonal

    def outcomes(self, paths: Sequence[Path], stop: StopSignals) -> Iterator[Outcome]:
        """What became of everybody in these pictures, file by file.

        Once `stop` was asked for, no further picture is read, and each is an outcome with this reason.
        """
        with (
            closing(prefetch(self._read(paths, stop), READ_AHEAD)) as pictures,
            shared_threads(BATCHES_AT_ONCE),
            TaskQueue(threads=BATCHES_AT_ONCE, depth=BATCHES_AT_ONCE) as predicting,
            TaskQueue(threads=WRITERS, depth=WRITE_BEHIND) as writing,
        ):
            gathering = _Gathering(self, predicting, writing)
            for found in tqdm(pictures, total=len(paths), unit="picture", disable=None):
                for person in found:
                    if isinstance(person, BadImage):
                        yield Outcome(person.path.name, reason=person.reason)
                    else:
                        gathering.add(person)
                yield from filter(None, writing.results())
            gathering.finish()
            yield from filter(None, writing.finish())

    def _read(self, paths: Sequence[Path], stop: StopSignals) -> Iterator[list[PersonCrop | BadImage]]:
        for path in paths:
            if stop.asked:
                yield [BadImage(path, f"{NOT_LOOKED_AT} ({stop.asked})")]
                continue
            with self.seconds.of(READING):
                stem = self.people.stems[path]
                kept = self.files.why_kept_unread(stem)
                found = [] if kept else list(self.people.people_of(path))
                people = [person for person in found if isinstance(person, PersonCrop)]
                is_full = any(person.full_image is not None for person in people)
                kept = kept or self.files.why_kept(stem, [person.stem for person in people], is_full)
            yield [BadImage(path, kept)] if kept else found

    def predict_batch(self, batch: Sequence[PersonCrop]) -> list[tuple[PersonCrop, dict[str, np.ndarray]]]:
        """Each person with the arrays that the network gives."""
        with self.seconds.of(NETWORK):
            predicted = list(zip(batch, self.predict([person.crop for person in batch]), strict=True))
        for person, arrays in predicted:
            trust = with_keypoints(arrays, person.keypoints, person.center, person.scale)
            arrays["confidence"] = np.float32(trust)
        return predicted

    def write_person(self, person: PersonCrop, arrays: dict[str, np.ndarray], camera: FullCamera) -> Outcome:
        """Write a person's files."""
        if why_not := why_no_body(arrays):
            return Outcome(person.path.name, reason=f"the prediction of '{person.stem}' {why_not}")
        with self.seconds.of(WRITING):
            try:
                facts = {**facts_of(person, camera), **self.facts}
                is_new = self.files.write_person(person.stem, person.crop, arrays, facts)
            except OSError as error:
                return Outcome(
                    person.path.name, reason=self._not_written(f"the results '{person.stem}'", error)
                )
        trust = float(arrays["confidence"])
        return Outcome(
            person.path.name, person.stem, is_earlier=not is_new, confidence=trust, bystanders=person.bystanders
        )

    def write_people(
        self, full: FullImage, people: list[tuple[np.ndarray, FullCamera, Future[Outcome]]]
    ) -> Outcome | None:
        """Write the picture with everybody in it whose own files were written; None when all is well.

        It says that theirs are there, so there is none after a file that could not be written.
        """
        bodies = [(vertices, camera, bool(writing.result().stem)) for vertices, camera, writing in people]
        drawn = [(vertices, camera) for vertices, camera, is_written in bodies if is_written]
        if not drawn or any(np.isfinite(vertices).all() and not is_written for vertices, _, is_written in bodies):
            return None
        with self.seconds.of(WRITING):
            try:
                picture = read_image(full.path)
                if picture.shape[1::-1] != full.size:
                    raise ImageError("it has another size now")
                self.files.write_people(full.stem, picture, drawn)
            except ImageError as error:
                return Outcome(full.path.name, reason=f"it changed while people were drawn in it: {error}")
            except OSError as error:
                return Outcome(full.path.name, reason=self._not_written("the picture of all people", error))
        return None

    def _not_written(self, what: str, error: OSError) -> str:
        return f"{what} cannot be written to '{self.files.out_dir}': {why_unwritable(error)}"


class _Gathering:
    """Gathers people into batches, and predicted ones by their picture."""

    def __init__(self, run: PictureRun, predicting: TaskQueue, writing: TaskQueue):
        self._run, self._predicting, self._writing = run, predicting, writing
        self._batch: list[PersonCrop] = []
        self._full: FullImage | None = None
        self._people: list[tuple[np.ndarray, FullCamera, Future[Outcome]]] = []  # as far as predicted

    def add(self, person: PersonCrop) -> None:
        self._batch.append(person)
        if len(self._batch) == self._run.batch_size:
            self._predict()

    def finish(self) -> None:
        """Whatever is left."""
        if self._batch:
            self._predict()
        for predicted in self._predicting.finish():
            self._write(predicted)
        self._draw_people()

    def _predict(self) -> None:
        self._predicting.submit(self._run.predict_batch, self._batch)
        self._batch = []
        for predicted in self._predicting.results():
            self._write(predicted)

    def _write(self, predicted: list[tuple[PersonCrop, dict[str, np.ndarray]]]) -> None:
        for person, arrays in predicted:
            cam, focal_length = torch.from_numpy(arrays["cam"]), self._run.focal_length
            camera = full_camera(cam, person.center, person.scale, person.image_size, focal_length)
            writing = self._writing.submit(self._run.write_person, person, arrays, camera)
            if person.full_image is not self._full:
                self._draw_people()
                self._full = person.full_image
            if self._full is not None:
                self._people.append((arrays["vertices"], camera, writing))

    def _draw_people(self) -> None:
        if self._full is not None and self._people:
            self._writing.submit(self._run.write_people, self._full, self._people)
        self._full, self._people = None, []


def printable(name: str) -> str:
    """A file name as text: bytes that are none become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def facts_of(person: PersonCrop, camera: FullCamera) -> dict[str, Any]:
    """Where a person's arrays come from."""
    optional = {} if person.keypoints is None else {"detected_keypoints": person.keypoints}
    if person.full_image is not None:
        optional["people_picture"] = f"{person.full_image.stem}{PEOPLE_SUFFIX}"
    return {
        "picture": printable(person.path.name),
        "person": person.person,
        "box": person.box,
        "score": person.score,
        "center": person.center,
        "scale": person.scale,
        "image_size": person.image_size,
        "cam_t_full": camera.cam_t,
        "focal_length_full": camera.focal_length,
        "principal_point": camera.principal_point,
        **optional,
    }
