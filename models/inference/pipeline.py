"""Overlap on few cores: a source that is read ahead, and tasks that are done behind, in threads.

Decoding, drawing, compressing and writing release Python's lock for most of their time, so threads are enough.
"""

from __future__ import annotations

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
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        calls = deque(pool.submit(next, iterator, end) for _ in range(depth))
        while (item := calls.popleft().result()) is not end:
            calls.append(pool.submit(next, iterator, end))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


class TaskQueue:
    """Calls functions in threads and gives their results in the order of the calls.

    At most `depth` calls wait or run; `submit` blocks where there would be more. Results stay until they are asked for.
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
        """Finished results not given before, in the order of the calls; raises what a call raised."""
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
        self._by_stage: dict[str, float] = {}
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to the stage's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._by_stage[stage] = self._by_stage.get(stage, 0.0) + time.perf_counter() - start

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time that making them takes is the stage's."""
        iterator, end = iter(items), object()
        while True:
            with self.of(stage):
                item = next(iterator, end)
            if item is end:
                return
            yield item

    def so_far(self) -> dict[str, float]:
        """Seconds of each stage, and of the "whole run" since this object was made."""
        return {**self._by_stage, "whole run": time.perf_counter() - self._start}
