"""A 1280 x 720 video of two people through the demo, as a share of detector and network alone in the same process.

    python benchmarks/bench_video.py            # detector in each and in each 5th frame, the shipped weights

Decoding, tracking, refinement, drawing, encoding and files are all in the demo's time. The others' time is that of the
detector on the frames that it looks at and of the network's forward of all people in batches of eight, one after the
other. Both alternate; medians are printed, also of processor time, which other programs disturb less, and how far the
boxes between two searched frames are from detected ones.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from datasets.people.detector import MoveNet, box_iou
from datasets.people.video import VideoFrames
from datasets.people.video_people import VideoPeople, grouped
from models import InferenceConfig, Predictor, load_predictor
from models.inference.video_files import VideoFiles
from models.inference.video_run import VideoRun
from utils.io.video import VideoFile
from utils.people import Frame
from utils.script import StopSignals

TARGET = 0.6
SIZE, SIDE, PEOPLE, FPS, BATCH = (1280, 720), 560, 2, 30.0, 8
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def write_clip(path: Path, frames: int) -> None:
    """Two rendered people before a grey wall, who move towards each other."""
    crops = [Image.open(EXAMPLES / f"rendered_{number}.jpg").convert("RGB") for number in (1, 2)]
    crops = [np.asarray(crop.resize((SIDE, SIDE))) for crop in crops]
    with VideoFile(path, SIZE, FPS) as video:
        for number in range(frames):
            image = np.full((*SIZE[::-1], 3), 128, np.uint8)
            for crop, left in zip(crops, (40 + number, SIZE[0] - SIDE - 40 - number), strict=True):
                image[100 : 100 + SIDE, left : left + SIDE] = crop
            video.write(image)


@torch.inference_mode()
def alone(detector: MoveNet, network: torch.nn.Module, frames: list[Frame], stride: int) -> None:
    """Detector and network."""
    images = torch.randn(BATCH, 3, 224, 224)
    for group in grouped(frames, stride):
        detector.detect(group[-1].pixels)
    for done in range(0, PEOPLE * len(frames), BATCH):
        network(images[: PEOPLE * len(frames) - done])


def whole_demo(detector: MoveNet, predictor: Predictor, clip: Path, out: Path, stride: int) -> None:
    """The run over a video, without loading the network."""
    frames = VideoFrames(str(clip))
    files = VideoFiles(out, frames.stem, predictor.assets, overwrite=True)
    people = VideoPeople(frames, detector.detect, True, stride)
    with VideoRun(frames, people, predictor, files, BATCH, True, None, StopSignals()) as run:
        for frame in run.read_ahead():
            run.add(frame)
        outcomes = run.finish()
    assert len(outcomes) == PEOPLE and set(files.tracks.values()) == {frames.count}, outcomes


def seconds(call: Callable[..., None], *args: Any) -> np.ndarray:
    """Wall-clock and processor time of a call, [2]."""
    start = np.array([time.perf_counter(), time.process_time()])
    call(*args)
    return np.array([time.perf_counter(), time.process_time()]) - start


def overlap(detector: MoveNet, frames: list[Frame], stride: int) -> float:
    """Mean IoU of the boxes in frames that are not searched with those of a detector that looks."""
    sparse, dense = (list(VideoPeople(frames, detector.detect, False, each)) for each in (stride, 1))
    found = [
        box_iou(one.detection.box, two.detection.box)
        for first, second in zip(sparse, dense, strict=True)
        for one, two in zip(first.people, second.people, strict=True)
        if np.isnan(one.detection.score)
    ]
    return float(np.mean(found)) if found else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=int, default=41)
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    logging.disable(logging.INFO)
    detector, predictor = MoveNet(), load_predictor(InferenceConfig(body="open", device="cpu"))
    with tempfile.TemporaryDirectory() as temporary:
        clip = Path(temporary) / "two.mp4"
        write_clip(clip, args.frames)
        frames = list(VideoFrames(str(clip)))
        for stride in args.strides:
            pairs = []
            for _ in range(args.rounds + 1):
                part = seconds(alone, detector, predictor.network, frames, stride)
                pairs.append((part, seconds(whole_demo, detector, predictor, clip, Path(temporary) / "out", stride)))
            parts, wholes = (np.array(times) for times in zip(*pairs[1:], strict=True))  # the first round warms up
            ratio, of_processor = np.median(parts / wholes, axis=0)
            fast, slow = (len(frames) / np.median(times[:, 0]) for times in (parts, wholes))
            print(
                f"detector in each {stride}. frame, {torch.get_num_threads()} threads: detector and network alone "
                f"{fast:.2f} frames/s, demo {slow:.2f}, ratio {ratio:.2f}  (at least {TARGET}), of processor time "
                f"{of_processor:.2f}; IoU of boxes between {overlap(detector, frames, stride):.3f}"
            )


if __name__ == "__main__":
    main()
