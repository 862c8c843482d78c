"""The people of a video through the network into a video and a file for each of them.

A thread reads frames and finds and follows the people in them, while the network works on people of earlier frames (of
several at once, if they are needed to fill a batch), and another draws and encodes frames whose people are all known.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from tqdm import tqdm

from models.inference.confidence import why_no_body
from models.inference.dense_files import DensePerson
from models.inference.dense_video import DenseVideo
from models.inference.person import place_body
from models.inference.pipeline import NETWORK, READING, WRITING, Seconds, TaskQueue, prefetch
from models.inference.predictor import Predictor
from models.inference.run_record import Outcome
from models.inference.track_starts import RefineRows, TrackStarts
from models.inference.video_files import VideoFiles
from utils.geometry import assumed_focal_length
from utils.io.video import VideoFile
from utils.people import Frame, TrackedFrame, TrackedPerson
from utils.renderer.people import draw_people, person_colors
from utils.script import StopSignals
from utils.smoothing import BodySmoother
from utils.structures import SMPLParams
from utils.unused import Unused

log = logging.getLogger(__name__)

READ_AHEAD, WRITE_BEHIND = 4, 4  # frames


class VideoSource(Protocol):
    """A video file or camera."""

    name: str
    size: tuple[int, int]  # width, height
    fps: float
    count: int | None  # frames, where that is known
    is_camera: bool
    broken: str | None  # why it ended early
    missing: int  # frames that the file announces and that could not be read


class VideoPeople(Protocol):
    """The frames of a video with their people."""

    stride: int  # the detector looks at each so many frames
    searched_frames: int  # that a detector looked at
    empty_frames: int  # of them, those without a detection
    min_seen: int  # frames in which a person must be seen to count
    unused: Unused  # detections that are not among the people

    def __iter__(self) -> Iterator[TrackedFrame]: ...


@dataclass
class _Waiting:
    """A frame with people that are not predicted yet."""

    frame: Frame
    missing: int
    people: list[tuple[int, DensePerson]] = field(default_factory=list)  # with their tracks


@dataclass
class VideoRun:
    """Takes frames with their people one by one, predicts people in batches, and writes the video and their tracks:

    with VideoRun(...) as run:
        for frame in run.read_ahead():
            run.add(frame)
        outcomes = run.finish()

    When the block ends with an error, the video so far and the tracks so far are written all the same. Results of an
    earlier run stay until there are frames of this one. Entering raises OSError when no video can be begun.
    """

    source: VideoSource
    people: VideoPeople  # of the source
    predictor: Predictor
    files: VideoFiles
    batch_size: int  # people
    smooth: bool
    focal_length: float | None  # of the frames, pixels; None: their diagonal
    stop: StopSignals
    seconds: Seconds = field(default_factory=Seconds)
    dense: DenseVideo | None = None  # of the frames' maps
    height: float | None = None  # of each person, standing, metres; None: as predicted

    def __post_init__(self) -> None:
        self._smoother = BodySmoother() if self.smooth else None
        self._starts = TrackStarts()
        self._frames: deque[_Waiting] = deque()
        self._batch: list[tuple[_Waiting, TrackedPerson]] = []
        self._confidence: defaultdict[int, list[float]] = defaultdict(list)  # of each track, frame by frame
        self._left_out: Counter[str] = Counter()  # what is wrong with predictions -> people of single frames
        self._is_saved = False

    def __enter__(self) -> VideoRun:
        self._started = time.perf_counter()
        self._stack = ExitStack()
        self.video = VideoFile(self.files.video_path, self.source.size, self.source.fps, self.files.overwrite)
        if self.dense is not None:
            with ExitStack() as undo:
                undo.callback(self.video.close)
                self.dense.open(self.source.size, self.source.fps)
                undo.pop_all()
        self._writing = self._stack.enter_context(TaskQueue(threads=1, depth=WRITE_BEHIND))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if not self._is_saved:
            video_problems, unwritten = self._save()
            for reason in (*video_problems, *unwritten.values()):
                log.error("%s", reason)

    @property
    def fps(self) -> float:
        """Frames a second so far."""
        return self.video.frames / max(time.perf_counter() - self._started, 1e-9)

    def read_ahead(self) -> Iterator[TrackedFrame]:
        """The frames with their people, found in a thread some frames ahead of the network."""
        frames = prefetch(self.seconds.each(READING, self.people), READ_AHEAD)
        frames = self._stack.enter_context(closing(frames))
        yield from tqdm(frames, total=self.source.count, unit="frame", disable=None)

    def add(self, tracked: TrackedFrame) -> None:
        """Predict the people when a batch is full, and write the frames whose people are all known."""
        waiting = _Waiting(tracked.frame, len(tracked.people))
        self._frames.append(waiting)
        for person in tracked.people:
            self._batch.append((waiting, person))
            if len(self._batch) == self.batch_size:
                self._predict_batch()
        # Frames without people must not pile up behind one who waits for a full batch.
        if self._batch and len(self._frames) > self.batch_size:
            self._predict_batch()
        self._write_frames()
        _raise_errors(self._writing.results())

    def finish(self) -> list[Outcome]:
        """Predict and write the last batch; returns an outcome for each track, and for each thing that is missing."""
        if self._batch:
            self._predict_batch()
        self._write_frames()
        _raise_errors(self._writing.finish())
        video_problems, unwritten = self._save()
        tracks = [track for track in self.files.tracks if track not in unwritten]
        problems = [] if self.source.broken is None else [self.source.broken]
        if self.stop.asked and not self.source.is_camera:  # a camera has no other end
            problems.append(f"the run was stopped ({self.stop.asked}) after {self.video.frames} frames")
        problems += [f"{n} predictions are left out, each of which {why}" for why, n in self._left_out.items()]
        problems += (*video_problems, *unwritten.values())
        if not (self.files.tracks or self._left_out):
            problems.append(self._no_person())
        name, stem, means = self.source.name, self.files.track_stem, self._confidence
        written = [Outcome(name, stem(track), confidence=float(np.mean(means[track]))) for track in tracks]
        return [*written, *(Outcome(name, reason=problem) for problem in problems)]

    def _no_person(self) -> str:
        people, advice = self.people, "--detector none takes each frame as one person's crop"
        if people.stride > 1:
            advice += ", a smaller --detector_stride finds people who are seen briefly"
        return (
            f"no person was found: frames with detections are {people.searched_frames - people.empty_frames} of "
            f"{people.searched_frames}, and a person is followed through {people.min_seen} at least; {advice}"
        )

    def unused(self) -> Unused:
        """Counts of unused frames and detections of the video, by reason."""
        unused = Unused()
        unused.add("frames in which no person was detected", self.people.empty_frames)
        unused.add("frames that the file announces and that could not be read", self.source.missing)
        if self.files.static_camera and self.files.ground is None and self.files.tracks:
            unused.add("settings without effect", example="static_camera: nowhere does a person stand upright")
        return unused.with_others([self.people.unused])

    def _predict_batch(self) -> None:
        batch, self._batch = self._batch, []
        people, smoother = [person for _, person in batch], self._smoother
        adjust = None if smoother is None else lambda params, rows: smoother(params, [people[i] for i in rows])

        def follow(refine: RefineRows, params: SMPLParams, rows: Sequence[int]) -> SMPLParams:
            return self._starts(refine, params, [people[row] for row in rows])

        with self.seconds.of(NETWORK):
            needs_scores = self.dense is not None and self.dense.needs_scores
            crops = [person.crop for person in people]
            predicted = self.predictor.predict(crops, adjust, needs_scores, follow, with_parts=False)
        for (waiting, person), arrays in zip(batch, predicted, strict=True):
            waiting.missing -= 1
            if why_not := why_no_body(arrays):
                self._left_out[why_not] += 1
            else:
                self._add_person(waiting, person, arrays)

    def _add_person(self, waiting: _Waiting, person: TrackedPerson, arrays: dict[str, np.ndarray]) -> None:
        found, body = person.detection, self.files.assets.body
        placed = place_body(arrays, person, found, self.source.size, body, self.focal_length, self.height)
        waiting.people.append((person.track, placed.dense))
        self._confidence[person.track].append(placed.confidence)
        place = {
            "frame_ids": waiting.frame.number,
            "seconds": person.seconds,
            "box": found.box,
            "score": found.score,
            "confidence": placed.arrays["confidence"],
            "center": person.center,
            "scale": person.scale,
            "cam_t_full": placed.camera.cam_t,
        }
        if self.height is not None:
            place["body_scale"] = placed.arrays["body_scale"]
        if found.keypoints is not None:
            place["keypoints"] = found.keypoints
        self.files.add(person.track, placed.arrays, place)

    def _write_frames(self) -> None:
        while self._frames and self._frames[0].missing == 0:
            self._writing.submit(self._write_frame, self._frames.popleft())

    def _write_frame(self, waiting: _Waiting) -> None:
        with self.seconds.of(WRITING):
            image, people = waiting.frame.pixels, [person for _, person in waiting.people]
            if self.dense is not None:
                self.dense.write(waiting.frame.number, self.source.size, people)
            if people:
                tracks = [track for track, _ in waiting.people]
                colors = person_colors(max(tracks) + 1)[tracks]
                bodies = [(person.vertices, person.camera) for person in people]
                image = draw_people(image, bodies, self.files.assets.body.faces, self.files.renderer, colors)
            self.video.write(image)

    def _save(self) -> tuple[list[str], dict[int, str]]:
        """Finish the videos and write the tracks; the reasons why videos are not written, and those of tracks."""
        self._is_saved, problems = True, []
        width, height = self.source.size
        facts = {
            "video": self.source.name,
            "fps": self.source.fps,
            "image_size": (width, height),
            "focal_length_full": self.focal_length or assumed_focal_length((width, height)),
            "principal_point": (width / 2, height / 2),
            "smoothed": self.smooth,
            **self.predictor.facts,
        }
        try:
            self.video.close()
        except OSError as error:
            problems.append(str(error))
        problems += [] if self.dense is None else self.dense.close()
        return problems, self.files.write(facts, remove_older=self.video.frames > 0)


def _raise_errors(results: Iterator[None]) -> None:
    deque(results, maxlen=0)
