"""Overlapping work: order, limits, and what happens to errors and early ends."""

from __future__ import annotations

import threading
import time

import pytest

from models.inference.pipeline import TaskQueue, prefetch


def test_items_come_in_order_and_are_made_ahead_but_not_further():
    made, gate = [], threading.Event()

    def source():
        for item in range(20):
            made.append(item)
            if len(made) == 3:
                gate.set()
            yield item

    items = prefetch(source(), 2)
    assert next(items) == 0
    assert gate.wait(5)  # 0 is out, 1 and 2 wait
    time.sleep(0.05)
    assert len(made) == 3
    assert list(items) == list(range(1, 20))


def test_what_the_source_raises_is_raised_after_the_items_before_it():
    def source():
        yield 1
        raise OSError("the disk is gone")

    items = prefetch(source(), 3)
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_a_consumer_that_stops_ends_the_thread():
    def endless():
        while True:
            yield threading.current_thread()

    items = prefetch(endless(), 2)
    thread = next(items)
    items.close()
    assert not thread.is_alive()


def test_results_come_in_the_order_of_the_calls():
    first = threading.Event()

    def wait_for_the_second(number):
        first.wait(5) if number == 0 else first.set()
        return number

    with TaskQueue(threads=2, depth=5) as tasks:
        for number in range(4):
            tasks.submit(wait_for_the_second, number)
        assert [*tasks.results(), *tasks.finish()] == [0, 1, 2, 3]


def test_no_more_calls_wait_than_allowed():
    gate, begun = threading.Event(), []

    def call(number):
        begun.append(number)
        gate.wait(5)

    def submit_three(tasks):
        for number in range(3):
            tasks.submit(call, number)
        begun.append("submitted")

    with TaskQueue(threads=1, depth=2) as tasks:
        submitting = threading.Thread(target=submit_three, args=(tasks,))
        submitting.start()
        submitting.join(0.2)
        assert submitting.is_alive() and begun == [0]
        gate.set()
        submitting.join(5)
        assert len(list(tasks.finish())) == 3 and "submitted" in begun


def test_what_a_call_raises_is_raised_where_results_are_asked_for():
    with TaskQueue(threads=1, depth=2) as tasks:
        tasks.submit(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            list(tasks.finish())
