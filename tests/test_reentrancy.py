"""Calls that come from inside: `__del__`, weakref callbacks and handlers, while the same object is in use."""

from __future__ import annotations

import gc
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support import PATIENCE, Crew, alone, every_kind, every_policy

from sluicegate import BoundedSemaphore, Semaphore

Make = Callable[..., Any]


@contextmanager
def collecting_all_the_time() -> Iterator[None]:
    """The collector runs, and with it what it sets off, at nearly every allocation."""
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Finalizer:
    """Calls when it is collected; in a cycle, so that only the collector can."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call, self.cycle = call, self

    def __del__(self) -> None:
        self.call()


@every_kind
@pytest.mark.parametrize("threads", [0, 4])
@alone()
def test_finalizers_may_use_the_semaphore_that_is_in_use(make: Make, threads: int) -> None:
    sem, calls, done = make(2), 0, False

    def from_inside() -> None:
        nonlocal calls
        if sem.try_acquire():
            calls += 1
            sem.release()
        assert sem.value <= 2 and sem.waiting <= threads + 1

    def load() -> None:
        while not done:
            with sem:
                [Finalizer(from_inside)]
            if sem.acquire(timeout=0.001):
                sem.release()

    with collecting_all_the_time(), Crew() as crew:
        for _ in range(threads):
            crew.start(load)
        while calls < 300:
            Finalizer(from_inside)
            sem.acquire()
            [Finalizer(from_inside)]
            sem.release()
        done = True
    gc.collect()
    assert (sem.value, sem.waiting) == (2, 0), (sem, sem.waiting)


@every_policy
@alone()
def test_a_finalizer_may_release_what_others_wait_for(fair: bool) -> None:
    """The permits of lost objects come back by their `__del__`, in whatever thread that runs."""
    sem, turns = BoundedSemaphore(3, fair=fair), 60

    class Lease:
        def __init__(self) -> None:
            assert sem.acquire(timeout=PATIENCE)
            self.cycle = self

        def __del__(self) -> None:
            sem.release()

    def lose_leases() -> None:
        for _ in range(turns):
            Lease()

    with collecting_all_the_time(), Crew() as crew:
        for _ in range(3):
            crew.start(lose_leases)
        # Whoever waits allocates nothing: somebody has to.
        while not all(not worker.running for worker in crew.workers):
            [object()]
            gc.collect(0)
    gc.collect()
    assert (sem.value, sem.waiting) == (3, 0), (sem, sem.waiting)


@every_kind
@alone()
def test_a_weakref_callback_may_use_the_semaphore(make: Make) -> None:
    sem, calls = make(1), 0

    class Thing:
        pass

    def from_inside(_: object) -> None:
        nonlocal calls
        calls += 1
        if sem.acquire(False):
            sem.release()

    with collecting_all_the_time(), Crew() as crew:

        def load() -> None:
            kept = []
            while calls < 300:
                thing = Thing()
                thing.cycle = thing  # type: ignore[attr-defined]
                kept.append(weakref.ref(thing, from_inside))
                del thing
                with sem:
                    del kept[:-50]

        for _ in range(3):
            crew.start(load)
    assert (sem.value, sem.waiting) == (1, 0), (sem, sem.waiting)


@every_kind
@alone()
def test_a_handler_may_release_and_acquire_under_load(make: Make) -> None:
    sem, alarms, done = make(2), 0, False

    def handler(*_: object) -> None:
        nonlocal alarms
        alarms += 1
        if sem.try_acquire():
            sem.release()
        if sem.acquire(timeout=0.0005):
            sem.release()

    def load() -> None:
        while not done:
            if sem.acquire(timeout=0.001):
                sem.release()

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    with collecting_all_the_time(), Crew() as crew:
        for _ in range(3):
            crew.start(load)
        while alarms < 50:
            with sem:
                pass
            if sem.acquire(timeout=0.0005, n=2):
                sem.release(2)
        done = True
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert (sem.value, sem.waiting) == (2, 0), (sem, sem.waiting)


@every_kind
@alone()
def test_an_object_may_die_in_any_call(make: Make) -> None:
    """Arguments whose last reference the call drops, and that use the semaphore when they die."""
    sem, died = make(1), 0

    class Truth:
        def __init__(self, truth: bool) -> None:
            self.truth = truth

        def __bool__(self) -> bool:
            sem.release() if sem.try_acquire() else None
            return self.truth

        def __del__(self) -> None:
            nonlocal died
            died += 1
            sem.release() if sem.try_acquire() else None

    for _ in range(100):
        assert sem.acquire(Truth(True)) is True
        assert sem.acquire(Truth(False)) is False
        sem.release()
        sem.attribute = Truth(True)
    del sem.attribute
    assert died == 300, died
    assert sem.value == 1


class Thing:
    """Something to see die."""


@every_kind
@pytest.mark.thread_unsafe(reason="it counts what one collection frees")
def test_a_cycle_through_its_attributes_is_collected(make: Make) -> None:
    sem = make(1)
    sem.me, sem.thing = sem, Thing()
    sem.permit = sem.permits(1)
    gone, sem_gone = weakref.ref(sem.thing), weakref.ref(sem)
    del sem
    gc.collect()
    assert gone() is None
    assert sem_gone() is None


@pytest.mark.parametrize("base", [Semaphore, BoundedSemaphore])
@pytest.mark.thread_unsafe(reason="it counts what one collection frees")
def test_a_cycle_through_a_subclass_is_collected(base: Any) -> None:
    class Sub(base):  # type: ignore[misc]
        __slots__ = ("slot",)

    sem = Sub(1)
    sem.slot, sem.me, sem.thing = sem, sem, Thing()
    gone, class_gone = weakref.ref(sem.thing), weakref.ref(Sub)
    del sem, Sub
    gc.collect()
    assert gone() is None
    assert class_gone() is None


@every_kind
def test_its_attributes_die_with_it(make: Make) -> None:
    sem = make(1)
    sem.thing = Thing()
    gone = weakref.ref(sem.thing)
    del sem
    gc.collect()
    assert gone() is None


@every_kind
def test_a_semaphore_in_use_is_not_collected(make: Make) -> None:
    """A thread that waits keeps what it waits on alive."""
    sem = make(1)
    sem.acquire()
    sem.me = sem
    alive = weakref.ref(sem)
    with Crew() as crew:
        worker = crew.queue_up(sem, sem.acquire)
        release = sem.release
        del sem
        gc.collect()
        assert alive() is not None
        release()
        assert worker.result() is True
