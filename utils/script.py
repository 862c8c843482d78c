"""How every script starts and ends: signals, packages that do not import, too little memory, faults of our own.

    from utils.script import run_script, start_script

    if __name__ == "__main__":
        start_script()  # first: the imports below take seconds and may fail

    import torch
    ...
    if __name__ == "__main__":
        run_script(main)

Exit codes are main's own; 129, 130, 143 where SIGHUP, SIGINT (Ctrl-C), SIGTERM ended it; 1 for all else that goes
wrong. Little but `os` and `signal` is imported here: nothing can be answered before this has come.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from utils.streams import keep_streams, write

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAME_ENDING = 1.0  # seconds; torchrun hands on what a terminal has sent to all: that is no second signal
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "yaml": "PyYAML", "PIL": "Pillow"}  # where names differ
OURS = ("__main__", "utils", "models", "datasets")


class Stopped(KeyboardInterrupt):
    """A signal asked the script to end; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def start_script() -> None:
    """From here on every ending is a line on stderr and an exit code. For scripts, before their other imports."""
    keep_streams()
    answer_signals(end_at_once)  # nothing is begun, and packages in their import may swallow exceptions
    sys.excepthook = _answer_import


def run_script(main, kept="") -> None:
    """End with the exit code that `main()` returns; `kept` tells who stops it what becomes of the work so far."""
    asked = []

    def stop(number, frame):
        asked.append(number)
        answer_signals(end_soon())
        raise Stopped(number)

    sys.excepthook = _answer_fault
    answer_signals(stop)
    try:
        code = main() or 0
    except Exception as error:
        if not (asked or _is_of_memory(error)):
            raise
        code = 1
        if not asked:
            say(f"The memory does not suffice ({first_line(error)}): give fewer or smaller things at a time.")
    except Stopped:
        pass
    finally:
        answer_signals(end_at_once)
    if asked:  # also where another exception came of it, or somebody else's code swallowed it
        say(f"stopped by {signal.Signals(asked[0]).name}{f'; {kept}' if kept else '.'}")
        code = 128 + asked[0]
    sys.exit(code)


def say(text: str) -> None:
    """Write a line to stderr, with the script's name; may be called in a signal handler."""
    lead = "\n" if os.isatty(2) else ""  # a progress bar may stand there
    write(2, f"{lead}{_name()}: {text}\n".encode(errors="backslashreplace"))


def _name() -> str:
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else os.path.basename(sys.argv[0])


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---------------------------------------------------------------------------------------------------- signals


def answer_signals(handler) -> None:
    """Set the handler of all `SIGNALS`; under nohup SIGHUP stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, handler)


def end_at_once(number, frame) -> None:
    """A handler: a line and the end."""
    say(f"ended by {signal.Signals(number).name}.")
    os._exit(128 + number)


def end_soon():
    """A handler for the signals after the first, which came just now: they end at once."""
    first = time.monotonic()

    def end(number, frame):
        if time.monotonic() - first > SAME_ENDING:
            end_at_once(number, frame)

    return end


# ------------------------------------------------------------------------------------------------- exceptions


def package_sentence(error: BaseException) -> str | None:
    """Which package does not import and how to install it; None when the exception is no package's."""
    names = [error.name] if isinstance(error, ImportError) else []
    if isinstance(error, AttributeError):  # too old a version lacks what we ask for
        names.append(getattr(error.obj, "__name__", None))
    trace = error.__traceback__
    frames = []
    while trace:
        frames.append(trace.tb_frame.f_globals.get("__name__"))
        trace = trace.tb_next
    tops = [name.split(".")[0] for name in (*names, *reversed(frames)) if isinstance(name, str)]
    known = {*OURS, *sys.stdlib_module_names}
    top = next((name for name in tops if name not in known), None)
    if top is None:
        return None
    package = DISTRIBUTIONS.get(top, top)
    if isinstance(error, ModuleNotFoundError) and error.name == top:
        return f"The package {package} is needed and not installed: pip install -r requirements.txt."
    what = f"{type(error).__name__}: {first_line(error)}"
    return f"The package {package} does not work here ({what}): pip install --force-reinstall {package}."


def _answer_import(kind, error, trace) -> None:
    sentence = package_sentence(error)
    if sentence is None:
        _answer_fault(kind, error, trace)
        return
    from utils.command_line import DOCTOR

    say(f"{sentence}\n{DOCTOR}")


def _answer_fault(kind, error, trace) -> None:
    sys.__excepthook__(kind, error, trace)
    say("this is a fault of the program, not of what it was given; please report the lines above.")


def _is_of_memory(error: Exception) -> bool:
    """Whether memory ran out: Python's, that of a GPU, or that of torch's tensors, which has no class of its own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
