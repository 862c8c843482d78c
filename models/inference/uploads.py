"""Results of an uploaded image or clip: what the app's page shows of its people, and files to download."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.people.crops import shared_detector
from datasets.people.images import EXTENSIONS, require_pixels
from datasets.people.video import VideoFrames
from datasets.people.video_people import VideoPeople
from models.inference.dense_files import DenseFiles, charts_warning
from models.inference.dense_video import DenseVideo
from models.inference.predictor import Predictor
from models.inference.video_files import VideoFiles
from models.inference.video_run import VideoRun
from utils.export.densepose import FOLDER, check_presets
from utils.images import image_size
from utils.people import Frame
from utils.script import StopSignals

if TYPE_CHECKING:
    from jaxtyping import UInt8

    Progress = Callable[[int, int | None], object]  # frames that are done, and of all, where that is known

CLIPS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif")
BATCH_SIZE = 8  # people
SOURCE = "map"  # of the DensePose maps: what the network sees
AS_ONE = "Take the whole image as one person"  # the setting of the app's page
FEW = 2  # maps that are given as single files; more, as of the frames of a clip, as an archive


@dataclass(frozen=True)
class Limits:
    """What is too large to be worked on, and for how long results stay."""

    pixels: int = 40_000_000  # of an image or a frame
    frames: int = 900  # of a clip
    seconds: float = 3600.0


@dataclass(frozen=True)
class Results:
    """What is shown of a file, and what can be downloaded."""

    text: str
    note: str  # about the DensePose maps; may be empty
    bodies: tuple[Path, ...]  # a GLB file for each person
    confidence: tuple[float, ...]  # of each person, 0..1
    files: tuple[Path, ...]  # all that can be downloaded
    image: UInt8[np.ndarray, "H W 3"] | None = None  # with the bodies; None of a clip
    iuv: UInt8[np.ndarray, "H W 3"] | None = None  # ten times the part (0..24), U, V; None of a clip
    video: Path | None = None  # with the bodies; None of an image


class Uploads:
    """Finds the people of uploaded files, one file at a time; any threads may share it."""

    def __init__(self, predictor: Predictor, folder: Path, limits: Limits):
        """folder: each file's results are written to a folder of their own in it; it is there, and nothing else is."""
        self.predictor, self.folder, self.limits = predictor, folder, limits
        self._stop, self._turn = StopSignals(), threading.Lock()

    def results(
        self,
        path: Path,
        preset: str = "iuv-rgb",
        is_crop: bool = False,
        progress: Progress = lambda done, count: None,
    ) -> Results:
        """The results of an image or a clip; those of other files that are too old are removed.

        Args:
            path: of the file; its ending says which of both it is.
            preset: of its DensePose maps, of `utils.export.densepose.PRESETS`.
            is_crop: the image, or each frame, is one person's crop; otherwise a detector looks for people.
            progress: is called for each frame of a clip.

        Raises:
            ValueError: the file cannot be used or is too large, or no person is in it.
            OSError: results cannot be written.
        """
        check_presets([preset])
        is_clip = path.suffix.lower() in CLIPS
        if not is_clip and path.suffix.lower() not in EXTENSIONS:
            raise ValueError(
                f"{path.name}: by its ending, this is neither an image ({' '.join(EXTENSIONS)}) nor a clip "
                f"({' '.join(CLIPS)})."
            )
        with self._turn:
            self._remove_older()
            out_dir = Path(tempfile.mkdtemp(dir=self.folder))
            maps = DenseFiles(out_dir, (preset,), SOURCE, self.predictor.assets.atlas)
            try:
                if is_clip:
                    return self._clip(path, maps, "none" if is_crop else "movenet", progress)
                return self._image(path, maps, "none" if is_crop else "auto")
            except BaseException:  # nothing of it is shown, and many such files would fill the disk
                shutil.rmtree(out_dir, ignore_errors=True)
                raise

    def end(self) -> None:
        """Let a clip that is worked on end at its next frame; returns when nothing is worked on."""
        self._stop.asked = "SIGTERM"
        with self._turn:
            pass

    def _image(self, path: Path, maps: DenseFiles, detector: str) -> Results:
        if size := image_size(path):
            require_pixels(path.name, size, self.limits.pixels)
        found = self.predictor(path, detector=detector, batch_size=BATCH_SIZE)
        people = [person for person in found if not person.problem]
        if not people:
            raise ValueError(no_person(path.name))
        files = []
        for number, person in enumerate(people):
            stem = path.stem if len(people) == 1 else f"{path.stem}_{number}"
            files += [person.save(maps.out_dir / f"{stem}{ending}") for ending in (".glb", ".npz")]
        maps.write(path.name, path.stem, found.image.shape[1::-1], [person.dense for person in people])
        dense = found.dense_map(SOURCE)
        return Results(
            people_line([person.confidence for person in people]),
            self._note(maps),
            tuple(files[::2]),
            tuple(person.confidence for person in people),
            (*files, *files_of(maps)),
            image=found.overlay(),
            iuv=np.dstack([dense.part * 10, dense.u, dense.v]),
        )

    def _clip(self, path: Path, maps: DenseFiles, detector: str, progress: Progress) -> Results:
        frames = VideoFrames(str(path), self.limits.pixels)
        self._check_length(path.name, frames.count or 0)
        files = VideoFiles(maps.out_dir, path.stem, self.predictor.assets, ("glb",))
        people = VideoPeople(self._frames(frames), shared_detector(detector).detect, smooth=True)
        run = VideoRun(
            frames, people, self.predictor, files, BATCH_SIZE, smooth=True, focal_length=None, stop=self._stop,
            dense=DenseVideo(maps, frames.name, frames.stem),
        )  # fmt: skip
        with run:
            for tracked in run.read_ahead():
                run.add(tracked)
                progress(tracked.frame.number + 1, frames.count)
            outcomes = run.finish()
        tracks = [outcome for outcome in outcomes if outcome.stem]
        if not tracks:
            raise ValueError(no_person(path.name))
        bodies = tuple(maps.out_dir / f"{track.stem}.glb" for track in tracks)
        arrays = tuple(body.with_suffix(".npz") for body in bodies)
        remarks = [f"{outcome.reason}." for outcome in outcomes if not outcome.stem]
        return Results(
            " ".join(
                [
                    f"Frames: {run.video.frames}.",
                    people_line([track.confidence for track in tracks]),
                    *remarks,
                ]
            ),
            self._note(maps),
            bodies,
            tuple(track.confidence for track in tracks),
            (files.video_path, *bodies, *arrays, *files_of(maps)),
            video=files.video_path,
        )

    def _frames(self, frames: VideoFrames) -> Iterator[Frame]:
        """The frames until `end` is called. Raises ValueError at the first one too many: headers are estimates."""
        for frame in frames:
            if self._stop.asked:
                return
            self._check_length(frames.name, frame.number + 1)
            yield frame

    def _check_length(self, name: str, count: int) -> None:
        if count > self.limits.frames:
            raise ValueError(
                f"{name}: the clip has more than {self.limits.frames} frames; cut it shorter first."
            )

    def _note(self, maps: DenseFiles) -> str:
        note = charts_warning(maps.presets, SOURCE, self.predictor.weights, self.predictor.assets.atlas)
        return f"{note}." if note else ""

    def _remove_older(self) -> None:
        for path in self.folder.iterdir():
            if time.time() - path.stat().st_mtime > self.limits.seconds:
                shutil.rmtree(path, ignore_errors=True)


def no_person(name: str) -> str:
    """The sentence about a file in which no person was found."""
    return f"{name}: no person was found. Where one person fills the image, tick '{AS_ONE}'."


def people_line(confidence: Sequence[float]) -> str:
    """How many people there are, and how sure of each the prediction is."""
    return f"People: {len(confidence)}. Confidence: {', '.join(f'{value:.2f}' for value in confidence)}."


def files_of(maps: DenseFiles) -> tuple[Path, ...]:
    """The maps that were written, as files to download."""
    folder = maps.out_dir / FOLDER
    paths = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    if len(paths) <= FEW:
        return paths
    return (Path(shutil.make_archive(str(maps.out_dir / f"{FOLDER}_{maps.presets[0]}"), "zip", folder)),)
