"""Writing MP4 files that are whole: what was written can be played after an error in mid-run, too.

Only a process that is killed leaves nothing but a hidden temporary file: an MP4 file has its index at its end.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.file_marks import DEMO, mark_video
from utils.leftovers import remove_leftovers, temporary_name
from utils.safe_write import move, naming, raise_if_full

if TYPE_CHECKING:
    from jaxtyping import UInt8

CODEC = "mp4v"  # MPEG-4: every OpenCV writes it, every player plays it (browsers want H.264)
SUFFIX = ".mp4"
CURE = "pip install opencv-python-headless brings one"
# MPEG-4 counts time in at most 65535 parts of a second, so above 65 frames a second there is no third decimal place.
FINE_FPS, FINE_DIGITS, DIGITS = 65.0, 3, 2


class VideoFile:
    """An MP4 file in the making, without sound; `path` appears with all frames written so far when it is closed.

    size: width and height of the frames; odd ones grow by a pixel (the last one twice), which the codec needs.
    fps: frames a second; the file has the nearest rate that the codec can express. replace: a file that is there.
    Raises OSError when the file cannot be made.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, replace: bool = True):
        self.path, self.size, self.frames, self._replace = path, size, 0, replace
        self._border = (size[1] % 2, size[0] % 2)
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            self._temporary = path.with_name(temporary_name(SUFFIX))
            self._temporary.touch()  # OpenCV would not say why it cannot
        even = (size[0] + self._border[1], size[1] + self._border[0])
        self._writer = cv2.VideoWriter(
            str(self._temporary), cv2.VideoWriter_fourcc(*CODEC), expressible_fps(fps), even
        )
        if not self._writer.isOpened():
            self._temporary.unlink(missing_ok=True)
            with naming(path):
                raise_if_full(path.parent)
            raise OSError(
                f"The video '{path}' of {even[0]} x {even[1]} px and {fps:g} frames a second cannot be written: "
                f"this OpenCV has no encoder '{CODEC}' for it; {CURE}."
            )

    def write(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Add an RGB frame. Raises ValueError for one of another size."""
        if picture.shape != (self.size[1], self.size[0], 3):
            raise ValueError(
                f"Expected a frame of {self.size[0]} x {self.size[1]} px, got an array {picture.shape}."
            )
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if any(self._border):
            bottom, right = self._border
            picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        self._writer.write(picture)
        self.frames += 1

    def close(self) -> None:
        """Move the file into its place, unless it has no frame.

        Raises OSError when it cannot be moved, and when frames are missing in it: OpenCV does not tell of a full disk,
        so the file is opened again and its frames are counted. Then an older file stays as it was.
        """
        self._writer.release()
        try:
            if self.frames == 0:
                return
            written = frames_in(self._temporary)
            if written != self.frames:
                raise OSError(
                    f"The video '{self.path}' could not be written: it holds {written} of {self.frames} frames; "
                    "the disk may be full; make room on it or give another folder."
                )
            with naming(self.path):
                mark_video(self._temporary, DEMO)
                move(self._temporary, self.path, self._replace)
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def expressible_fps(fps: float) -> float:
    """The nearest frame rate that an MPEG-4 file can have."""
    return round(fps, FINE_DIGITS if fps <= FINE_FPS else DIGITS)


def frames_in(path: Path) -> int:
    """How many frames a video file says it has; 0 for one that cannot be opened."""
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return max(count, 0)
