"""The whole-image DensePose maps of a video (`demo.py --video FILE --densepose`).

Presets that show parts as colours become an MP4; those whose pixels are numbers, which a video would blur, become files
of each frame.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from models.inference.dense_files import DenseFiles, DensePerson
from models.inference.run_record import MapsOfImage
from utils.export.densepose import FOLDER, PRESETS, file_pixels, map_paths, write_map
from utils.io import require_free, why_unwritable
from utils.io.marks import DEMO, is_marked
from utils.io.video import VideoFile

log = logging.getLogger(__name__)

VIDEO_SUFFIX = "_densepose.mp4"
ANY_NUMBER = "*"  # in the record, for the number of a frame


def frame_stem(stem: str, number: int | str) -> str:
    """What the names of a frame's files begin with."""
    return f"{stem}_{number:06d}" if isinstance(number, int) else f"{stem}_{number}"


class DenseVideo:
    """Writes the maps of the frames of one video; `open` comes before the first frame, `close` after the last."""

    def __init__(self, files: DenseFiles, name: str, stem: str):
        """
        Args:
            files: makes the maps; says where they are written and what may be replaced.
            name: of the video, for the record.
            stem: of the video's results.
        """
        self._files, self._name, self._stem = files, name, stem
        presets = dict.fromkeys(files.presets)
        self._colors = [preset for preset in presets if PRESETS[preset].colors]
        self._numbers = [preset for preset in presets if not PRESETS[preset].colors]
        self._videos: dict[str, VideoFile] = {}
        self._frames, self._problem = 0, ""

    @property
    def needs_scores(self) -> bool:
        """As of `DenseFiles`."""
        return self._files.needs_scores

    def require_free(self) -> None:
        """Raise FileExistsError for what an earlier run left and this one must not replace."""
        videos = [path for preset in self._colors if (path := self._video_path(preset)).exists()]
        for path in [*videos, *self._older_frames(0)]:
            require_free(path, self._files.overwrite, DEMO)

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Begin the videos; size: width and height of the frames. Raises OSError where one cannot be made."""
        with ExitStack() as undo:
            for preset in self._colors:
                path = self._video_path(preset)
                self._videos[preset] = undo.enter_context(VideoFile(path, size, fps, self._files.overwrite))
            undo.pop_all()

    def write(self, number: int, size: tuple[int, int], people: Sequence[DensePerson]) -> None:
        """Add a frame; without people it is all background. What cannot be written is said by `close`."""
        dense = self._files.compose(people, size)
        for preset, video in self._videos.items():
            video.write(file_pixels(PRESETS[preset].colors, dense))
        self._frames = number + 1
        stem = frame_stem(self._stem, number)
        for _, file, path in map_paths(self._files.out_dir, self._numbers, stem, stem):
            try:
                if not self._problem:
                    write_map(path, file, dense, self._files.overwrite)
            except OSError as error:
                self._problem = f"maps from frame {number} on cannot be written: {why_unwritable(error)}"

    def close(self) -> list[str]:
        """Finish the videos and remove frames of a longer earlier run; sentences about what is not written."""
        problems, names = [self._problem] if self._problem else [], []
        for video in self._videos.values():
            try:
                video.close()
                names += [self._files.shown(video.path)] if video.frames else []
            except OSError as error:
                problems.append(str(error))
        if self._frames:
            stem = frame_stem(self._stem, ANY_NUMBER)
            paths = map_paths(self._files.out_dir, self._numbers, stem, stem)
            names += [self._files.shown(path) for _, _, path in paths]
            self._remove_older()
        if names:
            self._files.maps.append(MapsOfImage(self._name, tuple(names)))
        return problems

    def _video_path(self, preset: str) -> Path:
        return self._files.out_dir / FOLDER / preset / f"{self._stem}{VIDEO_SUFFIX}"

    def _older_frames(self, first: int) -> list[Path]:
        """Maps of frames with this number and higher ones that are there."""
        found, stem = [], frame_stem(self._stem, "\0")
        for _, _, path in map_paths(self._files.out_dir, self._numbers, stem, stem):
            name = re.compile(re.escape(path.name).replace(re.escape("\0"), r"(\d{6,})"))
            listed = path.parent.iterdir() if path.parent.is_dir() else ()
            matches = [(each, name.fullmatch(each.name)) for each in listed]
            found += [each for each, match in matches if match and int(match[1]) >= first]
        return sorted(found)

    def _remove_older(self) -> None:
        for path in self._older_frames(self._frames) if self._files.overwrite else ():
            try:
                if is_marked(path, DEMO):
                    path.unlink()
            except OSError as error:
                log.warning("'%s' of an earlier run cannot be removed: %s", path, why_unwritable(error))
