"""Processes that all want the same semaphore, as fast as they can. Where there is no fork there are none."""

import mmap
import multiprocessing
import os
import struct
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial

from sluicegate._bench.contest import EVENNESS, RATE, Gate, Outcome
from sluicegate._bench.timing import Effort, Pace, Round, Row, Section, Trial, statement

OURS, THEIRS = "sluicegate.multiprocessing.BoundedSemaphore", "multiprocessing.BoundedSemaphore"

_WAIT, _GO, _STOP = 0, 1, 2
_COUNT = struct.Struct("Q")
_PAIRS = 50
"""Pairs between two looks at whether it is over."""


def contend(gate: Gate, *, processes: int, seconds: float) -> Outcome:
    """Lets so many forked processes go for the gate. They share a page for the start, the stop and their scores."""
    page = mmap.mmap(-1, mmap.PAGESIZE)

    def work(me: int) -> None:
        pairs = 0
        while page[0] == _WAIT:
            time.sleep(0.0005)
        while page[0] == _GO:
            for _ in range(_PAIRS):
                gate.acquire()
                gate.release()
            pairs += _PAIRS
        _COUNT.pack_into(page, 8 * (me + 1), pairs)

    children = []
    for me in range(processes):
        with warnings.catch_warnings():
            # The progress bar has a thread, which the children do not need.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            try:
                work(me)
            finally:
                os._exit(0)
        children.append(child)
    began = time.perf_counter()
    try:
        page[0] = _GO
        time.sleep(seconds)
    finally:
        page[0] = _STOP
        took = time.perf_counter() - began
        for child in children:
            os.waitpid(child, 0)
    return Outcome(tuple(_COUNT.unpack_from(page, 8 * (me + 1))[0] for me in range(processes)), took, 0.0)


def contest(name: str, rivals: Mapping[str, Callable[[], Gate]], *, processes: int) -> Row:
    """The row of a contest between processes."""

    def trial(new: Callable[[], Gate]) -> Trial:
        def ready(effort: Effort) -> Round:
            def run() -> tuple[float, ...]:
                outcome = contend(new(), processes=processes, seconds=effort.seconds[Pace.CONTEST])
                return outcome.rate, outcome.evenness

            return run

        return ready

    return Row(name, {rival: trial(new) for rival, new in rivals.items()}, (RATE, EVENNESS))


def sections() -> tuple[Section, ...]:
    """What is measured of the semaphores of processes; nothing where there are none of ours."""
    if sys.platform != "linux":
        return ()
    from sluicegate.multiprocessing import BoundedSemaphore

    rivals: dict[str, Callable[..., Gate]] = {
        OURS: BoundedSemaphore,
        THEIRS: multiprocessing.get_context("fork").BoundedSemaphore,
    }
    two = {name: partial(new, 2) for name, new in rivals.items()}
    # The first acquire of a process makes it a member.
    used = "sem = new(); sem.acquire(); sem.release()"
    taken = "sem = new(); sem.acquire()"
    return (
        Section(
            "BoundedSemaphore of processes",
            (
                Row("acquire + release", statement("sem.acquire(); sem.release()", rivals, used)),
                Row("with", statement("with sem: pass", rivals, used)),
                Row("acquire(False), fails", statement("sem.acquire(False)", rivals, taken)),
                Row("construct", statement("make()", rivals, "make = new")),
            ),
            pace=Pace.STATEMENT,
        ),
        Section(
            "BoundedSemaphore of processes, contended",
            (
                contest("1 permit, 2 processes", rivals, processes=2),
                contest("1 permit, 4 processes", rivals, processes=4),
                contest("2 permits, 4 processes", two, processes=4),
            ),
            pace=Pace.CONTEST,
        ),
    )
