"""What is measured, and beside whom: the honest rivals are the ones written in C."""

import multiprocessing
import multiprocessing.synchronize
import threading
from collections.abc import Callable
from functools import partial

import sluicegate
from sluicegate._bench import processes
from sluicegate._bench.contest import Gate, contest
from sluicegate._bench.timing import Pace, Row, Section, statement


def process_semaphore(value: int = 1) -> multiprocessing.synchronize.BoundedSemaphore:
    """`multiprocessing.BoundedSemaphore`, a C object that threads can share as well.

    By fork where there is one: the other start methods keep a process beside the benchmark to track it.
    """
    methods = multiprocessing.get_all_start_methods()
    method = "fork" if "fork" in methods else methods[0]
    return multiprocessing.get_context(method).BoundedSemaphore(value)


Makers = dict[str, Callable[..., Gate]]

SEMAPHORE: Makers = {
    "sluicegate.Semaphore": sluicegate.Semaphore,
    "threading.Semaphore": threading.Semaphore,
    "threading.Lock": threading.Lock,
    "multiprocessing.BoundedSemaphore": process_semaphore,
}
BOUNDED: Makers = {
    "sluicegate.BoundedSemaphore": sluicegate.BoundedSemaphore,
    "threading.BoundedSemaphore": threading.BoundedSemaphore,
    "threading.Lock": threading.Lock,
    "multiprocessing.BoundedSemaphore": process_semaphore,
}
COUNTING: Makers = {name: SEMAPHORE[name] for name in ("sluicegate.Semaphore", "threading.Semaphore")}

TAKEN = "sem = new(); sem.acquire()"
CLASS = "make = new"

ONE_PERMIT: Makers = {
    "sluicegate.Semaphore": sluicegate.Semaphore,
    "sluicegate.fair=True": partial(sluicegate.Semaphore, fair=True),
    "threading.Semaphore": threading.Semaphore,
    "threading.Lock": threading.Lock,
    "multiprocessing.BoundedSemaphore": process_semaphore,
}
TWO_PERMITS: Makers = {name: partial(new, 2) for name, new in ONE_PERMIT.items() if name != "threading.Lock"}

SECTIONS = (
    Section(
        "Semaphore",
        (
            Row("acquire + release", statement("sem.acquire(); sem.release()", SEMAPHORE)),
            Row("with", statement("with sem: pass", SEMAPHORE)),
            Row("acquire(False), fails", statement("sem.acquire(False)", SEMAPHORE, TAKEN)),
            Row("acquire(timeout=1), free", statement("sem.acquire(timeout=1); sem.release()", SEMAPHORE)),
            Row("release(4)", statement("sem.release(4)", COUNTING)),
            Row("construct", statement("make()", SEMAPHORE, CLASS)),
        ),
        pace=Pace.STATEMENT,
    ),
    Section(
        "BoundedSemaphore",
        (
            Row("acquire + release", statement("sem.acquire(); sem.release()", BOUNDED)),
            Row("with", statement("with sem: pass", BOUNDED)),
            Row("construct", statement("make()", BOUNDED, CLASS)),
        ),
        pace=Pace.STATEMENT,
    ),
    Section(
        "Semaphore, contended",
        (
            contest("1 permit, 8 threads, nothing inside", ONE_PERMIT, threads=8),
            contest("1 permit, 8 threads, a short loop inside", ONE_PERMIT, threads=8, turns=20),
            contest("2 permits, 8 threads, 0.5 ms of sleep inside", TWO_PERMITS, threads=8, hold=0.0005),
        ),
        pace=Pace.CONTEST,
    ),
    *processes.sections(),
)
