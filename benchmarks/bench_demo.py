"""A folder of crops through the demo, as a share of the network's own throughput in the same process.

python benchmarks/bench_demo.py                           # 100 crops, batches of 8, the shipped weights, torch
python benchmarks/bench_demo.py --detector none           # other flags are the demo's: here crops are taken as they are
python benchmarks/bench_demo.py --backend openvino        # of both

Reading, decoding, finding people, refining, drawing, compressing and writing are all in the demo's time; the network's
is that of batches of the same size without anything around them. Both alternate, medians are printed, and the ratio of
the processor's time, which other programs on the machine change less.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

import demo
from models import Predictor, load_predictor
from models.inference.pipeline import Seconds
from utils.config import parse_config
from utils.script import StopSignals

TARGET = 0.8
CROP = 256  # px; side of the images
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def write_crops(folder: Path, count: int) -> None:
    """Square JPEG files, cut here and there out of the example images."""
    images = [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.jpg"))]
    for number in range(count):
        source = images[number % len(images)]
        side = min(source.size) - number % 17
        crop = source.crop((number % 5, number % 3, side + number % 5, side + number % 3))
        crop.resize((CROP, CROP)).save(folder / f"{number:04d}.jpg", quality=92)


def clocks() -> np.ndarray:
    """Seconds of the clock on the wall, and of the processor in this process."""
    return np.array([time.perf_counter(), time.process_time()])


@torch.inference_mode()
def network_alone(predictor: Predictor, count: int, batch_size: int) -> np.ndarray:
    """Seconds, as of `clocks`."""
    image = torch.randn(batch_size, 3, 224, 224)
    start = clocks()
    for done in range(0, count, batch_size):
        predictor.network(image[: count - done])
    return clocks() - start


def whole_demo(config: demo.DemoConfig, predictor: Predictor, count: int) -> np.ndarray:
    """Seconds, as of `clocks`."""
    people = demo.find_people(config)
    start = clocks()
    with demo.image_run(config, predictor, people.stems, Seconds()) as run:
        for crop in run.read_ahead(people, people.paths, StopSignals()):
            run.add(crop)
        outcomes = run.finish()
    assert len(outcomes) == count and all(outcome.stem for outcome in outcomes), outcomes
    return clocks() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args, flags = parser.parse_known_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as temporary:
        crops, out = Path(temporary) / "crops", Path(temporary) / "out"
        crops.mkdir()
        write_crops(crops, args.count)
        given = ["--img_dir", str(crops), "--out_dir", str(out), "--body", "open", "--overwrite", "--device", "cpu"]
        flags = flags if "--backend" in flags else [*flags, "--backend", "torch"]
        config = parse_config(demo.DemoConfig, [*given, *flags, "--batch_size", str(args.batch_size)])
        predictor = load_predictor(config)
        alone, whole = [], []
        for _ in range(args.rounds + 1):
            alone.append(network_alone(predictor, args.count, args.batch_size))
            whole.append(whole_demo(config, predictor, args.count))
        alone, whole = np.stack(alone)[1:], np.stack(whole)[1:]  # the first round warms up
        ratio, of_processor = np.median(alone / whole, axis=0)
        speeds = args.count / np.median([alone[:, 0], whole[:, 0]], axis=1)
        print(
            f"{args.count} crops, batch {args.batch_size}, {torch.get_num_threads()} threads: network alone "
            f"{speeds[0]:.1f} people/s, demo {speeds[1]:.1f}, ratio {ratio:.2f}  (at least {TARGET}); of the "
            f"processor's time {of_processor:.2f}"
        )


if __name__ == "__main__":
    main()
