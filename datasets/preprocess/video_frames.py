"""Frames of a video as JPEG files, for data sets that ship videos and are labelled by the frame."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2

from utils.io import DataFileError, atomic_write, require_free

JPEG_QUALITY = 95


def flag(where: str) -> Callable[[argparse.ArgumentParser], object]:
    """The flag --extract of a converter; `where` says what is read and written."""
    text = f"write the labelled frames as images: {where}"
    return lambda parser: parser.add_argument("--extract", action="store_true", help=text)


def extract(video: Path, wanted: Mapping[int, Path]) -> set[int]:
    """Write frames of a video as JPEG files where they are not there yet.

    Args:
        wanted: paths by frame number, from 0.

    Returns:
        The frames that are there now; those behind the video's end are missing.

    Raises:
        FileNotFoundError: there is no video.
        DataFileError: the file is no video.
    """
    done = {frame for frame, path in wanted.items() if path.is_file()}
    left = sorted(wanted.keys() - done)
    for frame in left:
        require_free(wanted[frame], False)
    if not left:
        return done
    if not video.is_file():
        raise FileNotFoundError(f"There is no video {video} to take frames from.")
    capture = cv2.VideoCapture(str(video))
    try:
        if not capture.isOpened():
            raise DataFileError(f"{video} is not a readable video. Fetch it again.")
        position = 0
        for frame in left:
            while position < frame and capture.grab():
                position += 1
            is_read, image = capture.read()
            if not is_read:
                break
            position += 1
            _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            with atomic_write(wanted[frame], replace=False) as file:
                file.write(encoded.tobytes())
            done.add(frame)
    finally:
        capture.release()
    return done
