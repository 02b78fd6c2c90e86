"""On a free-threaded build the module leaves the GIL off, and threads that really run at once lose nothing."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support import at_once, every_kind, every_policy, has_gil, run_python

from sluicegate import BoundedSemaphore, Closed

Make = Callable[..., Any]

free_threaded = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="this CPython is not a free-threaded build: it has a GIL to keep",
)


@free_threaded
def test_importing_the_module_leaves_the_gil_off() -> None:
    code = "import sys, sluicegate, sluicegate.threading; print(sys._is_gil_enabled())"
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


@free_threaded
def test_this_very_run_has_no_gil() -> None:
    assert not has_gil()


# The rest holds on every build; without a GIL the threads really are in the same call at the same time.

THREADS = 8
TURNS = 400


@every_kind
def test_a_critical_section_of_one_permit_is_one_threads(make: Make) -> None:
    sem, count = make(1), 0

    def work() -> None:
        nonlocal count
        for _ in range(TURNS):
            with sem:
                seen = count
                seen += 1
                count = seen

    at_once(*[work] * THREADS)
    assert count == THREADS * TURNS
    assert (sem.value, sem.waiting) == (1, 0)


@every_kind
def test_each_permit_is_taken_once(make: Make) -> None:
    for permits in (1, 3, THREADS - 1):
        sem = make(permits)
        assert sum(at_once(*[sem.try_acquire] * THREADS)) == permits
        assert sem.value == 0


@every_policy
def test_a_bound_holds_against_releases_at_once(fair: bool) -> None:
    """`multiprocessing`'s looks first and releases then: two at once can pass its bound."""
    for held in range(1, 5):
        sem = BoundedSemaphore(4, fair=fair)
        sem.acquire(n=held)

        def release(sem: Any = sem) -> bool:
            try:
                sem.release()
            except ValueError:
                return False
            return True

        assert sum(at_once(*[release] * THREADS)) == held
        assert sem.value == 4


@every_policy
def test_drained_at_once_each_permit_is_drained_once(fair: bool) -> None:
    for _ in range(20):
        sem = BoundedSemaphore(10, fair=fair)
        assert sum(at_once(*[sem.drain] * THREADS)) == 10
        assert sem.value == 0


@every_policy
def test_resized_at_once_the_last_capacity_counts(fair: bool) -> None:
    for _ in range(20):
        sem = BoundedSemaphore(5, fair=fair)
        sem.acquire(n=2)
        at_once(*[partial(sem.resize, capacity) for capacity in range(2, 2 + THREADS)])
        assert sem.value == sem.capacity - 2
        sem.release(2)
        assert sem.value == sem.capacity


@every_policy
def test_closed_and_initialised_at_once_it_is_one_or_the_other(fair: bool) -> None:
    for _ in range(20):
        sem = BoundedSemaphore(1, fair=fair)

        def use(sem: Any = sem) -> None:
            try:
                if sem.acquire(timeout=0.001):
                    sem.release()
            except (Closed, ValueError):
                pass

        at_once(sem.close, partial(BoundedSemaphore.__init__, sem, 3), *[use] * 4)
        if sem.closed:
            BoundedSemaphore.__init__(sem, 3)
        assert sem.capacity in (1, 3)
        assert sem.waiting == 0
