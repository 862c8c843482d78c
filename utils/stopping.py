"""Ends that leave a run whole: Ctrl-C and SIGTERM ask it to stop, a second signal ends it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from utils.script import SIGNALS, Stopped, answer_signals, end_soon, say


class StopSignals:
    """While entered, the first signal is only noted in `asked`; the second ends the script.

    Outside the main thread, where Python allows no handlers, signals keep their meaning.
    """

    def __init__(self) -> None:
        self.asked = ""  # name of the signal that asked
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            answer_signals(self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
        answer_signals(end_soon())
        say(f"{self.asked}: what was begun is finished first; another signal ends it at once.")

    def end_if_asked(self) -> None:
        """Raise Stopped where a signal came before anything was begun."""
        if self.asked:
            raise Stopped(signal.Signals[self.asked])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
