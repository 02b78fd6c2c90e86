"""Threads that all want the same semaphore, as many permits as there are, as fast as they can."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sluicegate._bench.timing import Effort, Figure, Pace, Round, Row, Trial


class Gate(Protocol):
    """What a semaphore and a lock have in common."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What became of the threads."""

    served: tuple[int, ...]
    """How often each of them got in."""
    seconds: float
    longest_wait: float
    """In seconds; 0 if the waits were not timed."""

    @property
    def rate(self) -> float:
        """Pairs of acquire and release a second, of all threads together."""
        return sum(self.served) / self.seconds

    @property
    def evenness(self) -> float:
        """Least served over most served: 1 is fair, 0 means that somebody starved."""
        return min(self.served) / max(self.served, default=1) if any(self.served) else 0.0


RATE = Figure("pairs/s", "more")
EVENNESS = Figure("share", "more", "least / most served")
LONGEST_WAIT = Figure("ms", "less", "longest wait")


def contend(gate: Gate, *, threads: int, seconds: float, hold: float = 0.0, turns: int = 0) -> Outcome:
    """Lets `threads` go for the gate. Inside they sleep for `hold` seconds, or run `turns` turns of a loop.

    The waits are timed only where somebody sleeps: reading the clock costs more than an uncontended pair.
    """
    running = [True]
    served = [0] * threads
    longest = [0.0] * threads
    start = threading.Barrier(threads + 1)

    def compute(me: int) -> None:
        acquire, release, loop, pairs = gate.acquire, gate.release, range(turns), 0
        start.wait()
        while running:
            acquire()
            for _ in loop:
                pass
            release()
            pairs += 1
        served[me] = pairs

    def sleep(me: int) -> None:
        pairs, worst = 0, 0.0
        start.wait()
        while running:
            asked = time.perf_counter()
            gate.acquire()
            worst = max(worst, time.perf_counter() - asked)
            time.sleep(hold)
            gate.release()
            pairs += 1
        served[me], longest[me] = pairs, worst

    work = sleep if hold else compute
    crowd = [threading.Thread(target=work, args=(me,), daemon=True) for me in range(threads)]
    for thread in crowd:
        thread.start()
    start.wait()
    began = time.perf_counter()
    try:
        time.sleep(seconds)
    finally:
        took = time.perf_counter() - began
        with suppress(IndexError):
            running.pop()
        for thread in crowd:
            thread.join()
    return Outcome(tuple(served), took, max(longest))


def contest(
    name: str, rivals: Mapping[str, Callable[[], Gate]], *, threads: int, hold: float = 0.0, turns: int = 0
) -> Row:
    """The row of a contest between rivals that each start with the permits they are to have."""

    def trial(new: Callable[[], Gate]) -> Trial:
        def ready(effort: Effort) -> Round:
            def run() -> tuple[float, ...]:
                outcome = contend(
                    new(), threads=threads, seconds=effort.seconds[Pace.CONTEST], hold=hold, turns=turns
                )
                figures = (outcome.rate, outcome.evenness)
                return (*figures, outcome.longest_wait * 1e3) if hold else figures

            return run

        return ready

    figures = (RATE, EVENNESS, LONGEST_WAIT) if hold else (RATE, EVENNESS)
    return Row(name, {rival: trial(new) for rival, new in rivals.items()}, figures)
