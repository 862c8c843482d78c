"""Writing MP4 files (H.264, which browsers play) that are whole, after an error in mid-run, too.

Only a process that is killed leaves nothing but a hidden temporary file: an MP4 file has its index at its end.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.io.marks import DEMO
from utils.io.temporary import remove_leftovers, temporary_name
from utils.io.writers import move, named_errors

if TYPE_CHECKING:
    from av import VideoFrame
    from jaxtyping import UInt8

CODEC, QUALITY = "libx264", {"crf": "20", "preset": "veryfast"}


class VideoFile(contextlib.AbstractContextManager):
    """An MP4 file in the making, without sound; `path` appears with all frames written so far when it is closed.

    Args:
        path: of the file; missing folders are made.
        size: width and height of the frames, pixels; odd ones grow by a pixel (the last one twice), which H.264 needs.
        fps: frames a second.
        replace: a file that is there.

    Raises:
        OSError: when the file cannot be made.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, replace: bool = True):
        import av

        self.path, self.size, self.frames, self._replace = path, size, 0, replace
        self._error: OSError | None = None
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            self._temporary = path.with_name(temporary_name(".mp4"))
            self._file = self._temporary.open("wb")
        self._container = av.open(self._file, "w", format="mp4")
        self._container.metadata["comment"] = DEMO
        try:
            rate = Fraction(fps).limit_denominator(1001)
            self._stream = self._container.add_stream(CODEC, rate, options=QUALITY, pix_fmt="yuv420p")
            self._stream.width, self._stream.height = (side + side % 2 for side in size)
            codec = self._stream.codec_context
            codec.colorspace = av.video.reformatter.Colorspace.ITU601  # the conversion's, for players
            codec.open()
        except (av.FFmpegError, ValueError) as error:
            self._discard()
            frames = f"{size[0]} x {size[1]} px and {fps:g} frames a second"
            raise OSError(f"The video '{path}' of {frames} cannot be encoded by {CODEC}: {error}.") from error

    def write(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Add an RGB frame. Raises ValueError for one of another size."""
        from av import VideoFrame

        width, height = self.size
        if image.shape != (height, width, 3):
            raise ValueError(f"Expected a frame of {width} x {height} px, got an array {image.shape}.")
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = self.frames
        self._encode(frame)
        self.frames += 1

    def _encode(self, frame: VideoFrame | None) -> None:
        """Encode a frame, or None for the end. An error waits for `close`: the run's other results are not lost."""
        try:
            if self._error is None:
                self._container.mux(self._stream.encode(frame))
        except OSError as error:
            self._error = error

    def close(self) -> None:
        """Move the file into its place, unless it has no frame.

        Raises OSError, with a sentence, when it is not whole or cannot be moved; then an older file stays as it was.
        """
        try:
            if self.frames == 0:
                return
            self._encode(None)
            with named_errors(self.path):
                if self._error is not None:
                    raise self._error
                self._container.close()
                self._file.close()
                move(self._temporary, self.path, self._replace)
        finally:
            self._discard()

    def _discard(self) -> None:
        for end in (self._container.close, self._file.close, self._temporary.unlink):
            with contextlib.suppress(Exception):  # of a file that has failed already, or that is moved
                end()

    def __exit__(self, *error: object) -> None:
        self.close()
