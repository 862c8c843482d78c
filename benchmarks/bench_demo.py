"""A folder of crops through the demo, as a share of the network's own throughput in the same process.

python benchmarks/bench_demo.py            # 100 crops, batches of 8, the shipped weights

Reading, decoding, drawing, compressing and writing are all in the demo's time; the network's is that of batches
of the same size without anything around them. Both alternate, medians are printed.
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

import torch
from PIL import Image

import demo
from models import Predictor, load_predictor
from models.inference.pipeline import Seconds
from utils.config import parse_config
from utils.script import StopSignals

TARGET = 0.7
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


@torch.inference_mode()
def network_alone(network: torch.nn.Module, count: int, batch_size: int) -> float:
    """People a second."""
    image = torch.randn(batch_size, 3, 224, 224)
    start = time.perf_counter()
    for done in range(0, count, batch_size):
        network(image[: count - done])
    return count / (time.perf_counter() - start)


def whole_demo(config: demo.DemoConfig, predictor: Predictor, count: int) -> float:
    """People a second."""
    people = demo.find_people(config)
    start = time.perf_counter()
    with demo.image_run(config, predictor, people.stems, Seconds()) as run:
        for crop in run.read_ahead(people, people.paths, StopSignals()):
            run.add(crop)
        outcomes = run.finish()
    assert len(outcomes) == count and all(outcome.stem for outcome in outcomes), outcomes
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as temporary:
        crops, out = Path(temporary) / "crops", Path(temporary) / "out"
        crops.mkdir()
        write_crops(crops, args.count)
        flags = [
            "--img_dir",
            str(crops),
            "--out_dir",
            str(out),
            "--body",
            "open",
            "--overwrite",
            "--device",
            "cpu",
        ]
        config = parse_config(demo.DemoConfig, [*flags, "--batch_size", str(args.batch_size)])
        predictor = load_predictor(config)
        alone, whole = [], []
        for number in range(args.rounds + 1):
            pair = (
                network_alone(predictor.network, args.count, args.batch_size),
                whole_demo(config, predictor, args.count),
            )
            if number:  # the first round warms up
                alone.append(pair[0]), whole.append(pair[1])
        ratio = statistics.median(w / a for a, w in zip(alone, whole, strict=True))
        print(
            f"{args.count} crops, batch {args.batch_size}, {torch.get_num_threads()} threads: network alone "
            f"{statistics.median(alone):.1f} people/s, demo {statistics.median(whole):.1f}, ratio {ratio:.2f}  "
            f"(at least {TARGET})"
        )


if __name__ == "__main__":
    main()
