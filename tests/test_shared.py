"""Semaphores between processes: `multiprocessing`'s contract, and what these promise beyond it."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import multiprocessing.synchronize
import os
import pickle
import time
import weakref
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from peers import peer
from support import Crew, alone, wait_until

import sluicegate.multiprocessing
from sluicegate.multiprocessing import BoundedSemaphore, Semaphore

FORK = multiprocessing.get_context("fork")
OURS = {"Semaphore": Semaphore, "BoundedSemaphore": BoundedSemaphore}
THEIRS = {"Semaphore": FORK.Semaphore, "BoundedSemaphore": FORK.BoundedSemaphore}
BOTH: list[Any] = [*OURS.values(), *THEIRS.values()]
both = pytest.mark.parametrize("make", BOTH, ids=[*OURS, *(f"theirs-{name}" for name in THEIRS)])
ours = pytest.mark.parametrize("make", OURS.values(), ids=OURS.keys())


# ---- the contract, on theirs and on ours ----


@both
def test_it_counts(make: Callable[..., Any]) -> None:
    sem = make(2)
    assert [sem.get_value(), sem.acquire(), sem.acquire(True), sem.acquire(False)] == [2, True, True, False]
    assert [sem.get_value(), sem.release(), sem.release(), sem.get_value()] == [0, None, None, 2]
    assert make().get_value() == make(value=1).get_value() == make(True).get_value() == 1


@both
def test_its_constructor_refuses_what_is_no_count(make: Callable[..., Any]) -> None:
    with pytest.raises(OSError, match="Invalid argument") as refused:
        make(-1)
    assert refused.value.errno == 22
    wrong: Any
    for wrong in ("1", None, 1.5, []):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            make(wrong)
    with pytest.raises(OverflowError, match="Python int too large to convert to C int"):
        make(2**31)
    with pytest.raises(OverflowError):
        make(2**70)


@both
def test_a_timeout_is_looked_at_before_it_is_needed(make: Callable[..., Any]) -> None:
    sem = make(1)
    wrong: Any
    for wrong in ("1", []):
        for block in (True, False):
            with pytest.raises(TypeError, match="must be real number, not"):
                sem.acquire(block, wrong)
    assert sem.get_value() == 1
    for number in (1, 0, -3, 0.5, Decimal("0.5"), Fraction(1, 2), True, 1e10, None):
        assert sem.acquire(timeout=number)
        sem.release()


@both
def test_without_a_permit_a_timeout_is_waited_for_if_it_can_be(make: Callable[..., Any]) -> None:
    sem = make(0)
    for timeout in (0, -1, -float("inf")):
        began = time.monotonic()
        assert sem.acquire(True, timeout) is False
        assert time.monotonic() - began < 5
    for timeout in (float("inf"), float("nan"), 2.0**70):
        with pytest.raises(OSError, match="Invalid argument"):
            sem.acquire(True, timeout)
        assert sem.acquire(False, timeout) is False
    began = time.monotonic()
    assert sem.acquire(timeout=0.2) is False
    assert time.monotonic() - began >= 0.199


@both
def test_with_takes_and_gives_back(make: Callable[..., Any]) -> None:
    sem = make(1)
    with sem as entered:
        assert entered is True
        assert sem.get_value() == 0
    with pytest.raises(LookupError), sem:
        raise LookupError
    assert sem.get_value() == 1
    sem.__enter__()
    assert sem.__exit__() is None
    assert sem.get_value() == 1


@pytest.mark.parametrize("make", [BoundedSemaphore, FORK.BoundedSemaphore], ids=["ours", "theirs"])
def test_a_release_too_many_is_an_error(make: Callable[..., Any]) -> None:
    sem = make(2)
    with pytest.raises(ValueError, match=r"^semaphore or lock released too many times$"):
        sem.release()
    assert sem.get_value() == 2


@both
def test_its_repr_tells_the_value(make: Callable[..., Any]) -> None:
    sem = make(3)
    sem.acquire()
    name = "Semaphore(value=2)" if "Bounded" not in repr(sem) else "BoundedSemaphore(value=2, maxvalue=3)"
    assert repr(sem) == f"<{name}>"


@both
def test_it_is_shared_by_inheritance_and_not_by_pickle(make: Callable[..., Any]) -> None:
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(RuntimeError, match="Semaphore objects should only be shared between processes"):
            way(make(1))


@both
def test_it_is_an_object_like_others(make: Callable[..., Any]) -> None:
    sem, other = make(0), make(0)
    assert bool(sem) and sem != other and len({sem, other, sem}) == 2
    sem.note = "here"
    assert sem.note == "here"
    seen = weakref.ref(sem)
    del sem
    gc.collect()
    assert seen() is None


# ---- what ours have beyond it ----


def test_the_bounded_one_is_a_kind_of_the_other() -> None:
    assert issubclass(BoundedSemaphore, Semaphore)
    assert isinstance(BoundedSemaphore(1), sluicegate.multiprocessing.Semaphore)


@ours
def test_release_takes_a_number(make: Callable[..., Any]) -> None:
    sem = make(3)
    for _ in range(3):
        sem.acquire()
    assert sem.locked()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="n must be one or more"):
            sem.release(wrong)
    with pytest.raises(TypeError):
        sem.release("1")
    sem.release(n=2)
    assert sem.get_value() == 2 and not sem.locked()


def test_a_release_of_more_than_is_held_releases_nothing() -> None:
    sem = BoundedSemaphore(3)
    sem.acquire()
    with pytest.raises(ValueError, match="released too many times"):
        sem.release(2)
    assert sem.get_value() == 2
    with pytest.raises(ValueError, match="released too many times"):
        Semaphore(1).release(2**31 - 1)


@ours
def test_a_capacity_of_zero_admits_nobody(make: Callable[..., Any]) -> None:
    sem = make(0)
    assert not sem.acquire(False) and not sem.acquire(timeout=0.01)
    assert sem.get_value() == 0


def test_a_bounded_semaphore_has_room_for_a_million() -> None:
    sem = BoundedSemaphore(1 << 20)
    assert sem.get_value() == sem.capacity == 1 << 20
    with pytest.raises(OverflowError, match="at most 1048576"):
        BoundedSemaphore((1 << 20) + 1)
    assert Semaphore(2**31 - 1).get_value() == 2**31 - 1


def test_a_subclass_has_its_own_init() -> None:
    class Slots(BoundedSemaphore):
        def __init__(self, label: str) -> None:
            super().__init__(2)
            self.label = label

    slots = Slots("db")
    assert repr(slots) == "<Slots(value=2, maxvalue=2)>" and slots.label == "db"
    with slots:
        assert slots.get_value() == 1

    class Hollow(Semaphore):
        def __init__(self) -> None:
            pass

    hollow = Hollow()
    assert repr(hollow) == "<Hollow(value=unknown)>"
    for use in (hollow.acquire, hollow.release, hollow.get_value, hollow.locked, hollow.__enter__):
        with pytest.raises(AttributeError, match="super"):
            use()


def test_a_second_init_is_refused() -> None:
    sem = Semaphore(1)
    with pytest.raises(TypeError, match="initialised once"):
        sem.__init__(5)  # type: ignore[misc]
    assert sem.get_value() == 1


@ours
def test_threads_of_one_process_share_it(make: Callable[..., Any]) -> None:
    sem = make(2)
    inside: list[int] = []
    most = 0

    def work() -> None:
        nonlocal most
        for _ in range(200):
            with sem:
                inside.append(1)
                most = max(most, len(inside))
                inside.pop()

    with Crew() as crew:
        for _ in range(8):
            crew.start(work)
        crew.results()
    assert most <= 2 and sem.get_value() == 2 and sem.waiting == 0


@ours
def test_a_waiting_thread_is_counted_and_woken(make: Callable[..., Any]) -> None:
    sem = make(1)
    sem.acquire()
    with Crew() as crew:
        worker = crew.queue_up(sem, sem.acquire)
        assert sem.waiting == 1
        sem.release()
        assert worker.result() is True
    assert sem.waiting == 0 and sem.get_value() == 0
    sem.release()


def test_holders_tells_who_and_since_when() -> None:
    sem = BoundedSemaphore(3)
    assert sem.holders() == []
    before = time.time()
    sem.acquire()
    sem.acquire()
    after = time.time()
    assert [holder.pid for holder in sem.holders()] == [os.getpid()] * 2
    assert all(before - 0.05 <= holder.since <= after + 0.05 for holder in sem.holders())
    assert repr(sem.holders()[0]).startswith(f"Holder(pid={os.getpid()}, since=")


def test_a_process_that_waits_is_pressure_on_the_others(tmp_path: Any) -> None:
    sem = BoundedSemaphore.named("pressure", 1, dir=tmp_path)
    sem.acquire()
    with peer(f"sem = BoundedSemaphore.named('pressure', 1, dir={str(tmp_path)!r})") as other:
        assert sem.pressure == 0
        other.tell("sem.acquire()")
        wait_until(lambda: sem.pressure == 1)
        with Crew() as crew:
            worker = crew.start(sem.acquire, True, 1000)
            wait_until(lambda: sem.waiting == 2)
            assert sem.pressure == 1
            # One that is killed while it waits presses no more.
            other.kill()
            wait_until(lambda: sem.pressure == 0)
            sem.release()
            assert worker.result() is True
    sem.release()


# ---- the module ----


def test_the_module_has_all_that_multiprocessing_has() -> None:
    for name in [*multiprocessing.__all__, "synchronize", "context", "process"]:
        found = getattr(sluicegate.multiprocessing, name)
        if name not in ("Semaphore", "BoundedSemaphore", "get_context"):
            assert found is getattr(multiprocessing, name) or callable(found)
    assert set(multiprocessing.__all__) <= set(sluicegate.multiprocessing.__all__)
    with pytest.raises(AttributeError):
        _ = sluicegate.multiprocessing.nothing


def test_contexts_stay_as_they_are_since_queues_are_built_on_them() -> None:
    context: Any = sluicegate.multiprocessing.get_context("fork")
    assert type(context) is type(FORK)
    # A queue takes a permit in the process that puts, and gives it back in the one that gets.
    queue: Any = context.Queue(1)
    assert not isinstance(queue._sem, Semaphore)


# ---- one process is one member ----


def in_a_fork(child: Callable[[], object]) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if child() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@alone()
def test_a_child_holds_nothing_of_what_its_parent_holds() -> None:
    sem = BoundedSemaphore(2)
    sem.acquire()

    def child() -> bool:
        with pytest.raises(ValueError, match="released too many times"):
            sem.release()
        return sem.acquire(False) and not sem.acquire(False)

    assert in_a_fork(child)
    # What the child held came back with its end, what the parent holds did not.
    assert sem.get_value() == 1
    sem.release()


@alone()
def test_a_signalling_semaphore_may_be_released_by_anybody() -> None:
    sem = Semaphore(0)
    assert in_a_fork(lambda: sem.release(2) is None)
    assert sem.acquire() and sem.acquire() and not sem.acquire(False)


@alone()
def test_a_child_of_a_child_is_a_member_too() -> None:
    sem = BoundedSemaphore(3)
    sem.acquire()
    assert in_a_fork(
        lambda: (
            sem.acquire()
            and in_a_fork(lambda: sem.acquire() and sem.get_value() == 0 and sem.release() is None)
            and sem.get_value() == 1
            and sem.release() is None
        )
    )
    assert sem.get_value() == 2
