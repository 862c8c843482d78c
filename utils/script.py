"""How every script starts and ends: signals, packages that do not import, too little memory, faults of our own.

    from utils.script import run_script, start_script

    if __name__ == "__main__":
        start_script()  # first: the imports below take seconds and may fail

    import torch
    ...
    if __name__ == "__main__":
        run_script(main)

Exit codes are main's own; 129, 130, 143 where SIGHUP, SIGINT (Ctrl-C), SIGTERM ended it; 1 for all else that goes
wrong. Only the standard library is imported here: nothing is answered before this module is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
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
    """Install handlers so that a script ends with a line on stderr and an exit code; call before other imports."""
    keep_streams()
    set_handlers(exit_now)  # nothing is begun, and packages in their import may swallow exceptions
    sys.excepthook = _report_import_error


def run_script(main, on_stop: str = "") -> None:
    """Call `main()` and exit with the code that it returns.

    Args:
        main: returns an exit code, or None for 0.
        on_stop: what becomes of the work so far when a signal stops it, for the line on stderr.
    """
    received = []

    def stop(number, frame):
        received.append(number)
        set_handlers(exit_when_repeated())
        raise Stopped(number)

    sys.excepthook = _report_fault
    set_handlers(stop)
    try:
        code = main() or 0
    except Exception as error:
        if not (received or _is_out_of_memory(error)):
            raise
        code = 1
        if not received:
            say(f"The memory does not suffice ({first_line(error)}): give fewer or smaller things at a time.")
    except Stopped:
        pass
    finally:
        set_handlers(exit_now)
    if received:  # also where another exception came of it, or other code swallowed it
        say(f"stopped by {signal.Signals(received[0]).name}{f'; {on_stop}' if on_stop else '.'}")
        code = 128 + received[0]
    sys.exit(code)


def say(text: str) -> None:
    """Write a line to stderr, with the script's name; safe in a signal handler."""
    spec = sys.modules["__main__"].__spec__
    name = f"python -m {spec.name.removesuffix('.__main__')}" if spec else os.path.basename(sys.argv[0])
    lead = "\n" if os.isatty(2) else ""  # a progress bar may stand there
    write(2, f"{lead}{name}: {text}\n".encode(errors="backslashreplace"))


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type's name without one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---------------------------------------------------------------------------------------------------- signals


def set_handlers(handler) -> None:
    """Set the handler of all `SIGNALS`; under nohup SIGHUP stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, handler)


def exit_now(number, frame) -> None:
    """Signal handler that writes a line and ends the process."""
    say(f"ended by {signal.Signals(number).name}.")
    os._exit(128 + number)


def exit_when_repeated():
    """A handler for the signals after one that came just now: they end the script at once."""
    first = time.monotonic()

    def end(number, frame):
        if time.monotonic() - first > SAME_ENDING:
            exit_now(number, frame)

    return end


class StopSignals:
    """Context in which the first signal is only noted in `asked`, so that a run can end whole; the second one ends it.

    Outside the main thread, where Python allows no handlers, signals keep their meaning.
    """

    def __init__(self) -> None:
        self.asked = ""  # name of the signal
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            set_handlers(self._note)
        return self

    def _note(self, number, frame) -> None:
        self.asked = signal.Signals(number).name
        set_handlers(exit_when_repeated())
        say(f"{self.asked}: what was begun is finished first; another signal ends it at once.")

    def end_if_asked(self) -> None:
        """Raise Stopped where a signal came before anything was begun."""
        if self.asked:
            raise Stopped(signal.Signals[self.asked])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


# ------------------------------------------------------------------------------------------------- exceptions


def package_sentence(error: BaseException) -> str | None:
    """Sentence on which package does not import and how to install it; None for exceptions of other kinds."""
    names = [error.name] if isinstance(error, ImportError) else []
    if isinstance(error, AttributeError):  # too old a version lacks what we ask for
        names.append(getattr(error.obj, "__name__", None))
    modules, trace = [], error.__traceback__
    while trace:
        modules.append(trace.tb_frame.f_globals.get("__name__"))
        trace = trace.tb_next
    tops = [name.split(".")[0] for name in (*names, *reversed(modules)) if isinstance(name, str)]
    known = {*OURS, *sys.stdlib_module_names}
    top = next((name for name in tops if name not in known), None)
    if top is None:
        return None
    package = DISTRIBUTIONS.get(top, top)
    if isinstance(error, ModuleNotFoundError) and error.name == top:
        return f"The package {package} is needed and not installed: pip install -r requirements.txt."
    what = f"{type(error).__name__}: {first_line(error)}"
    return f"The package {package} does not work here ({what}): pip install --force-reinstall {package}."


def _report_import_error(kind, error, trace) -> None:
    sentence = package_sentence(error)
    if sentence is None:
        _report_fault(kind, error, trace)
        return
    from utils.command_line import DOCTOR

    say(f"{sentence}\n{DOCTOR}")


def _report_fault(kind, error, trace) -> None:
    sys.__excepthook__(kind, error, trace)
    say("this is a fault of the program, not of what it was given; please report the lines above.")


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: Python's, that of a GPU, or that of torch's tensors, which has no class of its own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
