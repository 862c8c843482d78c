"""Start-up of every script: device, seed, logging, run folder."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.command_line import DOCTOR, NOTHING_DONE

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def choose_device(name: str = "auto", number: int | None = None) -> torch.device:
    """The device of a name. Raises ValueError for one that is absent.

    Args:
        name: "auto" takes CUDA when there is one, else the CPU.
        number: of the CUDA device where the name leaves it open.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and number:
        name = f"cuda:{number}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # refused below
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in present:
        raise ValueError(f"The device '{name}' is not known; give auto, cpu, cuda, cuda:N or mps.")
    if not present[device.type]:
        kind = device.type.upper()
        raise ValueError(f"No {kind} device is there for --device {name}; give --device cpu.")
    if (device.index or 0) >= present[device.type]:
        raise ValueError(
            f"--device {name} is not there; the highest is {device.type}:{present[device.type] - 1}."
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; others compute with it more slowly than with float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return device.type == "cpu" and any(asked() for asked in known if asked is not None)


@dataclass(frozen=True)
class Processes:
    """The processes that `torchrun` started this script in; a plain start is one."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those on this machine: the number of its GPU

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and writes results."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Return when every process has called this."""
        if self.count == 1:
            return
        if torch.distributed.get_backend() == "gloo":  # shares of an evaluation may differ by hours
            torch.distributed.monitored_barrier(timeout=timedelta(days=7))
        else:
            torch.distributed.barrier()

    def any(self, flag: bool) -> bool:
        """Whether the flag is True in any process; all must call this at the same point."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return bool(flags)

    def mean(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Means over the processes of scalars with the same names; all must call this at the same point."""
        if self.count == 1:
            return values
        stacked = torch.stack([value.detach().double().cpu() for value in values.values()])
        torch.distributed.all_reduce(stacked)
        return dict(zip(values, (stacked / self.count).float(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank; all must call this at the same point."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def share(self, text: str) -> str:
        """The first process's text."""
        if self.count == 1:
            return text
        texts = [text]
        torch.distributed.broadcast_object_list(texts)
        return texts[0]


@contextlib.contextmanager
def joined_processes(backend: str = "gloo") -> Iterator[Processes]:
    """The group of processes that `torchrun` describes in the environment, joined.

    backend: "gloo" needs no GPU; "cpu:gloo,cuda:nccl" also exchanges tensors on GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    torch.distributed.init_process_group(backend)
    try:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        yield Processes(torch.distributed.get_rank(), count, local)
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def shared_threads(count: int) -> Iterator[None]:
    """Context in which a torch operation takes 1 / `count` of the threads, so that `count` run at a time."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def setup_logging(log_file: Path | None = None, level: int = logging.INFO) -> None:
    """Log to stderr and, when given, to `log_file`, in one format; a second call replaces the first.

    `log_file` also gets what was logged since `keep_for_log_file`.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file is not None:
        file = logging.FileHandler(log_file, encoding="utf-8")
        file.setFormatter(logging.Formatter(LOG_FORMAT, "%H:%M:%S"))
        handlers.append(file)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, MemoryHandler):
                handler.setTarget(file)  # written as it is closed below
    logging.basicConfig(level=level, format=LOG_FORMAT, datefmt="%H:%M:%S", handlers=handlers, force=True)


def keep_for_log_file() -> None:
    """Keep what is logged from now on for the log file that the next `setup_logging` names."""
    logging.getLogger().addHandler(MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1))


def report_error(log: logging.Logger, error: Exception) -> int:
    """Log why a script does nothing, and the command that checks the installation; return its exit code."""
    log.error("%s", error)
    log.error(DOCTOR)
    return NOTHING_DONE


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next training step; elsewhere this does nothing.

    By default it returns large blocks to the kernel at once, and getting them back, page by page, costs a training
    step on the CPU up to a third of its time.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # from malloc.h
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


def make_run_folder(log_dir: str | Path, name: str, timestamp: str = "") -> Path:
    """The folder `<log_dir>/<name>/log_<timestamp>`, made, with its `checkpoints` and `tb_summary`.

    The timestamp defaults to now, as in Nov21-14-05-09, with a number behind it where another run started in the same
    second. Raises ValueError for a name that is no folder name.
    """
    stamp = timestamp or time.strftime("%b%d-%H-%M-%S")
    for text in (name, stamp):
        if not re.fullmatch(r"[\w.+-]+", text) or text.strip(".") == "":
            raise ValueError(f"'{text}' cannot name a run folder: use letters, digits and . _ + - only.")
    parent = Path(log_dir) / name
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"log_{stamp}"
    for number in range(2, 1000):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(exist_ok=bool(timestamp))
            break
        folder = parent / f"log_{stamp}-{number}"
    for part in ("checkpoints", "tb_summary"):
        (folder / part).mkdir(exist_ok=True)
    return folder
