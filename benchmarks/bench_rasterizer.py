"""Speed of the IUV renderer, compared with a ResNet-50 forward on the same machine in the same run.

    python benchmarks/bench_rasterizer.py

Renders 16 bodies in different poses at 56 x 56 (vertices and cameras in, IUV images out) on one thread with
the numba and the torch back-end; runs torchvision's ResNet-50 (fp32, evaluation, batch 1) on two threads.
Short blocks of the three take turns, so that other work on the machine meets all of them alike; medians are
compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.body import (  # noqa: E402
    body_tensors,
    load_open_atlas,  # noqa: E402
    load_open_body,
    skin,
)
from utils.geometry import batch_rodrigues  # noqa: E402
from utils.io import load_npz  # noqa: E402
from utils.renderer import IUV_Renderer  # noqa: E402
from utils.skeleton import SMPL_PARENTS  # noqa: E402

NUM_BODIES = 16
BLOCK, WARM_UP = 10, 3
TARGET_TORCH, TARGET_RESNET = 1 / 5, 0.09


def bodies() -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices [16, V, 3] in camera axes and cameras [16, 3]: poses spread over the shipped motion clips."""
    rotvec = load_npz(ROOT / "data" / "open" / "motions.npz")["rotvec"]
    chosen = torch.from_numpy(rotvec[np.linspace(0, len(rotvec) - 1, NUM_BODIES).astype(int)])
    rotmat = batch_rodrigues(chosen.reshape(-1, 3)).view(-1, 24, 3, 3)
    rotmat[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ rotmat[:, 0]
    vertices = skin(body_tensors(load_open_body()), SMPL_PARENTS, rotmat, torch.zeros(NUM_BODIES, 10))[0]
    vertices = vertices.transpose(1, 2).contiguous()
    low, high = vertices.amin(dim=1), vertices.amax(dim=1)
    scale = 1.8 / (high - low)[:, :2].amax(dim=1)
    return vertices, torch.cat([scale[:, None], -(low + high)[:, :2] / 2], dim=1)


def block(run: Callable[[], object], threads: int) -> list[float]:
    """Seconds of single calls, without the first ones of the block, which find cold caches."""
    torch.set_num_threads(threads)
    times = []
    for _ in range(WARM_UP + BLOCK):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help=f"blocks of {BLOCK} calls each (default: 5)")
    args = parser.parse_args()
    vertices, cam = bodies()
    numba, pytorch = (IUV_Renderer(atlas=load_open_atlas(), backend=name) for name in ("numba", "torch"))
    if not torch.equal(numba.verts2uvimg(vertices, cam), pytorch.verts2uvimg(vertices, cam)):
        raise SystemExit("The two back-ends differ; their times mean nothing.")
    resnet, image = torchvision.models.resnet50(weights=None).eval(), torch.rand(1, 3, 224, 224)
    contenders = {
        "numba, 1 thread, 16 bodies at 56x56": (lambda: numba.verts2uvimg(vertices, cam), 1),
        "torch, 1 thread, 16 bodies at 56x56": (lambda: pytorch.verts2uvimg(vertices, cam), 1),
        "ResNet-50 forward, 2 threads, batch 1": (lambda: resnet(image), 2),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.no_grad():
        for _ in range(args.rounds):
            for name, (run, threads) in contenders.items():
                times[name] += block(run, threads)
    medians = [float(np.median(t)) for t in times.values()]
    for name, median in zip(times, medians, strict=True):
        print(f"{name:40s} median {1e3 * median:7.2f} ms   fastest {1e3 * min(times[name]):7.2f} ms")
    for name, ratio, target in (
        ("numba / torch", medians[0] / medians[1], TARGET_TORCH),
        ("numba / ResNet-50", medians[0] / medians[2], TARGET_RESNET),
    ):
        print(
            f"{name:20s} {ratio:.3f}   target at most {target:.2f}   {'met' if ratio <= target else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
