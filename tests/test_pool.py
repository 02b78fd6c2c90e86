"""ConnectionPool, promise by promise; what goes wrong is in test_pool_faults.py."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from pool_support import Conn, Factory, assert_whole
from support import Crew, alone, wait_until

from sluicegate import (
    BoundedSemaphore,
    ConnectionPool,
    NotOwned,
    PoolClosed,
    PoolError,
    PoolFull,
    PoolTimeout,
    Semaphore,
)
from sluicegate.pool import Histogram


def test_a_connection_is_opened_when_none_is_idle_and_used_again_when_one_is() -> None:
    pool = ConnectionPool(Factory(), 2)
    first = pool.acquire()
    second = pool.acquire()
    assert first is not second
    pool.release(second)
    assert pool.acquire() is second
    assert (pool.size, pool.in_use, pool.idle) == (2, 2, 0)


def test_the_newest_idle_connection_is_used_first_or_the_oldest() -> None:
    for lifo in (True, False):
        pool = ConnectionPool(Factory(), 2, lifo=lifo)
        old, new = pool.acquire(), pool.acquire()
        pool.release(old)
        pool.release(new)
        assert pool.acquire() is (new if lifo else old)


def test_a_with_block_returns_its_connection_however_it_ends() -> None:
    pool = ConnectionPool(Factory(), 1)
    with pool.connection() as conn:
        assert (pool.in_use, conn.closed) == (1, 0)
    with pytest.raises(KeyError), pool.connection(timeout=None) as again:
        assert again is conn
        raise KeyError
    assert (pool.in_use, conn.closed) == (0, 0)
    assert_whole(pool)


def test_a_connection_context_is_entered_once_at_a_time() -> None:
    pool = ConnectionPool(Factory(), 2)
    context = pool.connection()
    with context, pytest.raises(RuntimeError, match="entered already"):
        context.__enter__()
    with context:
        assert pool.in_use == 1
    assert_whole(pool)


def test_the_other_names_are_acquire_and_release() -> None:
    pool = ConnectionPool(Factory(), 1)
    conn = pool.get_conn(timeout=1)
    pool.close_conn(conn)
    assert (conn.closed, pool.idle) == (0, 1)


def test_try_acquire_never_waits() -> None:
    pool = ConnectionPool(Factory(), 1)
    conn = pool.try_acquire()
    assert conn is not None
    assert pool.try_acquire() is None
    pool.release(conn)
    assert pool.try_acquire() is conn


def test_a_lease_has_its_connection_until_it_is_released() -> None:
    pool = ConnectionPool(Factory(), 1)
    lease = pool.lease()
    assert (lease.conn.closed, pool.in_use) == (0, 1)
    lease.release()
    for use in (lambda: lease.conn, lease.release, lease.discard):
        with pytest.raises(NotOwned, match="the lease has ended"):
            use()
    with pool.lease(timeout=1) as conn:
        assert isinstance(conn, Conn)
    pool.lease().discard()
    assert (pool.size, conn.closed) == (0, 1)


def test_a_lease_may_be_released_by_another_thread() -> None:
    pool = ConnectionPool(Factory(), 1)
    lease = pool.lease()
    with Crew() as crew:
        crew.start(lease.release)
    assert pool.idle == 1


def test_discard_closes_and_makes_room() -> None:
    pool = ConnectionPool(Factory(), 1)
    conn = pool.acquire()
    pool.discard(conn)
    assert (conn.closed, pool.size) == (1, 0)
    assert pool.acquire() is not conn


def test_a_connection_discarded_in_its_with_block_is_not_missed() -> None:
    pool = ConnectionPool(Factory(), 1)
    with pool.connection() as conn:
        pool.discard(conn)
    assert (conn.closed, pool.size) == (1, 0)
    assert_whole(pool)


def test_a_timeout_says_what_it_saw() -> None:
    pool = ConnectionPool(Factory(), 1, timeout=0.02, name="db", leak_after=60)
    held = pool.acquire()
    begin = time.monotonic()
    with pytest.raises(
        PoolTimeout, match=r"(?s)pool 'db' within 0.0.*size=1, in_use=1, idle=0, waiting=0"
    ) as told:
        pool.acquire()
    assert time.monotonic() - begin >= 0.02
    assert isinstance(told.value, TimeoutError)
    assert isinstance(told.value, PoolError)
    assert "MainThread" in str(told.value) or "thread" in str(told.value)
    assert f"taken at {__file__}" in str(told.value)
    assert (told.value.size, told.value.in_use, told.value.idle, told.value.waiting) == (1, 1, 0, 0)
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    pool.release(held)
    assert pool.stats().timeouts == 2
    assert_whole(pool)


def test_waiters_are_served_in_the_order_of_their_arrival() -> None:
    pool = ConnectionPool(Factory(), 1)
    conn, order = pool.acquire(), []

    def wait(number: int) -> None:
        mine = pool.acquire()
        order.append(number)
        time.sleep(0.001)
        pool.release(mine)

    with Crew() as crew:
        for number in range(6):
            crew.queue_up(pool, wait, number)
        time.sleep(0.001)
        pool.release(conn)
    assert order == list(range(6))


def test_max_waiting_refuses_who_comes_too_late() -> None:
    pool = ConnectionPool(Factory(), 1, max_waiting=1)
    conn = pool.acquire()
    with Crew() as crew:
        waiter = crew.queue_up(pool, pool.acquire)
        with pytest.raises(PoolFull, match="waiting=1"):
            pool.acquire()
        assert pool.try_acquire() is None
        pool.release(conn)
        assert waiter.result() is conn
    assert pool.stats().refused == 1


def test_callbacks_are_called_in_their_places() -> None:
    said: list[str] = []

    def says(word: str) -> Any:
        return lambda conn: said.append(word)

    pool = ConnectionPool(
        Conn, 1, check=says("check"), check_after=0, reset=says("reset"), close=says("close"),
        on_create=says("create"), on_acquire=says("acquire"), on_release=says("release"),
    )  # fmt: skip
    with pool.connection():
        said.append("use")
    with pytest.raises(KeyError), pool.connection():
        raise KeyError
    pool.close()
    assert said == [
        "create", "acquire", "use", "release", "reset",
        "check", "acquire", "release", "check", "reset",
        "close",
    ]  # fmt: skip


def test_a_check_is_made_only_after_a_rest() -> None:
    checked: list[Conn] = []
    pool = ConnectionPool(Factory(), 1, check=checked.append, check_after=0.05)
    for _ in range(3):
        pool.release(pool.acquire())
    assert checked == []
    time.sleep(0.06)
    pool.release(pool.acquire())
    assert len(checked) == 1


def test_a_connection_past_its_lifetime_is_replaced_at_its_return_or_its_next_use() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 1, max_lifetime=0.03, jitter=0)
    conn = pool.acquire()
    time.sleep(0.04)
    pool.release(conn)
    assert (conn.closed, pool.size) == (1, 0)
    pool.release(pool.acquire())
    time.sleep(0.04)
    fresh = pool.acquire()
    assert fresh is factory.made[2]
    assert factory.made[1].closed
    assert pool.stats().expired == 2


def test_connections_that_rest_for_too_long_are_closed_by_the_way() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 3, max_idle=0.03)
    taken = [pool.acquire() for _ in range(3)]
    for conn in taken:
        pool.release(conn)
    busy = pool.acquire()
    time.sleep(0.04)
    pool.release(busy)
    assert factory.open == [busy]
    assert_whole(pool)


def test_resize_closes_what_is_too_many_and_serves_who_waits() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 3)
    taken = [pool.acquire() for _ in range(3)]
    pool.release(taken.pop())
    pool.resize(1)
    assert (pool.size, pool.idle, len(factory.open)) == (2, 0, 2)
    pool.release(taken.pop())
    assert (pool.size, pool.idle) == (1, 0)
    with Crew() as crew:
        waiter = crew.queue_up(pool, pool.acquire)
        pool.resize(2)
        other = waiter.result()
        assert other not in taken
    with pytest.raises(ValueError, match="min_size=5 is more than max_size=2"):
        pool.resize(2, 5)
    pool.resize(4, 2)
    assert (pool.max_size, pool.min_size) == (4, 2)


def test_check_closes_the_dead_and_says_how_many_there_were() -> None:
    pool = ConnectionPool(Factory(), 3, check=lambda conn: not conn.dead)
    taken = [pool.acquire() for _ in range(3)]
    for conn in taken:
        conn.dead = conn is not taken[1]
        pool.release(conn)
    assert pool.check() == 2
    assert pool.idle == 1
    assert pool.acquire() is taken[1]


def test_drain_has_every_connection_replaced() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 2)
    busy, idle = pool.acquire(), pool.acquire()
    pool.release(idle)
    pool.drain()
    assert (idle.closed, busy.closed) == (1, 0)
    pool.release(busy)
    assert (busy.closed, pool.size) == (1, 0)
    fresh = pool.acquire()
    pool.release(fresh)
    assert pool.idle == 1


def test_wait_opens_the_least_there_is_to_be() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 4, min_size=2, background=False)
    assert pool.size == 0
    pool.wait()
    assert (pool.size, pool.idle) == (2, 2)
    pool.close()
    with pytest.raises(PoolClosed):
        pool.wait()


def test_a_helper_thread_opens_the_least_and_closes_what_is_too_old() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 4, min_size=2, max_lifetime=0.2, jitter=0)
    wait_until(lambda: pool.idle == 2)
    wait_until(lambda: len(factory.made) >= 4 and pool.idle == 2)
    assert len(factory.open) == 2
    pool.close()


def test_a_limit_caps_what_two_pools_have_open() -> None:
    for limit in (Semaphore(2), BoundedSemaphore(2)):
        one, two = (ConnectionPool(Factory(), 5, limit=limit, timeout=0.05) for _ in range(2))
        a, b = one.acquire(), two.acquire()
        assert limit.value == 0
        with pytest.raises(PoolTimeout):
            one.acquire()
        one.discard(a)
        assert limit.value == 1
        c = two.acquire()
        two.release(c)
        two.release(b)
        assert two.close()
        assert limit.value == 2
        assert_capacity(one, limit)


def assert_capacity(pool: ConnectionPool[Conn], limit: Semaphore) -> None:
    taken = [pool.acquire() for _ in range(2)]
    for conn in taken:
        pool.release(conn)
    assert pool.close()
    assert limit.value == 2


def test_a_pool_gives_up_an_idle_connection_when_another_waits_for_the_limit() -> None:
    limit = BoundedSemaphore(1)
    one, two = (ConnectionPool(Factory(), 5, limit=limit) for _ in range(2))
    conn = one.acquire()
    with Crew() as crew:
        waiter = crew.start(two.acquire)
        wait_until(lambda: limit.waiting)
        one.release(conn)
        assert waiter.result() is not conn
    assert (conn.closed, one.size) == (1, 0)


def test_stats_count_what_happens_and_time_it() -> None:
    pool = ConnectionPool(Factory(), 1)
    with pool.connection():
        time.sleep(0.01)
    stats = pool.stats()
    assert (stats.acquired, stats.returned, stats.created, stats.size, stats.idle) == (1, 1, 1, 1, 1)
    assert stats.use.count == stats.create.count == 1
    assert stats.wait.count == 0
    assert 0.01 <= stats.use.max <= 5
    assert stats.use.quantile(0.99) >= 0.01
    assert stats.use.mean == pytest.approx(stats.use.max)


def test_a_histogram_bounds_its_quantiles_within_a_factor_of_two() -> None:
    histogram = Histogram(tuple([0] * 10 + [99] + [0] * 9 + [1]), sum=1.0, max=0.001)
    assert histogram.count == 100
    assert histogram.quantile(0.5) == 2**10 / 1e9
    assert histogram.quantile(1) == 0.001
    assert Histogram((0,) * 48, 0.0, 0.0).quantile(0.5) == 0.0
    with pytest.raises(ValueError, match=r"0\.\.1"):
        histogram.quantile(2)


def test_holders_say_who_has_what() -> None:
    pool = ConnectionPool(Factory(), 2, leak_after=60)
    conn = pool.acquire()
    time.sleep(0.005)
    other = pool.acquire()
    first, second = pool.holders()
    assert (first.conn, second.conn) == (conn, other)
    assert first.held >= 0.005 > second.held
    assert first.where is not None
    assert "test_holders_say_who_has_what" in first.where


def test_close_ends_everything() -> None:
    factory = Factory()
    with ConnectionPool(factory, 2) as pool:
        pool.release(pool.acquire())
    assert pool.closed
    assert factory.open == []
    for use in (pool.acquire, pool.try_acquire, pool.lease, pool.connection().__enter__):
        with pytest.raises(PoolClosed, match="the pool is closed"):
            use()
    assert pool.close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None,), TypeError, "factory must be callable, not NoneType"),
        ((Conn, 0), ValueError, "max_size must be one or more"),
        ((Conn, "4"), TypeError, "not supported between"),
        ((Conn, 2, {"min_size": 3}), ValueError, "min_size=3 is more than max_size=2"),
        ((Conn, 2, {"timeout": -1}), ValueError, "timeout must be >= 0 or None, got -1"),
        ((Conn, 2, {"max_idle": float("nan")}), ValueError, "max_idle must be >= 0 or None, got NaN"),
        ((Conn, 2, {"jitter": 2}), ValueError, r"jitter must be in 0\.\.1, got 2"),
        ((Conn, 2, {"check": 3}), TypeError, "check must be callable, not int"),
        ((Conn, 2, {"max_waiting": -1}), ValueError, "max_waiting must be >= 0"),
    ],
)
def test_arguments_without_sense_are_refused(
    arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    *positional, last = arguments
    keywords = last if isinstance(last, dict) else {}
    with pytest.raises(error, match=words):
        ConnectionPool(*(positional if keywords else arguments), **keywords)


def test_a_subclass_may_have_an_init_of_its_own() -> None:
    class Pool(ConnectionPool[Conn]):
        def __init__(self, size: int) -> None:
            super().__init__(Conn, size)

    assert Pool(3).max_size == 3

    class Careless(ConnectionPool[Conn]):
        def __init__(self) -> None:
            pass

    with pytest.raises(AttributeError, match="not initialised"):
        Careless().acquire()


def test_a_pool_in_a_cycle_is_collected_with_its_connections() -> None:
    class Thing:
        pool: Any = None

    pool = ConnectionPool(Thing, 2)
    with pool.connection() as conn:
        conn.pool = pool
        watch = weakref.ref(conn)
    seen = weakref.ref(pool)
    del conn, pool
    gc.collect()
    assert watch() is None
    assert seen() is None


@alone()
def test_a_collection_at_any_moment_of_a_pools_making_finds_nothing_half_made() -> None:
    class Pool(ConnectionPool[Conn]):
        pass

    class Bare(ConnectionPool[Conn]):
        __slots__ = ()

    gc.set_threshold(1, 1, 1)
    for _ in range(300):
        for make in (ConnectionPool, Pool, Bare):
            pool = make(Conn, 2)
            with pool.connection(), pool.lease():
                pool.stats()
    gc.set_threshold(700, 10, 10)


@pytest.mark.skipif(sys.platform == "win32", reason="it starts a thread as POSIX has them")
def test_a_thread_that_python_has_not_started_has_ended_when_the_system_says_so() -> None:
    pool = ConnectionPool(Conn, 1)
    taken: list[Conn] = []
    looked = threading.Event()

    def take(_: object) -> None:
        taken.append(pool.acquire())
        looked.wait()

    libc, thread = ctypes.CDLL(None), ctypes.c_void_p()
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(take)
    assert libc.pthread_create(ctypes.byref(thread), None, entry, None) == 0
    try:
        wait_until(lambda: taken)
        with pytest.raises(NotOwned):
            pool.release(taken[0])
        assert not pool.holders()[0].ended
    finally:
        looked.set()
        assert libc.pthread_join(thread, None) == 0
    assert pool.holders()[0].ended
    pool.release(taken[0])
    assert_whole(pool)
