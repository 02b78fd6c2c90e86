"""What `Semaphore` and `BoundedSemaphore` offer beyond `threading`'s."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import PATIENCE, Crew, every_kind, every_policy, wait_until

from sluicegate import BoundedSemaphore, Closed, Semaphore

Make = Callable[..., Any]
LIMIT = 2**31 - 1
# Shorter than any patience; a wait that ends by it was waiting for something that did not come.
SOON = 0.05


# ---- many at once ----


@every_kind
def test_acquire_takes_all_it_asks_for_or_nothing(make: Make) -> None:
    sem = make(3)
    assert sem.acquire(n=2) is True
    assert sem.value == 1
    assert sem.acquire(False, n=2) is False
    assert sem.acquire(timeout=SOON, n=2) is False
    assert (sem.value, sem.waiting) == (1, 0)
    sem.release(2)
    assert sem.acquire(n=3) is True
    assert sem.value == 0


@every_kind
def test_try_acquire_takes_all_it_asks_for_or_nothing(make: Make) -> None:
    sem = make(3)
    assert sem.try_acquire() is True
    assert sem.try_acquire(3) is False
    assert sem.value == 2
    assert sem.try_acquire(n=2) is True
    assert sem.try_acquire() is False
    assert (sem.value, sem.waiting) == (0, 0)


@every_kind
def test_a_waiter_for_many_gets_them_when_there_are_as_many(make: Make) -> None:
    sem = make(3)
    sem.acquire(n=3)
    with Crew() as crew:
        worker = crew.queue_up(sem, sem.acquire, n=3)
        sem.release()
        sem.release()
        assert worker.running
        assert sem.value == 2
        sem.release()
        assert worker.result() is True
    assert (sem.value, sem.waiting) == (0, 0)


@every_kind
def test_a_large_acquire_is_not_starved_by_small_ones(make: Make) -> None:
    sem = make(4)
    turns, done = [0] * 4, False

    def churn(mine: int) -> None:
        while not done:
            sem.acquire()
            turns[mine] += 1
            sem.release()

    with Crew() as crew:
        for number in range(4):
            crew.start(churn, number)
        wait_until(lambda: all(turns))
        for _ in range(5):
            assert sem.acquire(timeout=PATIENCE, n=4) is True
            assert sem.value == 0
            sem.release(4)
        done = True
    assert (sem.value, sem.waiting) == (4, 0)


@every_kind
def test_a_large_acquire_that_gives_up_lets_the_small_ones_behind_it_pass(make: Make) -> None:
    sem = make(3)
    sem.acquire(n=2)
    with Crew() as crew:
        large = crew.queue_up(sem, sem.acquire, timeout=0.3, n=3)
        # Behind the large one, if that still waits, and free to go once it does not.
        small = crew.start(sem.acquire, timeout=PATIENCE)
        assert large.result() is False
        assert small.result() is True
    assert (sem.value, sem.waiting) == (0, 0)


@every_kind
@pytest.mark.parametrize("ask", ["acquire", "try_acquire", "permits", "release"])
@pytest.mark.parametrize(
    ("n", "error", "words"),
    [
        (0, ValueError, "n must be one or more"),
        (-1, ValueError, "n must be one or more"),
        (-(2**70), ValueError, "n must be one or more"),
        (False, ValueError, "n must be one or more"),
        (1.0, TypeError, "float"),
        (1.5, TypeError, "float"),
        ("1", TypeError, "str"),
        (None, TypeError, "None"),
        (LIMIT + 1, OverflowError, str(LIMIT)),
        (2**70, OverflowError, str(LIMIT)),
    ],
)
def test_a_wrong_n_is_refused_and_nothing_happens(
    make: Make, ask: str, n: Any, error: type[Exception], words: str
) -> None:
    sem = make(2)
    with pytest.raises(error, match=words):
        getattr(sem, ask)(n=n)
    assert (sem.value, sem.waiting) == (2, 0)


@every_policy
def test_more_than_a_bounded_one_can_ever_have_is_refused_at_once(fair: bool) -> None:
    sem = BoundedSemaphore(2, fair=fair)
    sem.acquire()
    for call in (
        lambda: sem.acquire(n=3),
        lambda: sem.acquire(False, n=3),
        lambda: sem.acquire(timeout=0, n=3),
        lambda: sem.try_acquire(3),
        lambda: sem.permits(3).__enter__(),
    ):
        with pytest.raises(ValueError, match=r"n=3 .*capacity.* 2"):
            call()
    assert (sem.value, sem.waiting) == (1, 0)


@every_kind
def test_n_is_only_a_keyword_of_acquire(make: Make) -> None:
    sem = make(2)
    with pytest.raises(TypeError):
        sem.acquire(True, 1.0, 2)
    assert sem.value == 2


# ---- with sem.permits(n) ----


@every_kind
def test_permits_holds_as_many_in_the_block(make: Make) -> None:
    sem = make(3)
    with sem.permits(2) as entered:
        assert entered is None
        assert sem.value == 1
        with sem.permits():
            assert sem.value == 0
    assert sem.value == 3


@every_kind
def test_permits_come_back_when_the_block_raises(make: Make) -> None:
    sem = make(3)
    with pytest.raises(KeyError), sem.permits(3):
        assert sem.value == 0
        raise KeyError
    assert sem.value == 3


@every_kind
def test_permits_waits_like_acquire(make: Make) -> None:
    sem = make(2)
    sem.acquire(n=2)

    def enter() -> int:
        with sem.permits(2):
            return int(sem.value)

    with Crew() as crew:
        worker = crew.queue_up(sem, enter)
        sem.release(2)
        assert worker.result() == 0
    assert sem.value == 2


@every_kind
def test_permits_takes_nothing_before_it_is_entered_and_may_be_entered_again(make: Make) -> None:
    sem = make(3)
    permits = sem.permits(2)
    assert sem.value == 3
    for _ in range(3):
        with permits:
            assert sem.value == 1
    assert sem.value == 3


@every_kind
def test_permits_keeps_its_semaphore_alive(make: Make) -> None:
    sem = make(3)
    reference, permits = weakref.ref(sem), sem.permits(2)
    del sem
    gc.collect()
    with permits:
        assert reference() is not None
    del permits
    gc.collect()
    assert reference() is None


# ---- whose turn it is ----


def test_fair_serves_in_the_order_of_arrival() -> None:
    sem, order = Semaphore(0, fair=True), []

    def take(name: int) -> None:
        sem.acquire()
        order.append(name)

    with Crew() as crew:
        for name in range(12):
            crew.queue_up(sem, take, name)
        for turn in range(12):
            sem.release()
            wait_until(lambda: len(order) == turn + 1)
    assert order == list(range(12))


def test_fair_order_holds_for_many_released_at_once() -> None:
    sem = Semaphore(0, fair=True)
    with Crew() as crew:
        workers = [crew.queue_up(sem, sem.acquire) for _ in range(12)]
        sem.release(5)
        wait_until(lambda: sum(worker.running for worker in workers) == 7)
        assert [worker.running for worker in workers] == [False] * 5 + [True] * 7
        sem.release(7)


def test_fair_order_holds_for_different_sizes() -> None:
    sem = Semaphore(0, fair=True)
    with Crew() as crew:
        first, second, third = (crew.queue_up(sem, sem.acquire, n=n) for n in (1, 3, 1))
        sem.release(3)
        assert first.result() is True
        # Two are free, enough for the third, whose turn it is not.
        wait_until(lambda: sem.value == 2)
        assert (second.running, third.running, sem.waiting) == (True, True, 2)
        sem.release(1)
        assert second.result() is True
        assert third.running
        sem.release(1)


def test_nobody_overtakes_a_fair_waiter() -> None:
    sem = Semaphore(1, fair=True)
    with Crew() as crew:
        large = crew.queue_up(sem, sem.acquire, n=2)
        assert sem.value == 1
        assert sem.try_acquire() is False
        assert sem.acquire(False) is False
        assert sem.acquire(timeout=SOON) is False
        assert (sem.value, sem.waiting) == (1, 1)
        sem.release()
        assert large.result() is True
    assert sem.value == 0


def test_fair_hands_over_at_the_release() -> None:
    sem = Semaphore(0, fair=True)
    with Crew() as crew:
        crew.queue_up(sem, sem.acquire)
        sem.release()
        # Whether the waiter has run yet or not, the permit is its.
        assert (sem.value, sem.waiting) == (0, 0)
        assert sem.try_acquire() is False


def test_an_old_waiter_is_not_overtaken_for_ever() -> None:
    sem = Semaphore(1)
    sem.acquire()
    with Crew() as crew:
        worker = crew.queue_up(sem, sem.acquire)
        # One thread that takes every permit back at once; by luck alone the waiter would hardly ever find one.
        wait_until(lambda: sem.release() or not sem.try_acquire())
        assert worker.result() is True
    assert (sem.value, sem.waiting) == (0, 0)


@every_policy
def test_fair_is_what_was_asked_for(fair: bool) -> None:
    assert Semaphore(1, fair=fair).fair is fair
    assert BoundedSemaphore(1, fair=fair).fair is fair
    assert Semaphore(1).fair is BoundedSemaphore(1).fair is False
    with pytest.raises(TypeError):
        Semaphore(1, True)  # type: ignore[call-arg]


# ---- drain ----


@every_kind
def test_drain_takes_what_is_free_and_says_how_much(make: Make) -> None:
    sem = make(5)
    sem.acquire(n=2)
    assert sem.drain() == 3
    assert sem.value == 0
    assert sem.drain() == 0
    sem.release(3)
    assert sem.value == 3


# ---- close ----


@every_kind
def test_close_fails_everyone_who_waits(make: Make) -> None:
    sem = make(1)
    sem.acquire()

    def enter() -> None:
        with sem:
            raise AssertionError("there was nothing to take")

    with Crew() as crew:
        workers = [
            crew.queue_up(sem, sem.acquire),
            crew.queue_up(sem, sem.acquire, timeout=PATIENCE),
            crew.queue_up(sem, enter),
            crew.queue_up(sem, sem.permits(1).__enter__),
        ]
        assert sem.closed is False
        sem.close()
        assert sem.closed is True
        assert [type(worker.error()) for worker in workers] == [Closed] * 4
    assert (sem.value, sem.waiting) == (0, 0)


@every_kind
def test_close_fails_every_later_acquire_even_with_permits_free(make: Make) -> None:
    sem = make(2)
    sem.close()
    sem.close()
    for call in (
        sem.acquire,
        sem.try_acquire,
        sem.__enter__,
        sem.permits(1).__enter__,
        lambda: sem.acquire(False),
        lambda: sem.acquire(timeout=0),
        lambda: sem.acquire(timeout=1, n=2),
    ):
        with pytest.raises(Closed):
            call()
    assert sem.value == 2


@every_kind
def test_release_and_drain_work_after_close(make: Make) -> None:
    sem = make(2)
    sem.acquire()
    with pytest.raises(KeyError), sem:
        sem.close()
        raise KeyError
    sem.release()
    assert sem.value == 2
    assert sem.drain() == 2
    assert sem.closed is True


def test_closed_is_an_exception_of_its_own() -> None:
    assert issubclass(Closed, Exception)
    assert not issubclass(Closed, (ValueError, OSError, RuntimeError))


# ---- resize ----


@every_policy
def test_growing_frees_permits_at_once(fair: bool) -> None:
    sem = BoundedSemaphore(1, fair=fair)
    sem.acquire()
    with Crew() as crew:
        workers = [crew.queue_up(sem, sem.acquire) for _ in range(3)]
        sem.resize(3)
        wait_until(lambda: sum(worker.running for worker in workers) == 1)
        assert (sem.capacity, sem.value, sem.waiting) == (3, 0, 1)
        sem.resize(5)
    assert (sem.capacity, sem.value) == (5, 1)
    sem.release(4)
    with pytest.raises(ValueError, match="too many times"):
        sem.release()


@every_policy
def test_shrinking_takes_what_is_free(fair: bool) -> None:
    sem = BoundedSemaphore(5, fair=fair)
    sem.acquire(n=2)
    sem.resize(3)
    assert (sem.capacity, sem.value) == (3, 1)
    sem.release(2)
    assert sem.value == 3
    with pytest.raises(ValueError, match="too many times"):
        sem.release()


@every_policy
def test_shrinking_below_what_is_held_lets_the_holders_finish(fair: bool) -> None:
    sem = BoundedSemaphore(4, fair=fair)
    sem.acquire(n=4)
    sem.resize(1)
    assert (sem.capacity, sem.value, sem.locked()) == (1, 0, True)
    for _ in range(3):
        sem.release()
        assert sem.value == 0
        assert sem.try_acquire() is False
    sem.release()
    assert sem.value == 1
    with pytest.raises(ValueError, match="too many times"):
        sem.release()
    assert sem.try_acquire() is True


@every_policy
def test_capacity_zero_is_a_pause(fair: bool) -> None:
    sem = BoundedSemaphore(2, fair=fair)
    sem.acquire()
    sem.resize(0)
    assert (sem.capacity, sem.value) == (0, 0)
    sem.release()
    assert sem.try_acquire() is False
    assert sem.acquire(timeout=SOON) is False
    with pytest.raises(ValueError, match="too many times"):
        sem.release()
    with Crew() as crew:
        worker = crew.queue_up(sem, sem.acquire, n=2)
        assert worker.running
        sem.resize(2)
        assert worker.result() is True
    assert (sem.capacity, sem.value, sem.waiting) == (2, 0, 0)


@every_policy
def test_a_waiter_for_more_than_the_new_capacity_is_told(fair: bool) -> None:
    sem = BoundedSemaphore(4, fair=fair)
    sem.acquire(n=2)
    with Crew() as crew:
        large, small = crew.queue_up(sem, sem.acquire, n=4), crew.queue_up(sem, sem.acquire, n=3)
        sem.resize(3)
        with pytest.raises(ValueError, match=r"n=4 .*capacity.* 3"):
            large.result()
        assert small.running
        sem.release(2)
        assert small.result() is True
    assert (sem.value, sem.waiting) == (0, 0)


@every_policy
@pytest.mark.parametrize(
    ("capacity", "error"),
    [
        (-1, ValueError),
        (1.5, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (LIMIT + 1, OverflowError),
        (-(2**70), ValueError),
    ],
)
def test_a_wrong_capacity_is_refused_and_nothing_happens(
    fair: bool, capacity: Any, error: type[Exception]
) -> None:
    sem = BoundedSemaphore(2, fair=fair)
    sem.acquire()
    with pytest.raises(error):
        sem.resize(capacity)
    assert (sem.capacity, sem.value, sem.waiting) == (2, 1, 0)


def test_only_a_bounded_one_has_a_capacity() -> None:
    assert BoundedSemaphore(3).capacity == 3
    assert not hasattr(Semaphore(3), "capacity")
    assert not hasattr(Semaphore(3), "resize")
    with pytest.raises(AttributeError):
        BoundedSemaphore(3).capacity = 4  # type: ignore[misc]


@every_policy
def test_the_limit_is_a_capacity(fair: bool) -> None:
    sem = BoundedSemaphore(LIMIT, fair=fair)
    sem.acquire(n=LIMIT)
    assert sem.value == 0
    sem.resize(0)
    sem.resize(LIMIT)
    assert sem.value == 0
    sem.release(LIMIT)
    assert sem.value == LIMIT
    with pytest.raises((ValueError, OverflowError)):
        sem.release()


# ---- what it shows ----


@every_kind
def test_it_shows_its_state(make: Make) -> None:
    sem = make(2)
    assert (sem.value, sem.waiting, sem.closed, sem.locked()) == (2, 0, False, False)
    sem.acquire()
    assert (sem.value, sem.locked()) == (1, False)
    sem.acquire()
    assert (sem.value, sem.locked()) == (0, True)
    with Crew() as crew:
        for there in range(3):
            crew.queue_up(sem, sem.acquire)
            assert (sem.value, sem.waiting, sem.locked()) == (0, there + 1, True)
        for left in (2, 1, 0):
            sem.release()
            wait_until(lambda: (sem.value, sem.waiting) == (0, left))
    assert (sem.value, sem.waiting) == (0, 0)


def test_it_is_locked_whenever_an_acquire_would_wait() -> None:
    sem = Semaphore(1, fair=True)
    with Crew() as crew:
        crew.queue_up(sem, sem.acquire, n=2)
        # One is free, and it is spoken for.
        assert (sem.value, sem.try_acquire(), sem.locked()) == (1, False, True)
        sem.release(2)
        wait_until(lambda: not sem.locked())
    assert (sem.value, sem.waiting) == (1, 0)


@every_kind
@pytest.mark.parametrize("name", ["value", "waiting", "fair", "closed"])
def test_what_it_shows_cannot_be_set(make: Make, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(make(1), name, 1)


@every_kind
def test_a_timed_out_acquire_leaves_nothing_behind(make: Make) -> None:
    sem = make(1)
    sem.acquire()
    for _ in range(100):
        assert sem.acquire(timeout=0.0001) is False
    assert (sem.value, sem.waiting) == (0, 0)
    sem.release()
    assert sem.value == 1
    assert sem.try_acquire() is True


@every_kind
def test_setting_the_value_serves_who_waits(make: Make) -> None:
    sem = make(1)
    sem.acquire()
    with Crew() as crew:
        crew.queue_up(sem, sem.acquire)
        sem._value = 1
    assert (sem.value, sem.waiting) == (0, 0)
