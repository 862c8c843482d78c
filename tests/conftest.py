"""What all tests share: one thread, a fixed seed, the checkout's root and the folder of golden numbers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest
import torch
from no_network import CAN_FORBID

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
SCRIPTS_WITHOUT_NETWORK = pytest.StashKey[subprocess.Popen]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what `test_no_network.py` waits for: it sleeps most of its time, while other tests run."""
    if CAN_FORBID and any(item.path.name == "test_no_network.py" for item in session.items):
        folder = Path(session.config._tmp_path_factory.mktemp("no_network"))
        (folder / "home").mkdir()
        environment = {**os.environ, "HOME": str(folder / "home")}
        for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
            environment.pop(name, None)
        session.config.stash[SCRIPTS_WITHOUT_NETWORK] = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "no_network.py"), str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )  # fmt: skip


def pytest_sessionfinish(session: pytest.Session) -> None:
    if process := session.config.stash.get(SCRIPTS_WITHOUT_NETWORK, None):
        process.kill()
        process.wait()


@pytest.fixture
def scripts_without_network(request: pytest.FixtureRequest) -> subprocess.Popen:
    """The process of `no_network.py`, started with the session."""
    return request.config.stash[SCRIPTS_WITHOUT_NETWORK]
