"""A tiny network of random weights for the demo's tests, and the flags that select it."""

from __future__ import annotations

from pathlib import Path

import torch

from models import DaNetConfig, build_danet
from utils.checkpoint import export_safetensors

TINY = {
    "backbone": "resnet", "resnet_width": 8, "resnet_blocks": (1, 1, 1, 1), "deconv_width": 16, "body_width": 8,
    "limb_width": 8, "features": 16, "gcn_hidden": 16,
}  # fmt: skip
NETWORK = ["--model", "danet"]
for key, value in TINY.items():
    NETWORK += [f"--{key}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
FLAGS = [*NETWORK, "--body", "open", "--device", "cpu"]


def write_weights(folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    export_safetensors(path, build_danet(DaNetConfig(**TINY)).state_dict(), {}, half=False)
    return path
