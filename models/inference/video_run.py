"""The way of a video's people through the network into a video and a file for each of them.

A thread reads frames and finds and follows the people in them, while the network works on people of earlier frames (of
several at once, if they are needed to fill a batch), and another draws and encodes frames whose people are all known.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from datasets.people.video import VideoFrames
from datasets.people.video_people import VideoPeople
from models.inference.confidence import why_no_body, with_keypoints
from models.inference.pipeline import NETWORK, READING, WRITING, Seconds, TaskQueue, prefetch
from models.inference.track_files import TrackFiles
from utils.geometry import assumed_focal_length
from utils.io.video import VideoFile
from utils.people import Frame, TrackedFrame, TrackedPerson
from utils.renderer.people import FullCamera, draw_people, full_camera, person_colors
from utils.script import StopSignals
from utils.smoothing import BodySmoother
from utils.structures import SMPLParams
from utils.unused import Unused

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from datasets.people.video_people import Find

    Adjust = Callable[[SMPLParams, Sequence[int]], SMPLParams]
    Predict = Callable[[Sequence[UInt8[np.ndarray, "224 224 3"]], Adjust | None], list[dict[str, np.ndarray]]]

log = logging.getLogger(__name__)

READ_AHEAD, WRITE_BEHIND = 4, 4  # frames


@dataclass(frozen=True)
class VideoSummary:
    """What became of a video."""

    frames: int  # worked off
    tracks: dict[int, int]  # number of frames of each person who was written
    confidence: Mapping[int, float]  # mean over the frames of each track
    seconds: float
    broken: str | None  # why the source ended early
    stopped: str  # name of the signal that ended the run early; empty for a camera's, which has no other end
    left_out: Mapping[str, int]  # what was wrong with predictions -> how many people of single frames it cost
    unwritten_video: str  # why there is no video of the run, in a sentence; empty: there is
    unwritten: dict[int, str]  # why there are no files of a track, in a sentence
    empty_frames: int  # in which nobody was detected
    min_seen: int  # frames in which somebody must be seen to count
    unused: Unused  # of what was in the video

    @property
    def fps(self) -> float:
        """Frames a second that were worked off."""
        return self.frames / max(self.seconds, 1e-9)

    def shortcomings(self) -> list[str]:
        """What is missing in the results, each in a sentence."""
        found = [] if self.broken is None else [self.broken]
        if self.stopped:
            found.append(f"the run was stopped ({self.stopped}) after {self.frames} frames")
        found += [
            f"{count} predictions are left out, each of which {why}" for why, count in self.left_out.items()
        ]
        if self.unwritten_video:
            found.append(self.unwritten_video)
        found += self.unwritten.values()
        if not (self.tracks or self.unwritten or self.left_out):
            found.append(
                f"nobody was found: {self._nobody()}; --detector none takes each frame as one person's crop"
            )
        return found

    def _nobody(self) -> str:
        of = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        if self.empty_frames == self.frames:
            return f"nobody was detected in any of {of}"
        return (
            f"somebody was detected in {self.frames - self.empty_frames} of {of}, but nobody surely enough in "
            f"{self.min_seen} of them"
        )


@dataclass(frozen=True)
class VideoRun:
    """What happens to the people of a video."""

    frames: VideoFrames
    find: Find
    predict: Predict
    files: TrackFiles
    facts: dict[str, Any]  # that every result file holds: body_model, weights
    seconds: Seconds  # filled by stage
    batch_size: int  # people at a time
    smooth: bool
    focal_length: float | None  # of the frames, pixels; None: their diagonal

    def run(self, stop: StopSignals) -> VideoSummary:
        """Work the video off; once `stop` was asked for, frames that are read already are finished.

        After an error in mid-run, too, the video so far and the tracks so far are written. Results of an earlier run
        stay until there are frames of this one. Raises OSError when no video can be begun.
        """
        started = time.perf_counter()
        video = VideoFile(self.files.video_path, self.frames.size, self.frames.fps, self.files.overwrite)
        people = VideoPeople(self._read(stop), self._find, self.smooth)
        try:
            gathered = self._work_off(people, video)
        except BaseException:
            unwritten_video, unwritten = self._save(video)
            for reason in filter(None, (unwritten_video, *unwritten.values())):
                log.error("%s", reason)
            raise
        unwritten_video, unwritten = self._save(video)
        return VideoSummary(
            frames=video.frames,
            tracks={track: count for track, count in self.files.tracks.items() if track not in unwritten},
            confidence={track: float(np.mean(values)) for track, values in gathered.confidence.items()},
            seconds=time.perf_counter() - started,
            broken=self.frames.broken,
            stopped="" if self.frames.is_camera else stop.asked,
            left_out=gathered.left_out,
            unwritten_video=unwritten_video,
            unwritten=unwritten,
            empty_frames=people.empty_frames,
            min_seen=people.min_seen,
            unused=self._unused(people),
        )

    def _work_off(self, people: VideoPeople, video: VideoFile) -> _Gathering:
        """Take all frames through the network into the video; what was gathered of them."""
        with (
            TaskQueue(threads=1, depth=WRITE_BEHIND) as writing,
            closing(prefetch(people, READ_AHEAD)) as frames,
        ):
            gathering = _Gathering(self, video, writing)
            for frame in tqdm(frames, total=self.frames.count, unit="frame", disable=None):
                gathering.add(frame)
                _raise_errors(writing.results())
            gathering.finish()
            _raise_errors(writing.finish())
        return gathering

    def _save(self, video: VideoFile) -> tuple[str, dict[int, str]]:
        """Finish the video and write the tracks; why the one and some of the others cannot be, as in the summary."""
        unwritten_video = ""
        try:
            video.close()
        except OSError as error:
            unwritten_video = str(error)
        return unwritten_video, self.files.write(self._facts(), remove_older=video.frames > 0)

    def _unused(self, people: VideoPeople) -> Unused:
        unused = Unused()
        unused.add("frames in which nobody was detected", people.empty_frames)
        unused.add("frames that the file announces and that could not be read", self.frames.missing)
        return unused.with_others([people.unused])

    def _read(self, stop: StopSignals) -> Iterator[Frame]:
        frames = iter(self.frames)
        while not stop.asked:
            with self.seconds.of(READING):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _find(self, picture: np.ndarray) -> list:
        with self.seconds.of(READING):
            return self.find(picture)

    def _facts(self) -> dict[str, Any]:
        width, height = self.frames.size
        return {
            "video": self.frames.name,
            "fps": self.frames.fps,
            "image_size": (width, height),
            "focal_length_full": self.focal_length or assumed_focal_length((width, height)),
            "principal_point": (width / 2, height / 2),
            "smoothed": self.smooth,
            **self.facts,
        }

    def draw(self, video: VideoFile, frame: Frame, people: list[tuple[int, np.ndarray, FullCamera]]) -> None:
        """Write a frame with its people (track, vertices, camera) to the video."""
        with self.seconds.of(WRITING):
            picture = frame.pixels
            if people:
                tracks, *_ = zip(*people, strict=True)
                colors = person_colors(max(tracks) + 1)[list(tracks)]
                bodies = [(vertices, camera) for _, vertices, camera in people]
                faces = self.files.assets.body.faces
                picture = draw_people(picture, bodies, faces, self.files.renderer, colors)
            video.write(picture)


@dataclass
class _Waiting:
    """A frame whose people are not all predicted yet."""

    frame: Frame
    missing: int
    people: list[tuple[int, np.ndarray, FullCamera]] = field(default_factory=list)


class _Gathering:
    """Gathers people into batches, and hands frames on, in their order, when their people are predicted."""

    def __init__(self, run: VideoRun, video: VideoFile, writing: TaskQueue):
        self._run, self._video, self._writing = run, video, writing
        self._smoother = BodySmoother() if run.smooth else None
        self._frames: deque[_Waiting] = deque()
        self._batch: list[tuple[_Waiting, TrackedPerson]] = []
        self.left_out: Counter[str] = Counter()  # as in the summary
        self.confidence: defaultdict[int, list[float]] = defaultdict(list)  # of each track, frame by frame

    def add(self, tracked: TrackedFrame) -> None:
        waiting = _Waiting(tracked.frame, len(tracked.people))
        self._frames.append(waiting)
        for person in tracked.people:
            self._batch.append((waiting, person))
            if len(self._batch) == self._run.batch_size:
                self._predict()
        # Frames without people must not pile up behind one who waits for a full batch.
        if self._batch and len(self._frames) > self._run.batch_size:
            self._predict()
        self._hand_on()

    def finish(self) -> None:
        """Whatever is left."""
        if self._batch:
            self._predict()
        self._hand_on()

    def _predict(self) -> None:
        batch, self._batch = self._batch, []
        people = [person for _, person in batch]
        with self._run.seconds.of(NETWORK):
            smoother = self._smoother
            adjust = None if smoother is None else lambda params, rows: smoother(params, [people[i] for i in rows])
            predicted = self._run.predict([person.crop for person in people], adjust)
        for (waiting, person), arrays in zip(batch, predicted, strict=True):
            waiting.missing -= 1
            if why_not := why_no_body(arrays):
                self.left_out[why_not] += 1
            else:
                self._keep(waiting, person, arrays)

    def _keep(self, waiting: _Waiting, person: TrackedPerson, arrays: dict[str, np.ndarray]) -> None:
        run, cam = self._run, torch.from_numpy(arrays["cam"])
        camera = full_camera(cam, person.center, person.scale, run.frames.size, run.focal_length)
        waiting.people.append((person.track, arrays["vertices"], camera))
        trust = with_keypoints(arrays, person.detection.keypoints, person.center, person.scale)
        self.confidence[person.track].append(trust)
        place = {
            "frame_ids": waiting.frame.number,
            "seconds": person.seconds,
            "box": person.detection.box,
            "score": person.detection.score,
            "confidence": np.float32(trust),
            "center": person.center,
            "scale": person.scale,
            "cam_t_full": camera.cam_t,
        }
        if person.detection.keypoints is not None:
            place["keypoints"] = person.detection.keypoints
        run.files.add(person.track, arrays, place)

    def _hand_on(self) -> None:
        while self._frames and self._frames[0].missing == 0:
            waiting = self._frames.popleft()
            self._writing.submit(self._run.draw, self._video, waiting.frame, waiting.people)


def _raise_errors(results: Iterator[None]) -> None:
    deque(results, maxlen=0)
