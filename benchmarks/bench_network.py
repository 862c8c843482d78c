"""Speed and memory of the network in its fast forms, as ratios to torchvision's resnet50 (torch) in the same run.

python benchmarks/bench_network.py            # 2 threads, batch 1 and 8; with OpenVINO and bfloat16 where they are
python benchmarks/bench_network.py --memory   # peak resident memory of a fresh process at batch 8
python benchmarks/bench_network.py --onnx     # the network and its fast form against its ONNX file under onnxruntime
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from models import build_danet
from models.danet import PRESETS, preset
from models.inference.backends import Bfloat16Network
from models.inference.export_onnx import export_onnx
from models.inference.openvino_network import OpenVinoNetwork, converted
from utils.checkpoint import load_danet, save_checkpoint
from utils.packages import is_installed, onnx_session
from utils.runtime import has_bfloat16

TARGETS = {1: 4.8, 8: 5.6}  # for the default network; the 2020 code took 6.1 and 7.4
MEMORY_TARGET_GIB = 1.5


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.inference_mode()
def medians(runs: dict[str, Callable[[torch.Tensor], object]], batch: int, rounds: int) -> dict[str, float]:
    """Median seconds of each, measured alternately."""
    image = torch.randn(batch, 3, 224, 224)
    for run in runs.values():
        run(image)
    times = [[seconds(lambda run=run: run(image)) for run in runs.values()] for _ in range(rounds)]
    return dict(zip(runs, map(statistics.median, zip(*times, strict=True)), strict=True))


def forms(name: str) -> dict[str, Callable[[torch.Tensor], object]]:
    """The forms of a network of fresh weights that this machine has; torch in float32 first."""
    network = build_danet(preset(name)).eval().requires_grad_(False)
    found = {"torch": deepcopy(network).prepare_for_inference()}
    model = converted(network) if is_installed("openvino") else None
    if model is not None:
        found["openvino"] = OpenVinoNetwork(model)
    if has_bfloat16(torch.device("cpu")):
        found["torch bf16"] = Bfloat16Network(network)
        found |= {} if model is None else {"openvino bf16": OpenVinoNetwork(model, "bf16")}
    return found


def compare(names: list[str], rounds: int) -> None:
    from torchvision.models import resnet50

    for name in names:
        runs = {"resnet50": resnet50(weights=None).eval(), **forms(name)}
        for batch, target in TARGETS.items():
            found = medians(runs, batch, rounds)
            reference, torch_seconds = found.pop("resnet50"), found["torch"]
            print(f"{name} batch {batch}: resnet50 {reference:.3f} s")
            for form, ours in found.items():
                goal = f"  (at most {target})" if name == "danet" and form == "torch" else ""
                print(
                    f"  {form:13} {ours:.3f} s, ratio to resnet50 {ours / reference:.2f}, speed "
                    f"{torch_seconds / ours:.2f} times torch's{goal}"
                )


def compare_onnx(names: list[str], rounds: int) -> None:
    for name in names:
        network = build_danet(preset(name)).eval()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            export_onnx(network, path, meta={})
            session = onnx_session(path, torch.get_num_threads())
        fast = deepcopy(network).prepare_for_inference()

        def exported(image: torch.Tensor, session=session) -> object:
            return session.run(None, {"image": image.numpy()})

        for batch in TARGETS:
            found = medians({"plain": network, "fast form": fast, "onnxruntime": exported}, batch, rounds)
            print(f"{name} batch {batch}: " + ", ".join(f"{form} {ours:.3f} s" for form, ours in found.items()))


@torch.inference_mode()
def peak_memory(name: str, checkpoint: Path) -> None:
    """Load weights, run one batch of 8 in this process and print its peak resident memory."""
    model = build_danet(preset(name))
    load_danet(model, checkpoint)
    model.prepare_for_inference()(torch.randn(8, 3, 224, 224))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name} batch 8: peak resident memory {peak:.2f} GiB  (at most {MEMORY_TARGET_GIB})")


def memory_of_fresh_process(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "weights.pt"
        save_checkpoint(checkpoint, {"model": build_danet(preset(name)).state_dict()})
        command = [sys.executable, __file__, "--memory", "--model", name, "--checkpoint", str(checkpoint)]
        subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=tuple(PRESETS), nargs="+", default=list(PRESETS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--memory", action="store_true", help="measure memory in fresh processes instead of speed"
    )
    parser.add_argument("--onnx", action="store_true", help="compare with onnxruntime instead of resnet50")
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.checkpoint:
        peak_memory(args.model[0], args.checkpoint)
    elif args.memory:
        for name in args.model:
            memory_of_fresh_process(name)
    elif args.onnx:
        compare_onnx(args.model, args.rounds)
    else:
        compare(args.model, args.rounds)


if __name__ == "__main__":
    main()
