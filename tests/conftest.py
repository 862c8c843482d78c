"""What all tests share: one thread, a fixed seed, the checkout's root and the folder of golden numbers."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import crossing
import cv2
import numpy as np
import pytest
import torch
from tiny_demo import write_weights

from models import SMPL
from utils.body import BodyAssets, resolve_body

ROOT = Path(__file__).resolve().parent.parent

# `--backend auto` is torch: to make OpenVINO's form of every test's network would take minutes.
sys.modules.setdefault("openvino", None)

torch.set_num_threads(1)  # small tests gain nothing by more, and on a busy machine waiting threads cost much
cv2.setNumThreads(1)


# Files that take longest, the slowest first: begun early, they leave no process waiting for another at the end.
SLOW_FILES = (
    "test_processes", "test_eval", "test_network_goldens", "test_export_onnx", "test_train", "test_no_network",
    "test_demo", "test_backends", "test_variants", "test_train_labelled", "test_video_run", "test_doctor",
    "test_hostile_files", "test_app", "test_demo_densepose", "test_flat_memory", "test_danet", "test_person",
    "test_gallery", "test_torchvision_detector", "test_synthetic", "test_predictor", "test_hmr", "test_script",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first."""
    order = {name: number for number, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def root() -> Path:
    """Top folder of the checkout."""
    return ROOT


@pytest.fixture
def golden() -> Path:
    """Folder of the small golden files."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def assets() -> BodyAssets:
    """The open body and what belongs to it."""
    return resolve_body("open")


@pytest.fixture(scope="session")
def smpl(assets) -> SMPL:
    """The layer that poses the open body."""
    return SMPL(assets.body, assets.extra, assets.surface)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A file of random weights for the network of tiny_demo.py."""
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A video of two people who cross."""
    path = tmp_path_factory.mktemp("clip") / "two people.mp4"
    crossing.write_clip(path)
    return path


# ---------------------------------------------------------------------------------------------------- network

LOCAL = ("127.0.0.1", "::1", "localhost", "", None)


def _refuse_the_network(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if (host.decode() if isinstance(host, bytes) else host) not in LOCAL:
        raise AssertionError(f"A test asks the network for {host}.")


sys.addaudithook(_refuse_the_network)
