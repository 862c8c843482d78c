"""Runs of the scripts in forked children of one process that has imported everything: cheap, and tests can kill them.

A line of JSON on stdin is a task, a line on stdout its result. There is one thread only before a fork, because
others do not survive it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "name": "t", "model": "danet", "backbone": "resnet", "resnet_width": 4, "resnet_blocks": "1 1 1 1",
    "deconv_width": 8, "body_width": 4, "pretr_set": "none", "device": "cpu", "train_data": "synthetic",
    "batch_size": 2, "synthetic_size": 4, "num_workers": 0, "test_steps": 0, "vis_interval": 100, "summary_steps": 1,
}  # fmt: skip


def flags(*switches: str, **settings: Any) -> list[str]:
    """A command line of train.py for a tiny network on few people; `settings` win over `TINY`.

    The network has no parts: most of a tiny run is writing checkpoints, and that goes by the number of tensors.
    """
    given = {name: str(value).split() for name, value in (TINY | settings).items()}
    return [word for name, words in given.items() for word in (f"--{name}", *words)] + ["--no_decomposed", *switches]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Runner:
    """Starts the process; `run(...)` gives the exit code of a child (negative: the signal that ended it)."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, log: Path, args: list[str], **how: Any) -> int:
        """how: `kill_after` seconds; `signal`, sent when the file `when_exists` (a pattern) is there; `die` ("half"
        or "torn") in writing checkpoint number `die_at`; `processes` that share the work, as torchrun
        starts them; `script`, train by default."""
        if how.get("processes", 1) > 1:
            how["port"] = free_port()
        self.process.stdin.write(json.dumps({"log": str(log), "args": args, **how}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)


def die_while_writing(how: str, number: int) -> None:
    """SIGKILL in writing the `number`-th checkpoint: half of it is in the temporary file or, as on a disk that lost
    data, under the final name."""
    import torch

    save, replace, count = torch.save, os.replace, [0]

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def cut_save(content: Any, path: Path) -> None:
        save(content, path)
        count[0] += 1
        if count[0] == number:
            os.truncate(path, os.path.getsize(path) // 2)
            if how == "half":
                end()

    def cut_replace(source: Path, target: Path) -> None:
        replace(source, target)
        if count[0] == number and str(target).endswith(".pt"):
            end()

    torch.save, os.replace = cut_save, cut_replace


def child(task: dict[str, Any], rank: int) -> int:
    """What a forked process does; the exit code."""
    os.setpgid(0, 0)
    with open(task["log"], "a") as log:
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
    count = task.get("processes", 1)
    if count > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(task["port"])}
    if "die" in task:
        die_while_writing(task["die"], task["die_at"])
    if task["args"][0] == "gradients":
        from shared_step import write_gradients

        return write_gradients(Path(task["args"][1]))
    return importlib.import_module(task.get("script", "train")).main(task["args"])


def fork(work: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        except BaseException:  # the child must never go on as its parent
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    return pid


def do(task: dict[str, Any]) -> int:
    pids = [fork(lambda r=rank: child(task, r)) for rank in range(task.get("processes", 1))]
    if "kill_after" in task:
        time.sleep(task["kill_after"])
        os.kill(pids[0], signal.SIGKILL)  # it may be over: then it is a zombie, which does not mind
    if "when_exists" in task:
        folder, pattern = task["when_exists"]
        while not list(Path(folder).glob(pattern)):
            time.sleep(0.01)
        for pid in pids:
            os.killpg(pid, task["signal"])  # as a terminal or a job's end does: data workers get it, too
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return next((code for code in codes if code), 0)


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    sys.modules["openvino"] = None  # as in conftest.py
    import cv2
    import torch

    import train

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    train.SyntheticPeople(1)[0]  # compiled code and tables, for all children
    for line in sys.stdin:
        print(json.dumps(do(json.loads(line))), flush=True)
    os._exit(0)  # to take down all that was imported needs seconds


if __name__ == "__main__":
    main()
