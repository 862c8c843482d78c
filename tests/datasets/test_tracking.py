"""Tracks of rendered people who cross: the numbers hold through overlaps, missed frames, noise and strangers."""

from __future__ import annotations

from dataclasses import replace

import crossing
import numpy as np
import pytest

from datasets.people.tracking import MAX_LOST, NEW_SCORE, Tracker
from utils.people import Detection

FPS = crossing.FPS
BOX = (100.0, 50.0, 40.0, 100.0)


def owner(found: Detection, people: tuple[crossing.Walker, ...], frame: int) -> int:
    """Whose detection it is, by the true keypoints."""
    away = [np.abs(found.keypoints[:, :2] - person.keypoints[frame][:, :2]).mean() for person in people]
    return int(np.argmin(away))


def tracks_of(frames: list[int], seed: int, with_images: bool, hidden: bool = True) -> list[set]:
    """The track numbers that each of the two got."""
    people, rng, tracker = crossing.crossing(), np.random.default_rng(seed), Tracker()
    numbers: list[set] = [set(), set()]
    for i, frame in enumerate(frames):
        found = crossing.detections(people, frame, rng, hidden)
        image = crossing.image(people, frame) if with_images else None
        for person, number in zip(found, tracker.update(found, i / FPS, image), strict=True):
            numbers[owner(person, people, frame)].add(number)
    return numbers


def missed(seed: int) -> int:
    people, rng = crossing.crossing(), np.random.default_rng(seed)
    return sum(2 - len(crossing.detections(people, frame, rng)) for frame in range(crossing.FRAMES))


@pytest.mark.parametrize("hidden", [False, True])
def test_people_who_cross_keep_their_numbers_by_place_and_velocity(hidden):
    assert missed(0) >= 5  # or the test were too easy
    for seed in range(5):
        assert sorted(map(sorted, tracks_of(list(range(crossing.FRAMES)), seed, False, hidden))) == [[0], [1]]


def test_people_who_meet_and_turn_back_keep_their_numbers_by_their_colours():
    there_and_back = [*range(31), *range(29, -1, -1)]
    for seed in range(3):
        assert sorted(map(sorted, tracks_of(there_and_back, seed, True))) == [[0], [1]]


def test_a_lost_person_is_found_again_within_the_limit_and_is_another_person_after_it():
    for lost, expected in ((MAX_LOST * 0.9, [0]), (MAX_LOST * 1.1, [1])):
        tracker = Tracker()
        for i in range(10):
            tracker.update([Detection(BOX)], i / FPS)
        for i in range(1, int(lost * FPS)):
            tracker.update([], (9 + i) / FPS)
        assert tracker.update([Detection(BOX)], 9 / FPS + lost) == expected


def test_a_lost_person_is_expected_where_the_velocity_leads():
    tracker = Tracker()
    for i in range(20):
        tracker.update([Detection((100.0 + 5 * i, 50.0, 40.0, 100.0))], i / FPS)
    there, back = (Detection((100.0 + 5 * 35, 50.0, 40.0, 100.0)), Detection((100.0 + 5 * 10, 50.0, 40.0, 100.0)))
    assert tracker.update([back, there], 35 / FPS) == [1, 0]


def test_unsure_detections_continue_tracks_and_start_none():
    unsure = Detection(BOX, NEW_SCORE - 0.01)
    tracker = Tracker()
    assert tracker.update([unsure], 0.0) == [None]
    assert tracker.update([replace(unsure, score=0.9)], 0.1) == [0]
    assert tracker.update([unsure], 0.2) == [0]


def test_frames_without_anybody_and_time_that_stands_still():
    tracker = Tracker()
    assert tracker.update([], 0.0) == []
    assert tracker.update([Detection(BOX)], 0.1) == [0]
    with pytest.raises(ValueError, match="order of time"):
        tracker.update([Detection(BOX)], 0.1)
