"""Work that overlaps on few cores: a source that is read ahead, and tasks that are done behind, in threads.

Decoding, drawing, compressing and writing leave Python's lock free for most of their time, so threads are enough.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
# Stages of a run of the demo, as its record names them.
READING, NETWORK, WRITING = "reading and finding people", "network and body", "drawing and writing"


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """The items in their order, up to `depth` of them made ahead in a thread of its own.

    What the source raises is raised here, after the items before it. A consumer that stops early ends the thread at
    its next item.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(is_item: bool, value: Any) -> None:
        while not stopped.is_set():
            try:
                return ready.put((is_item, value), timeout=0.1)
            except queue.Full:
                pass

    def read() -> None:
        try:
            for item in items:
                hand_over(True, item)
                if stopped.is_set():
                    return
            hand_over(False, None)
        except BaseException as error:  # raised again where the items are wanted
            hand_over(False, error)

    thread = threading.Thread(target=read, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = ready.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stopped.set()
        thread.join()


class TaskQueue:
    """Calls functions in threads and gives their results in the order of the calls.

    At most `depth` calls wait or run; `submit` waits where there would be more. Results are kept until they are asked
    for.
    """

    def __init__(self, threads: int, depth: int):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="task")
        self._free = threading.Semaphore(depth)
        self._calls: deque[Future] = deque()

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Queue a call; calls begin in their order, so one may wait for the result of one before it."""
        self._free.acquire()
        call = self._pool.submit(function, *args)
        call.add_done_callback(lambda _: self._free.release())
        self._calls.append(call)
        return call

    def results(self) -> Iterator[Any]:
        """Results that are there and have not been given; what a call raised is raised here."""
        while self._calls and self._calls[0].done():
            yield self._calls.popleft().result()

    def finish(self) -> Iterator[Any]:
        """All remaining results, waiting for them."""
        while self._calls:
            yield self._calls.popleft().result()

    def __enter__(self) -> TaskQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


class Seconds:
    """Seconds by stage of a run; stages in different threads may overlap, so they need not add up."""

    def __init__(self) -> None:
        self.by_stage: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to the stage's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.by_stage[stage] = self.by_stage.get(stage, 0.0) + time.perf_counter() - start
