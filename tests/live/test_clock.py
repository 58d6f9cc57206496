# SPDX-License-Identifier: MIT
"""Frames leave at their time: an hour of a clock that is made up, and a second of the real one."""

import itertools
import random
import time

import numpy as np
import pytest

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.live.clock import FrameClock
from facetalk_hf.live.frames import LiveFrame, send_frames
from facetalk_hf.live.sources import LiveSource


FPS, HOUR = 24, 3600


class MadeUp:
    """A clock that is waited on; every sleep takes up to 2 ms too long, as real ones do."""

    def __init__(self):
        self.time, self.rng, self.random = 100.0, np.random.default_rng(0), random.Random(0).random

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds + 0.002 * self.random()


def test_an_hour_of_a_file_does_not_drift():
    made = MadeUp()
    clock, sent = FrameClock(FPS, made.now, made.sleep), []
    for index in range(HOUR * FPS):
        made.time += 0.001 + 0.009 * made.random()  # what the network takes
        clock.wait(index)
        sent.append(made.time - index / FPS)
    assert max(sent) - min(sent) < 0.005


@pytest.mark.parametrize("error", [-200e-6, 200e-6])
def test_an_hour_of_live_sound_does_not_drift(error):
    """Sound at 1 + error of its rate in chunks of 20 ms, which come up to 8 ms late; frames by pairs."""
    made = MadeUp()
    clock, chunk = FrameClock(FPS, made.now, made.sleep), 0.02
    arrivals = (100 + chunk * (1 + error) * np.arange(1, 50 * HOUR + 100)) + made.rng.uniform(0, 0.008, 50 * HOUR + 99)
    arrivals, taken, come, delay = np.sort(arrivals).tolist(), 0, 0, []
    for pair in range(HOUR * FPS // 2):
        while taken * chunk < (2 * pair + 2) / FPS + 0.1:  # sound up to 0.1 s after the pair
            made.time = max(made.time, arrivals[taken])
            taken += 1
        made.time += 0.005 + 0.007 * made.random()
        for index in (2 * pair, 2 * pair + 1):
            while arrivals[come] <= made.time:
                come += 1
            clock.wait(index, (come - taken) * chunk)
            delay.append(made.time - (100 + index / FPS * (1 + error)))
    delay = np.array(delay[FPS * 20 :]).reshape(-1, FPS * 20)
    middle = np.median(delay, axis=1)
    assert np.ptp(middle) < 0.02 and np.abs(delay - middle[0]).max() < 0.04


def test_a_pause_of_live_sound_is_waited_for():
    made = MadeUp()
    clock, sent = FrameClock(FPS, made.now, made.sleep), []
    for index in range(200):
        made.time = max(made.time, 100 + index / FPS + (3.0 if index >= 100 else 0))
        clock.wait(index, 0.0)
        sent.append(made.time)
    steps = np.diff(sent[100:])
    assert steps.max() < 0.06 and sent[-1] - sent[100] == pytest.approx(99 / FPS, abs=0.03)  # no burst afterwards


def test_real_frames_leave_at_their_time():
    class Sink:
        times: list[float] = []

        def send(self, frame):
            self.times.append(time.monotonic() - frame.time)

    frames = (LiveFrame(index, index / 60, np.zeros(52)) for index in range(60))
    send_frames(frames, [Sink()], FrameClock(60))
    assert np.median(Sink.times) - Sink.times[0] < 0.02 and len(Sink.times) == 60


def test_a_source_is_read_ahead_and_no_further():
    read = []

    def chunks():
        for index in itertools.count():
            read.append(index)
            yield np.full(100, index, np.int16)

    source = LiveSource(chunks(), 1000, limit=0.5)
    items = iter(source)
    first = next(items)
    deadline = time.monotonic() + 5
    while len(read) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(read) <= 8 and source.waiting is None  # as far ahead as it may be: a file in a pipe, no live sound
    rest = list(itertools.islice(items, 20))
    assert [int(item[0]) for item in (first, *rest)] == list(range(21))
    items.close()


def test_what_fails_in_a_source_is_told():
    def chunks():
        yield np.zeros(10, np.int16)
        raise FaceTalkError("unplugged")

    items = iter(LiveSource(chunks(), 1000))
    assert len(next(items)) == 10
    with pytest.raises(FaceTalkError, match="unplugged"):
        next(items)
    assert list(LiveSource([], 1000)) == []
