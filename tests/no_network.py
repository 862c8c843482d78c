"""A process that dies when any code in it, compiled code too, opens a socket that leaves the machine.

    python tests/no_network.py FOLDER

runs scripts of ours, which write to the folder, under the kernel's own filter of system calls. onnxruntime, unless
asked not to, looks up a host of its maker nine seconds after its import, in a thread that Python does not see; openvino
sends word of its import.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOCKET = {"x86_64": (41, 0xC000003E), "aarch64": (198, 0xC00000B7)}  # number of the call, the machine's audit code
FORBIDDEN = (2, 10)  # AF_INET, AF_INET6
PAGE = "page.txt"  # the doctor's, in the folder
PATIENCE = 12.0  # seconds after the import of onnxruntime
CAN_FORBID = sys.platform == "linux" and platform.machine() in SOCKET


def forbid_sockets() -> None:
    """From now on socket(AF_INET or AF_INET6) ends this process and its children with SIGSYS."""
    number, machine = SOCKET[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06  # BPF: word of the call's record; compare and jump; verdict
    allow, kill = 0x7FFF0000, 0x80000000
    program = [
        (load, 0, 0, 4), (equal, 0, 5, machine), (load, 0, 0, 0), (equal, 0, 3, number),
        (load, 0, 0, 16), (equal, 2, 0, FORBIDDEN[0]), (equal, 1, 0, FORBIDDEN[1]), (give, 0, 0, allow),
        (give, 0, 0, kill),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_filter, mode_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_filter, mode_filter, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def run_scripts(out: Path) -> None:
    """What asks packages for most: the doctor, which imports them all and runs the demo; training data; all scripts."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sys.modules["gradio"] = None  # takes seconds to import
    from datasets.people.detector import load_session
    from datasets.synthetic.__main__ import main as render_people
    from utils.doctor.__main__ import main as examine

    load_session()
    imported = time.monotonic()
    with open(out / PAGE, "w") as page, contextlib.redirect_stdout(page):
        assert examine(["--data_dir", str(out)]) == 0
    assert render_people(["--preview", str(out / "sheet.jpg"), "--count", "1"]) == 0
    import eval
    import eval_coco
    import train
    from models.inference import export_onnx

    assert all(callable(script.main) for script in (eval, eval_coco, train, export_onnx))
    time.sleep(max(0.0, PATIENCE - (time.monotonic() - imported)))


if __name__ == "__main__":
    if CAN_FORBID:
        forbid_sockets()
    sys.path.insert(0, str(ROOT))
    run_scripts(Path(sys.argv[1]))
