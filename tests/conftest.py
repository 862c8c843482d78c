"""What all tests share: one thread, a fixed seed, the checkout's root and the folder of golden numbers."""

from __future__ import annotations

import os
import random
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # small tests gain nothing by more, and on a busy machine waiting threads cost much
cv2.setNumThreads(1)


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
