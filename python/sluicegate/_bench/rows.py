"""What is measured, and beside whom: the honest rivals are the ones written in C."""

import multiprocessing
import multiprocessing.synchronize
import queue
import threading
from collections.abc import Callable
from functools import partial

import sluicegate
import sluicegate.queue
from sluicegate._bench import pools, processes
from sluicegate._bench.contest import Gate, contest
from sluicegate._bench.relay import Line, rally, relay
from sluicegate._bench.timing import Pace, Row, Section, Statement, Trial, statement


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

ROOM = 1024
CHANNEL, SIMPLE, QUEUE = "sluicegate.Channel", "queue.SimpleQueue", "queue.Queue"
LINES = {
    CHANNEL: Line(partial(sluicegate.Channel, ROOM), "send", "recv"),
    QUEUE: Line(partial(queue.Queue, ROOM)),
    SIMPLE: Line(queue.SimpleQueue),
}

QUEUES = {
    "sluicegate.queue.Queue": Line(partial(sluicegate.queue.Queue, ROOM)),
    QUEUE: LINES[QUEUE],
    SIMPLE: LINES[SIMPLE],
}


def passing(ours: str, theirs: str, setup: str = "pass") -> dict[str, Trial]:
    """A line of code for a channel, and the same in the words of `queue`."""
    return {
        name: Statement(
            ours if name == CHANNEL else theirs, line.new, f"ch = new(); batch = [None] * 256; {setup}"
        )
        for name, line in LINES.items()
    }


def put_and_get(kind: str, *, room: int = 0, there: int = 0) -> dict[str, Trial]:
    """One item in and out of a queue that holds `there` others."""
    modules = {"sluicegate.queue": sluicegate.queue, "queue": queue}
    new: dict[str, Callable[..., object]] = {
        f"{name}.{kind}": partial(getattr(module, kind), *[room] * (room > 0))
        for name, module in modules.items()
    }
    if kind == "Queue":
        new[SIMPLE] = queue.SimpleQueue
    return statement("q.put(7); q.get()", new, f"q = new()\nfor item in range({there}): q.put(2 * item)")


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
    Section(
        "Channel",
        (
            Row("send + recv", passing("ch.send(1); ch.recv()", "ch.put(1); ch.get()")),
            Row(
                "256 items in and out",
                passing(
                    "ch.send_many(batch); ch.recv_many(256)",
                    "for item in batch: ch.put(item)\nfor item in batch: ch.get()",
                ),
            ),
            Row(
                "try_recv, empty",
                passing(
                    "try: ch.try_recv()\nexcept Empty: pass",
                    "try: ch.get_nowait()\nexcept Empty: pass",
                    "from queue import Empty",
                ),
            ),
            Row("construct", passing("new()", "new()")),
        ),
        pace=Pace.STATEMENT,
    ),
    Section(
        "Channel, between threads",
        (
            relay("1 sender, 1 receiver", LINES, senders=1, receivers=1),
            relay("4 senders, 4 receivers", LINES, senders=4, receivers=4),
            rally("ping-pong", LINES),
        ),
        pace=Pace.CONTEST,
    ),
    Section(
        "Queue",
        (
            Row("Queue, put + get", put_and_get("Queue", room=ROOM)),
            Row("SimpleQueue, put + get", put_and_get("SimpleQueue")),
            Row("LifoQueue, put + get", put_and_get("LifoQueue")),
            Row("PriorityQueue of 500, put + get", put_and_get("PriorityQueue", there=500)),
        ),
        pace=Pace.STATEMENT,
    ),
    Section(
        "Queue, between threads",
        (
            relay("1 producer, 1 consumer", QUEUES, senders=1, receivers=1),
            relay("4 producers, 4 consumers", QUEUES, senders=4, receivers=4),
        ),
        pace=Pace.CONTEST,
    ),
    *pools.SECTIONS,
    *processes.sections(),
)
