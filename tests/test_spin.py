"""Threads whose waits are so brief that they spin before they sleep (decision 11): what ends a sleep ends a spin."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from support import PATIENCE, alone, in_child, report, run_python

from sluicegate import Channel, Empty

TURNS = 2000


class Rally:
    """A thread that sends back whatever it gets, so that whoever plays with it waits briefly and often."""

    def __init__(self) -> None:
        self.there: Channel[int | None] = Channel(1)
        self.back: Channel[int] = Channel(1)
        self.thread = threading.Thread(target=self._echo, daemon=True)
        self.thread.start()

    def _echo(self) -> None:
        while (ball := self.there.recv()) is not None:
            self.back.send(ball)

    def play(self, turns: int) -> None:
        for turn in range(turns):
            self.there.send(turn, timeout=PATIENCE)
            ball = self.back.recv(timeout=PATIENCE)
            assert ball == turn, f"{ball} came back instead of {turn}"

    def end(self) -> None:
        self.there.send(None)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "it still waits"
        assert (len(self.there), len(self.back), self.there.sending, self.back.receiving) == (0, 0, 0, 0)


@alone()
def test_handlers_run_and_every_item_arrives() -> None:
    rally, alarms = Rally(), 0

    def handler(*_: object) -> None:
        nonlocal alarms
        alarms += 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
    while alarms < 300:
        rally.play(50)
    signal.setitimer(signal.ITIMER_REAL, 0)
    rally.end()


@alone()
def test_ctrl_c_ends_a_rally_and_what_was_on_its_way_arrives() -> None:
    rally, ball = Rally(), 0
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    for _ in range(100):
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        try:
            while True:
                ball += 1
                rally.there.send(ball)
                rally.back.recv()
        except KeyboardInterrupt:
            pass
        # Only a recv() that had returned can have kept one from us.
        rally.there.send(-1, timeout=PATIENCE)
        came = [rally.back.recv(timeout=PATIENCE)]
        while came[-1] != -1:
            came.append(rally.back.recv(timeout=PATIENCE))
        assert came in ([-1], [ball, -1], [ball - 1, -1]), f"{came} came back around {ball}"
    rally.end()


@alone()
def test_a_child_forked_in_a_rally_plays_one_of_its_own() -> None:
    def play() -> None:
        ours = Rally()
        ours.play(TURNS)
        ours.end()

    for _ in range(20):
        rally = Rally()
        rally.play(TURNS)
        in_child(play)
        rally.play(TURNS)
        rally.end()


EXIT = """
import threading, time
from sluicegate import Channel

def echo(one, other):
    while True:
        other.send(one.recv())

for _ in range(4):
    one, other = Channel(1), Channel(1)
    threading.Thread(target=echo, args=(one, other), daemon=True).start()
    threading.Thread(target=echo, args=(other, one), daemon=True).start()
    one.send("ball")
time.sleep({delay})
"""


@pytest.mark.thread_unsafe(reason="it starts processes")
def test_exit_in_the_middle_of_rallies_is_silent() -> None:
    for run in range(20):
        done = run_python(EXIT.format(delay=0.003 * (run % 7)), patience=PATIENCE)
        assert done.returncode == 0 and not done.stderr, report(done)


def test_a_timeout_is_kept_after_many_brief_waits() -> None:
    rally = Rally()
    rally.play(TURNS)
    for timeout in (0.00001, 0.0001, 0.01):
        begin = time.monotonic()
        with pytest.raises(Empty):
            rally.back.recv(timeout=timeout)
        assert time.monotonic() - begin >= timeout
    rally.end()
