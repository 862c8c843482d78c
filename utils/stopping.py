"""Ends that leave a run whole: Ctrl-C and SIGTERM ask it to stop, a second signal ends it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignals:
    """While entered, the first signal is only noted in `asked`; the second does what it always did.

    Outside the main thread, where Python allows no handlers, signals keep their meaning.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = ""  # name of the signal that asked
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
