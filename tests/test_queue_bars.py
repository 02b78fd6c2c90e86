"""Ctrl-C, fork, exit, and calls from inside: what a program may run into while it waits on a queue."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from queues import CLASSES, every_make, getting, is_open, joining, putting
from support import PATIENCE, Crew, Worker, alone, in_child, record, report, run_python, wait_until

from sluicegate.queue import Empty, Full, PriorityQueue, Queue, SimpleQueue

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
Make = Callable[..., Any]


def stuck(make: Make, side: str) -> tuple[Any, Callable[[], object], Callable[[], int]]:
    """A queue on which a call waits: the queue, the call, and how many wait so."""
    q = make() if side.startswith("get") or side == "join" else make(1)
    if side not in {"get", "get(timeout)"}:
        q.put(0)
    calls: dict[str, tuple[Callable[[], object], Callable[[], int]]] = {
        "get": (q.get, lambda: getting(q)),
        "get(timeout)": (lambda: q.get(timeout=PATIENCE), lambda: getting(q)),
        "put": (lambda: q.put(1), lambda: putting(q)),
        "put(timeout)": (lambda: q.put(1, timeout=PATIENCE), lambda: putting(q)),
        "join": (q.join, lambda: joining(q)),
    }
    return q, *calls[side]


# ---- signals ----


@posix
@every_make
@pytest.mark.parametrize("side", ["get", "get(timeout)", "put", "put(timeout)", "join"])
@alone()
def test_ctrl_c_ends_a_wait_and_leaves_all_as_it_was(make: Make, side: str) -> None:
    q, call, waiting = stuck(make, side)
    sizes, main = (q.qsize(), q.unfinished_tasks), threading.get_ident()
    for _ in range(3):

        def interrupt() -> None:
            wait_until(lambda: waiting() == 1)
            if is_open(q):
                # A lock of CPython's is deaf to a signal that comes while it goes to sleep, or to another thread.
                time.sleep(0.05)
                signal.pthread_kill(main, signal.SIGINT)
            else:
                os.kill(os.getpid(), signal.SIGINT)

        helper, begin = Worker(interrupt), time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            call()
        assert time.monotonic() - begin < 5
        helper.result()
        assert waiting() == 0 and (q.qsize(), q.unfinished_tasks) == sizes, (waiting(), q.qsize())
    if q.qsize():
        assert q.get() == 0
    q.put(7, timeout=1)
    assert q.get(timeout=1) == 7


@posix
@alone()
def test_ctrl_c_ends_a_simple_queues_wait() -> None:
    q: Any = SimpleQueue()

    def interrupt() -> None:
        wait_until(lambda: getting(q) == 1)
        os.kill(os.getpid(), signal.SIGINT)

    for timeout in (None, PATIENCE):
        helper = Worker(interrupt)
        with pytest.raises(KeyboardInterrupt):
            q.get(timeout=timeout)
        helper.result()
        assert getting(q) == 0
    q.put(1)
    assert q.get() == 1


@posix
@pytest.mark.parametrize("kind", [*CLASSES.values(), SimpleQueue])
@alone()
def test_a_handler_that_returns_lets_the_wait_go_on_for_the_rest_of_its_time(kind: Any) -> None:
    hits = 0

    def handler(*_: object) -> None:
        nonlocal hits
        hits += 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    begin = time.monotonic()
    with pytest.raises(Empty):
        kind().get(timeout=0.6)
    took = time.monotonic() - begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert hits >= 3 and 0.6 <= took < 2, (hits, took)


@posix
@pytest.mark.parametrize("kind", [*CLASSES.values(), SimpleQueue])
@alone()
def test_a_handler_may_put_into_the_queue_that_is_in_use(kind: Any) -> None:
    q, put_by_handler = kind(), 0

    def handler(*_: object) -> None:
        nonlocal put_by_handler
        q.put(-1)
        put_by_handler += 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    got: list[int] = []
    end, number = time.monotonic() + 0.5, 0
    while time.monotonic() < end:
        q.put(number)
        record(got, q.get)
        number += 1
    # The handler also feeds a get that would wait for ever otherwise.
    for _ in range(q.qsize()):
        record(got, q.get_nowait)
    for _ in range(20):
        record(got, q.get)
    signal.setitimer(signal.ITIMER_REAL, 0)
    while not q.empty():
        got.append(q.get())
    assert put_by_handler > 20 and got.count(-1) == put_by_handler, (got.count(-1), put_by_handler)
    assert sorted(item for item in got if item >= 0) == list(range(number))


@posix
@alone()
def test_an_interrupted_getter_passes_its_turn_on() -> None:
    for _ in range(200):
        q: Any = Queue()
        other = Worker(lambda q=q: q.get(timeout=PATIENCE))

        def feed(q: Any = q) -> None:
            wait_until(lambda: getting(q) == 2)
            # The notice and the signal race.
            os.kill(os.getpid(), signal.SIGINT)
            q.put(1)
            q.put(2)

        feeder = Worker(feed)
        got: list[object] = []
        try:
            record(got, q.get)
            time.sleep(0.01)
        except KeyboardInterrupt:
            pass
        feeder.result()
        got.append(other.result())
        while not q.empty():
            got.append(q.get())
        assert sorted(got) == [1, 2], got  # type: ignore[type-var]


# ---- fork ----


NATIVE = {**{name: functools.partial(kind) for name, kind in CLASSES.items()}}
every_native = pytest.mark.parametrize("make", NATIVE.values(), ids=NATIVE.keys())
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@forks
@every_native
@alone()
def test_a_child_has_the_items_and_no_ghosts(make: Make) -> None:
    empty, full = make(), make(2)
    full.put(1)
    full.put(2)
    waiters = [Worker(empty.get) for _ in range(3)]
    waiters += [Worker(full.put, 3), Worker(full.join)]
    wait_until(lambda: (getting(empty), putting(full), joining(full)) == (3, 1, 1))

    def check() -> None:
        assert empty._waiting() == full._waiting() == (0, 0, 0), (empty._waiting(), full._waiting())
        empty.put("x")
        assert empty.get(timeout=5) == "x", "a ghost got it"
        assert sorted([full.get(timeout=5), full.get(timeout=5)]) == [1, 2]
        with pytest.raises(Empty):
            full.get(timeout=0.01)
        with Crew() as crew:
            taker = crew.start(empty.get)
            wait_until(lambda: getting(empty) == 1)
            empty.put("y")
            assert taker.result() == "y"
        full.unfinished_tasks = 0
        full.join()

    for _ in range(3):
        in_child(check)
    assert (getting(empty), putting(full)) == (3, 1)
    for item in range(3):
        empty.put(item)
    assert full.get() in (1, 2)
    waiters[3].result()
    for _ in range(3):
        full.task_done()
    for waiter in waiters:
        waiter.result()


@forks
@every_native
@alone()
def test_a_child_forked_in_the_storm_works(make: Make) -> None:
    q, done = make(4), threading.Event()

    def storm() -> None:
        while not done.is_set():
            try:
                q.put(1, timeout=0.001)
                q.get(timeout=0.001)
            except (Empty, Full):
                pass

    def check() -> None:
        while not q.empty():
            q.get(timeout=5)
        for item in range(4):
            q.put(item, timeout=5)
        assert q.full()
        assert sorted(q.get(timeout=5) for _ in range(4)) == [0, 1, 2, 3]

    with Crew() as crew:
        for _ in range(3):
            crew.start(storm)
        for _ in range(10):
            in_child(check)
        done.set()


# ---- exit ----

EXIT = """
import atexit, threading, time
from sluicegate.queue import *

queues = [Queue(), LifoQueue(), PriorityQueue(), SimpleQueue()]
full, busy = Queue(1), Queue()
full.put(0); busy.put(0)
waits = [*[q.get for q in queues], lambda: full.put(1), busy.join,
         lambda: queues[0].get(timeout=3600), lambda: [quick(queues[1]) for _ in iter(int, 1)]]

def quick(q):
    try:
        q.get(timeout=0.001)
    except Empty:
        pass

for number in range(16):
    threading.Thread(target=waits[number % len(waits)], daemon=True).start()
time.sleep({delay})
{end}
"""
ENDS = {
    "nothing": "pass",
    "puts": "atexit.register(lambda: [q.put(1) for q in queues for _ in range(8)])",
    "a shutdown": "atexit.register(lambda: [q.shutdown(True) for q in [*queues[:3], full, busy]])",
}


@pytest.mark.thread_unsafe(reason="it starts many processes")
@pytest.mark.parametrize("end", ENDS)
def test_daemon_threads_that_wait_do_not_keep_the_interpreter_from_its_end(end: str) -> None:
    for run in range(7):
        done = run_python(EXIT.format(delay=0.01 * run, end=ENDS[end]), patience=PATIENCE)
        assert done.returncode == 0 and not done.stderr, report(done)


# ---- from inside ----


class Finalizer:
    """Calls when it is collected; in a cycle, so that only the collector can."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call, self.cycle = call, self

    def __del__(self) -> None:
        self.call()


@pytest.mark.parametrize("kind", [*CLASSES.values(), SimpleQueue])
@pytest.mark.parametrize("threads", [0, 3])
@alone()
def test_finalizers_may_use_the_queue_that_is_in_use(kind: Any, threads: int) -> None:
    q, inside, stop = kind(), 0, False

    def from_inside() -> None:
        nonlocal inside
        q.put((1, 1))
        inside += 1
        q.qsize()
        q.get_nowait()

    def load() -> None:
        while not stop:
            q.put((0, 0))
            Finalizer(from_inside)
            with suppress(Empty):
                q.get(timeout=0.001)

    before = gc.get_threshold()
    gc.set_threshold(1)
    with Crew() as crew:
        for _ in range(threads):
            crew.start(load)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            Finalizer(from_inside)
            q.put((0, 0))
            weakref.finalize(Finalizer(int), from_inside)
            q.get()
        stop = True
    gc.set_threshold(*before)
    gc.collect()
    assert inside > 50, inside


@alone()
def test_a_finalizer_in_a_comparison_may_put_into_the_same_queue() -> None:
    """A standard PriorityQueue deadlocks here: the collector runs `__del__` while the mutex is held."""
    q: Any = PriorityQueue()

    class Ranked:
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __lt__(self, other: Ranked) -> bool:
            if self.rank % 7 == 0:
                Finalizer(lambda: q.put(Ranked(1000)))
            return self.rank < other.rank

    gc.set_threshold(5)
    ranks = range(300, 0, -1)
    for rank in ranks:
        q.put(Ranked(rank))
    got = [q.get().rank for _ in ranks]
    gc.set_threshold(0)
    assert got == list(range(1, 301)), got


@alone()
def test_opening_while_the_collector_runs_finalizers_that_put() -> None:
    gc.set_threshold(1)
    for _ in range(200):
        q: Any = Queue()
        for number in range(5):
            q.put(number)
        Finalizer(functools.partial(q.put, "late"))
        items = q.queue
        assert list(items)[:5] == [0, 1, 2, 3, 4]
        assert q.get() == 0
