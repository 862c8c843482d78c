"""Frames of a video file or a camera, by OpenCV.

Only a source without a single frame is an error; one that breaks off gives the frames before, and `broken` says so.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from datasets.people.images import EXTENSIONS, require_pixels
from utils.people import Frame

log = logging.getLogger(__name__)

# FFmpeg's own lines about a damaged file, thousands of them, would bury our sentence; read when a first file is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

USUAL_FPS = 30.0  # where the source says nothing sensible
MIN_FPS, MAX_FPS = 1.0, 480.0
# Containers without an index only estimate how many frames they hold.
ESTIMATE_ERROR = 0.02
MIN_STEP = 1e-3  # seconds between frames of a camera, whose clock may tick more coarsely than frames come


class VideoFrames:
    """Iterates once over the frames of a file, or of a camera (until the consumer stops).

    Frames are upright, as the file's rotation asks, and of one `size` (width, height), that of the first.
    """

    def __init__(self, source: str, most_pixels: float = math.inf):
        """
        Args:
            source: a file's path, or a camera's number ("0" is the first one).
            most_pixels: that a frame may have.

        Raises:
            ValueError: there is no such file or camera, no frame in it, or too large ones.
        """
        self.is_camera = source.isdecimal()
        self.name = f"camera {source}" if self.is_camera else Path(source).name
        self.stem = f"camera{source}" if self.is_camera else Path(source).stem
        self._capture = _open_camera(int(source)) if self.is_camera else _open_file(Path(source))
        said = tuple(int(self._capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        require_pixels(self.name, said, most_pixels)  # before memory is taken for a frame
        first = self._read()
        if first is None:
            self._capture.release()
            of_file = "it is empty, damaged, or its codec is unknown to OpenCV; convert it to MP4 (H.264)."
            reason = "another program may use it." if self.is_camera else of_file
            raise ValueError(f"No frame could be read from {self.name}: {reason}")
        self._first, self.size = first, (first.shape[1], first.shape[0])
        require_pixels(self.name, self.size, most_pixels)
        self.fps = sensible_fps(self._capture.get(cv2.CAP_PROP_FPS), self.name)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = None if self.is_camera or not 0 < count < 1e9 else int(count)
        self.broken: str | None = None  # known once the iteration has ended, as is `missing`
        self.missing = 0  # frames that the file announces and that could not be read

    def __iter__(self) -> Iterator[Frame]:
        number, seconds, start, image = 0, 0.0, time.perf_counter(), self._first
        try:
            while image is not None:
                yield Frame(number, seconds, image)
                number, image = number + 1, self._read()
                clock = max(time.perf_counter() - start, seconds + MIN_STEP)
                seconds = clock if self.is_camera else number / self.fps
                # A stream may change its size; the video written cannot.
                if image is not None and image.shape[1::-1] != self.size:
                    image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
            self.broken = self._why_ended(number)
        finally:
            self._capture.release()

    def _read(self) -> np.ndarray | None:
        try:
            is_read, image = self._capture.read()
        except cv2.error as error:  # damaged streams
            log.debug("OpenCV: %s", error)
            return None
        if not is_read or image is None or image.size == 0:
            return None
        if image.ndim == 2 or image.shape[2] == 1:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _why_ended(self, frames: int) -> str | None:
        if self.is_camera:
            return f"it stopped after {frames} frames; it may have been unplugged"
        self.missing = max(0, (self.count or 0) - frames)
        if self.count is None or self.count - frames <= max(1, ESTIMATE_ERROR * self.count):
            return None
        return f"it breaks off: it announces {self.count} frames, {frames} could be read and are used"


def sensible_fps(fps: float, name: str) -> float:
    """Frames a second; `USUAL_FPS`, with a warning, for what no video has."""
    if math.isfinite(fps) and MIN_FPS <= fps <= MAX_FPS:
        return float(fps)
    log.warning("%s gives %g frames a second; %g are assumed.", name, fps, USUAL_FPS)
    return USUAL_FPS


def _open_camera(number: int) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise ValueError(
            f"There is no camera {number}, or this program may not use it; 0 is the first camera, and a video file is "
            "given by its path."
        )
    return capture


def _open_file(path: Path) -> cv2.VideoCapture:
    if not path.is_file():
        raise ValueError(f"There is no video file '{path}'; --video takes a file or a camera's number.")
    try:
        str(path).encode()
    except UnicodeEncodeError:  # OpenCV would crash
        raise ValueError(f"The name of the video {str(path)!r} is no text (UTF-8); rename the file.") from None
    if path.suffix.lower() in EXTENSIONS:
        raise ValueError(f"'{path}' is an image; --img_dir takes images, --video takes videos.")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(
            f"'{path}' is no video that OpenCV can read: it is damaged, cut short, or its format is unknown. "
            "Convert it to MP4 (H.264)."
        )
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture
