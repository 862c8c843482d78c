"""What `--densepose` costs: maps of an image with four people, and the frames a second of a video with one.

    python benchmarks/bench_densepose.py

Of a 1280 x 720 image with four people, scores are taken out, maps composed and written (`iuv-rgb`), for both sources;
the measure is the network's forward of the four. A 1280 x 720 video is followed, drawn and encoded with and without
`--densepose magicanimate`. Runs alternate, medians of ratios are printed.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from datasets.people.detector import MoveNet
from datasets.people.video import VideoFrames
from datasets.people.video_people import VideoPeople
from datasets.transforms import box_to_center_scale, crop_image
from models import InferenceConfig, Predictor, load_predictor
from models.inference.dense_files import SOURCES, DenseFiles, DensePerson
from models.inference.dense_video import DenseVideo
from models.inference.video_files import VideoFiles
from models.inference.video_run import VideoRun
from utils.images import network_input
from utils.io.video import VideoFile
from utils.iuvmap import dense_scores
from utils.renderer.dense_map import SeenPerson
from utils.renderer.people import full_camera
from utils.script import StopSignals

MOST_OF_NETWORK, LEAST_OF_FPS = 0.5, 0.8
SIZE, PEOPLE, SIDE = (1280, 720), 4, 600
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def image_of_people(count: int, shift: int = 0) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """RGB image and boxes of rendered people side by side, before a grey wall."""
    image, boxes = np.full((*SIZE[::-1], 3), 128, np.uint8), []
    for number in range(count):
        with Image.open(EXAMPLES / f"rendered_{number % 4 + 1}.jpg") as person:
            pixels = np.asarray(person.convert("RGB").resize((SIDE, SIDE)))
        left, top = number * (SIZE[0] - SIDE) // max(1, count - 1) + shift, 60
        image[top : top + SIDE, left : left + SIDE] = pixels[:, : SIZE[0] - left]
        boxes.append((left, top, SIDE, SIDE))
    return image, boxes


class FourPeople:
    """An image with four people, predicted, whose maps are made again and again."""

    def __init__(self, predictor: Predictor):
        image, self.boxes = image_of_people(PEOPLE)
        self.predictor, self.places = predictor, [box_to_center_scale(box, 1.0) for box in self.boxes]
        crops = [crop_image(image, *place) for place in self.places]
        self.input, self.arrays = network_input(crops), predictor.predict(crops)
        with torch.inference_mode():
            self.maps = predictor.network(self.input).iuv.iuv

    @torch.inference_mode()
    def forward(self) -> None:
        self.predictor.network(self.input)

    def write(self, files: DenseFiles) -> None:
        all_scores = dense_scores(self.maps).numpy() if files.needs_scores else [None] * PEOPLE
        people = []
        for arrays, scores, box, (center, scale) in zip(
            self.arrays, all_scores, self.boxes, self.places, strict=True
        ):
            camera = full_camera(torch.from_numpy(arrays["cam"]), center, scale, SIZE)
            seen = None if scores is None else SeenPerson(scores, center, scale, box, float(camera.cam_t[2]))
            people.append(DensePerson(arrays["vertices"], camera, seen))
        files.write("four.png", "four", SIZE, people)


def seconds(call, *args) -> float:
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def compare_image(predictor: Predictor, folder: Path, rounds: int) -> None:
    """Print the time of maps as a share of the network's."""
    four = FourPeople(predictor)
    files = [DenseFiles(folder, ["iuv-rgb"], name, predictor.assets.atlas, overwrite=True) for name in SOURCES]
    calls = [(four.forward,), *((four.write, each) for each in files)]
    times = [[seconds(*call) for call in calls] for _ in range(rounds + 1)][1:]  # the first round warms up
    network = statistics.median(row[0] for row in times)
    for number, name in enumerate(SOURCES, 1):
        median = statistics.median(row[number] for row in times)
        ratio = statistics.median(row[number] / row[0] for row in times)
        print(
            f"maps of four people, --dense_source {name}: {1e3 * median:.0f} ms, network {1e3 * network:.0f} ms, ratio "
            f"{ratio:.2f}  (at most {MOST_OF_NETWORK})"
        )


def write_clip(path: Path, frames: int) -> None:
    """A person who moves to the right."""
    with VideoFile(path, SIZE, 25.0) as video:
        for number in range(frames):
            video.write(image_of_people(1, shift=4 * number)[0])


def frames_a_second(predictor: Predictor, clip: Path, out: Path, presets: list[str], source: str) -> float:
    """Of the whole run over a video, without loading the network."""
    frames, stop = VideoFrames(str(clip)), StopSignals()
    files = VideoFiles(out, frames.stem, predictor.assets, overwrite=True)
    maps = DenseFiles(out, presets, source, predictor.assets.atlas, overwrite=True)
    dense = DenseVideo(maps, frames.name, frames.stem) if presets else None
    people = VideoPeople(frames, MoveNet().detect, smooth=True)
    with VideoRun(frames, people, predictor, files, 8, True, None, stop, dense=dense) as run:
        for frame in run.read_ahead():
            run.add(frame)
        run.finish()
        return run.fps


def compare_video(predictor: Predictor, folder: Path, rounds: int, frames: int) -> None:
    """Print the frames a second with maps as a share of those without."""
    clip = folder / "clip.mp4"
    write_clip(clip, frames)
    ways = {"without": ([], "map"), **{f"with {name}": (["magicanimate"], name) for name in SOURCES}}
    rates = []
    for _ in range(rounds + 1):
        rates.append([frames_a_second(predictor, clip, folder, *way) for way in ways.values()])
    for number, name in enumerate(SOURCES, 1):
        without, with_maps = (statistics.median(row[i] for row in rates[1:]) for i in (0, number))
        ratio = statistics.median(row[number] / row[0] for row in rates[1:])
        print(
            f"720p video of one person, --densepose magicanimate --dense_source {name}: {with_maps:.1f} frames/s, "
            f"without {without:.1f}, ratio {ratio:.2f}  (at least {LEAST_OF_FPS})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="of the image")
    parser.add_argument("--video_rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    logging.disable(logging.INFO)
    predictor = load_predictor(InferenceConfig(body="open", device="cpu"))
    with tempfile.TemporaryDirectory() as folder:
        compare_image(predictor, Path(folder), args.rounds)
        compare_video(predictor, Path(folder), args.video_rounds, args.frames)


if __name__ == "__main__":
    main()
