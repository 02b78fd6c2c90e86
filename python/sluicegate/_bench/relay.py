"""Items that pass from threads to threads through a queue, as fast as they can."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sluicegate._bench.timing import Effort, Figure, Pace, Round, Row, Trial

ITEMS = Figure("items/s", "more")
ROUND_TRIPS = Figure("trips/s", "more")
STOP = object()


@dataclass(frozen=True)
class Line:
    """A queue, and what its two ends are called."""

    new: Callable[[], Any]
    put: str = "put"
    get: str = "get"

    def ends(self) -> tuple[Callable[[object], object], Callable[[], object]]:
        queue = self.new()
        return getattr(queue, self.put), getattr(queue, self.get)


def flow(line: Line, *, senders: int, receivers: int, seconds: float) -> float:
    """Items a second, all threads together."""
    put, get = line.ends()
    running = [True]
    received = [0] * receivers

    def send() -> None:
        while running:
            put(None)

    def receive(me: int) -> None:
        count = 0
        while get() is not STOP:
            count += 1
        received[me] = count

    sources = [threading.Thread(target=send, daemon=True) for _ in range(senders)]
    sinks = [threading.Thread(target=receive, args=(me,), daemon=True) for me in range(receivers)]
    began = time.perf_counter()
    for thread in sinks + sources:
        thread.start()
    try:
        time.sleep(seconds)
    finally:
        with suppress(IndexError):
            running.pop()
        for thread in sources:
            thread.join()
        for _ in sinks:
            put(STOP)
        for thread in sinks:
            thread.join()
    return sum(received) / (time.perf_counter() - began)


def ping_pong(line: Line, *, seconds: float) -> float:
    """Round trips a second between two threads and two queues."""
    (put, get), (put_back, get_back) = line.ends(), line.ends()

    def echo() -> None:
        while (item := get()) is not STOP:
            put_back(item)

    trips = [0]

    def play() -> None:
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(50):
                put(None)
                get_back()
            count += 50
        put(STOP)
        trips[0] = count

    players = [threading.Thread(target=target, daemon=True) for target in (echo, play)]
    began = time.perf_counter()
    for thread in players:
        thread.start()
    for thread in players:
        thread.join()
    return trips[0] / (time.perf_counter() - began)


def relay(name: str, lines: Mapping[str, Line], *, senders: int, receivers: int) -> Row:
    """The row of a flow through each of the lines."""

    def trial(line: Line) -> Trial:
        def ready(effort: Effort) -> Round:
            seconds = effort.seconds[Pace.CONTEST]
            return lambda: (flow(line, senders=senders, receivers=receivers, seconds=seconds),)

        return ready

    return Row(name, {rival: trial(line) for rival, line in lines.items()}, (ITEMS,))


def rally(name: str, lines: Mapping[str, Line]) -> Row:
    """The row of a ping-pong over each of the lines."""

    def trial(line: Line) -> Trial:
        def ready(effort: Effort) -> Round:
            return lambda: (ping_pong(line, seconds=effort.seconds[Pace.CONTEST]),)

        return ready

    return Row(name, {rival: trial(line) for rival, line in lines.items()}, (ROUND_TRIPS,))
