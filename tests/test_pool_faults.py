"""The thirty faults that connection pools are known for, one by one; numbers as in decision 10.

After each of them the whole capacity is there, no connection has two users, none is lost, and whoever waited was
served or told at once. 14 to 30 are in test_pool_faults_more.py.
"""

from __future__ import annotations

import gc
import logging
import threading
import time

import pytest
from pool_support import Broken, Conn, Factory, Rude, assert_whole, raising
from support import Crew, wait_until

from sluicegate import ConnectionPool, NotOwned, PoolTimeout
from sluicegate.pool import Backoff

ERRORS = [Broken(), Rude(), KeyboardInterrupt(), SystemExit(), GeneratorExit()]
every_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@every_error
def test_01_a_factory_that_raises_takes_no_capacity_and_its_caller_gets_the_error(
    error: BaseException,
) -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 2)
    for take in (pool.acquire, pool.try_acquire, pool.lease, pool.connection().__enter__):
        factory.fail.append(error)
        with pytest.raises(type(error)) as told:
            take()
        assert told.value is error
        assert pool.size == 0
    assert pool.stats().create_failed == 4
    assert_whole(pool)


def test_01_a_factory_that_returns_no_connection_or_one_twice_is_refused() -> None:
    pool = ConnectionPool(lambda: None, 2)
    with pytest.raises(TypeError, match="returned None"):
        pool.acquire()
    conn = Conn()
    pool2 = ConnectionPool(lambda: conn, 2)
    assert pool2.acquire() is conn
    with pytest.raises(Exception, match="which the pool has already"):
        pool2.acquire()
    assert (pool.size, pool2.size, conn.closed) == (0, 1, 0)


@every_error
def test_02_a_failed_creation_serves_the_next_waiter_at_once(error: BaseException) -> None:
    started, go = threading.Event(), threading.Event()
    factory = Factory()

    def slow_first() -> Conn:
        if not started.is_set():
            started.set()
            go.wait()
            raise error
        return factory()

    pool = ConnectionPool(slow_first, 1)
    with Crew() as crew:
        guilty = crew.start(pool.acquire)
        started.wait()
        waiter = crew.queue_up(pool, pool.acquire)
        go.set()
        assert guilty.error() is error
        pool_conn = waiter.result(patience=5)
        crew.start(lambda: None)
    assert pool.in_use == 1
    assert pool_conn in factory.made


def test_03_a_factory_that_hangs_holds_up_nobody_else() -> None:
    hang, started = threading.Event(), threading.Event()
    factory = Factory()

    def create() -> Conn:
        if len(factory.made) == 1 and not started.is_set():
            started.set()
            hang.wait()
        return factory()

    pool = ConnectionPool(create, 2)
    conn = pool.acquire()
    with Crew() as crew:
        crew.start(lambda: pool.release(pool.acquire()))
        started.wait()
        begin = time.monotonic()
        for _ in range(100):
            pool.release(conn)
            conn = pool.acquire(timeout=1)
        assert time.monotonic() - begin < 5
        pool.release(conn)
        hang.set()
    assert_whole(pool)


def test_03_a_time_limit_for_the_factory_holds_and_its_late_connection_joins_the_pool() -> None:
    hang = threading.Event()
    factory = Factory()

    def create() -> Conn:
        hang.wait()
        return factory()

    pool = ConnectionPool(create, 1, create_timeout=0.02)
    begin = time.monotonic()
    with pytest.raises(PoolTimeout, match="the factory gave no connection within"):
        pool.acquire(timeout=10)
    assert time.monotonic() - begin < 5
    with pytest.raises(PoolTimeout, match="size=1"):
        pool.acquire(timeout=0.01)
    hang.set()
    wait_until(lambda: pool.idle == 1)
    assert pool.acquire() is factory.made[0]
    pool.release(factory.made[0])
    assert_whole(pool)


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
def test_03_a_factory_with_a_time_limit_that_raises_takes_no_capacity(late: bool) -> None:
    hang = threading.Event()
    factory = Factory()
    factory.fail.append(Broken("late"))

    def create() -> Conn:
        if late and factory.fail:
            hang.wait()
        return factory()

    pool = ConnectionPool(create, 1, create_timeout=0.02 if late else 30)
    with pytest.raises(PoolTimeout if late else Broken):
        pool.acquire()
    hang.set()
    wait_until(lambda: pool.size == 0)
    assert_whole(pool)


def test_04_a_returned_connection_goes_to_a_waiter_while_the_factory_hangs() -> None:
    hang, started = threading.Event(), threading.Event()
    factory = Factory()

    def create() -> Conn:
        if len(factory.made) == 1 and not started.is_set():
            started.set()
            hang.wait()
        return factory()

    pool = ConnectionPool(create, 2)
    conn = pool.acquire()
    with Crew() as crew:
        crew.start(lambda: pool.release(pool.acquire()))
        started.wait()
        waiter = crew.queue_up(pool, pool.acquire)
        pool.release(conn)
        assert waiter.result(patience=5) is conn
        hang.set()
    assert pool.size == 2


def test_05_when_every_idle_connection_is_dead_one_check_and_one_creation_do() -> None:
    factory = Factory()
    checks: list[Conn] = []

    def check(conn: Conn) -> None:
        checks.append(conn)
        if conn.dead:
            raise Broken

    pool = ConnectionPool(factory, 5, check=check, check_after=30)
    taken = [pool.acquire() for _ in range(5)]
    for conn in taken:
        conn.dead = True
        pool.release(conn)
    # A rest of 30 s is not waited for: the first failure has the others looked at.
    assert pool.check() == 5
    assert all(conn.closed for conn in taken)
    assert_whole(pool)

    checks.clear()
    pool = ConnectionPool(factory, 3, check=check, check_after=0.01)
    taken = [pool.acquire() for _ in range(3)]
    for conn in taken:
        conn.dead = True
        pool.release(conn)
    time.sleep(0.02)
    begin = time.monotonic()
    fresh = pool.acquire(timeout=1)
    assert (len(checks), fresh.dead) == (1, False)
    others = [pool.acquire(timeout=1) for _ in range(2)]
    assert not any(conn.dead for conn in others)
    assert time.monotonic() - begin < 1
    for conn in [fresh, *others]:
        pool.release(conn)
    assert pool.stats().failed == 3
    assert_whole(pool)


@every_error
def test_05_a_check_that_raises_has_the_connection_replaced_or_the_error_raised(error: BaseException) -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 2, check=raising(error), check_after=0)
    pool.release(pool.acquire())
    if isinstance(error, Exception):
        pool.release(pool.acquire())
    else:
        with pytest.raises(type(error)):
            pool.acquire()
    assert factory.made[0].closed
    assert_whole(pool)


def test_06_a_connection_that_dies_while_it_is_out_is_closed_and_makes_room() -> None:
    pool = ConnectionPool(Factory(), 1, check=lambda conn: not conn.dead)
    with Crew() as crew:
        with pytest.raises(Broken), pool.connection() as conn:
            waiter = crew.queue_up(pool, pool.acquire)
            conn.dead = True
            raise Broken
        assert conn.closed
        fresh = waiter.result(patience=5)
        assert fresh is not conn
        crew.start(lambda: None)
    with Crew() as crew:
        waiter = crew.queue_up(pool, pool.acquire)
        assert pool.holders()[0].conn is fresh
        # Its holder has ended, so this thread may close it; the new waiter may even have the holder's identifier.
        pool.discard(fresh)
        assert waiter.result(patience=5) not in (fresh, conn)


def test_07_a_connection_of_a_thread_that_has_ended_is_reported_and_may_be_returned() -> None:
    pool = ConnectionPool(Factory(), 1, leak_after=60)
    kept: list[Conn] = []
    with Crew() as crew:
        crew.start(lambda: kept.append(pool.acquire()))
    (holder,) = pool.holders()
    assert holder.conn is kept[0]
    with pytest.raises(PoolTimeout, match="has ended"):
        pool.acquire(timeout=0)
    wait_until(lambda: pool.holders()[0].ended)
    pool.release(kept[0])
    assert_whole(pool)


@pytest.mark.thread_unsafe(reason="each would be given the identifiers of the others' threads")
def test_07_a_thread_with_the_identifier_of_one_that_has_ended_is_another_one() -> None:
    pool = ConnectionPool(Factory(), 1)
    taken: dict[int, Conn] = {}
    alive: set[int] = set()
    end = threading.Event()

    def take() -> None:
        taken[threading.get_ident()] = pool.acquire()

    def live() -> None:
        alive.add(threading.get_ident())
        end.wait()

    with Crew() as crew:
        crew.start(take)
    ((ident, conn),) = taken.items()
    with Crew() as crew:
        try:
            # The system soon gives one of them the stack of the thread that has ended, and so its identifier.
            for number in range(1, 257):
                crew.start(live)
                wait_until(lambda: len(alive) == number)
                if ident in alive:
                    break
            assert ident in alive
            (holder,) = pool.holders()
            assert (holder.thread, holder.ended) == (ident, True)
            with pytest.raises(PoolTimeout, match=f"by thread {ident}, which has ended"):
                pool.acquire(timeout=0)
            pool.release(conn)
        finally:
            end.set()
    assert_whole(pool)


@pytest.mark.thread_unsafe(reason="the log is the process's")
def test_07_a_connection_held_for_too_long_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    pool = ConnectionPool(Factory(), 1, leak_after=0.01, background=True, name="leaky")
    with caplog.at_level(logging.WARNING, "sluicegate.pool"), pool.connection():
        wait_until(lambda: caplog.records)
        time.sleep(1.2)
    assert len(caplog.records) == 1
    assert "pool 'leaky': <Conn" in caplog.text
    assert "test_pool_faults.py" in caplog.text


def test_08_a_lease_that_is_collected_returns_its_connection_and_says_where_it_was_taken() -> None:
    resets: list[Conn] = []
    pool = ConnectionPool(Factory(), 1, reset=resets.append)
    with pytest.warns(
        ResourceWarning, match=r"(?s)<Conn \d+> was not returned.*test_pool_faults.py:\d+ in test_08"
    ):
        pool.lease()
    assert (pool.idle, len(resets)) == (1, 1)
    cycle: list[object] = [pool.lease()]
    cycle.append(cycle)
    del cycle
    with pytest.warns(ResourceWarning, match="not returned"):
        gc.collect()
    assert_whole(pool)


def test_08_a_with_block_that_is_never_left_returns_its_connection_when_it_is_collected() -> None:
    pool = ConnectionPool(Factory(), 1)
    with pytest.warns(ResourceWarning, match="with block that was never left"):
        pool.connection().__enter__()
    assert_whole(pool)


@pytest.mark.skipif(
    not getattr(__import__("sys"), "_is_gil_enabled", lambda: True)(), reason="counts references"
)
def test_08_a_connection_that_nobody_has_any_more_is_taken_back_by_whoever_needs_it() -> None:
    pool = ConnectionPool(Conn, 2)
    held = pool.acquire()
    pool.acquire()
    assert pool.in_use == 2
    with pytest.warns(ResourceWarning, match="dropped without a return"):
        other = pool.acquire(timeout=5)
    assert other is not held
    pool.release(held)
    pool.release(other)
    assert_whole(pool)


@pytest.mark.parametrize("hook", ["reset", "on_release"])
@every_error
def test_09_a_reset_that_raises_closes_the_connection_and_serves_the_next(
    hook: str, error: BaseException
) -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 1, **{hook: raising(error)})  # type: ignore[arg-type]
    conn = pool.acquire()
    with Crew() as crew:
        waiter = crew.queue_up(pool, lambda: pool.release(pool.acquire()))
        if isinstance(error, Exception):
            pool.release(conn)
        else:
            with pytest.raises(type(error)):
                pool.release(conn)
        waiter.result(patience=5)
    assert conn.closed
    assert_whole(pool)


def test_10_a_close_that_hangs_keeps_nobody_waiting() -> None:
    hang, started = threading.Event(), threading.Event()
    factory = Factory()

    def close(conn: Conn) -> None:
        started.set()
        hang.wait()

    pool = ConnectionPool(factory, 1, close=close)
    with Crew() as crew:
        crew.start(lambda: pool.discard(pool.acquire()))
        started.wait()
        with pool.connection(timeout=5):
            pass
        assert pool.idle == 1
        hang.set()


def test_10_a_reset_that_hangs_keeps_only_its_own_connection() -> None:
    hang, started = threading.Event(), threading.Event()

    def reset(conn: Conn) -> None:
        if not started.is_set():
            started.set()
            hang.wait()

    pool = ConnectionPool(Factory(), 2, reset=reset)
    with Crew() as crew:
        crew.start(lambda: pool.release(pool.acquire()))
        started.wait()
        for _ in range(3):
            with pool.connection(timeout=5):
                pass
        hang.set()
    assert_whole(pool)


@every_error
def test_10_a_close_that_raises_loses_nothing(error: BaseException) -> None:
    pool = ConnectionPool(Factory(), 1, close=raising(error))
    conn = pool.acquire()
    if isinstance(error, Exception):
        pool.discard(conn)
    else:
        with pytest.raises(type(error)):
            pool.discard(conn)
    assert_whole(pool)


@pytest.mark.parametrize("reset", [None, lambda conn: None], ids=["plain", "reset"])
def test_11_a_second_return_is_an_error_of_the_one_who_makes_it(reset: object) -> None:
    pool = ConnectionPool(Factory(), 1, reset=reset)  # type: ignore[arg-type]
    conn = pool.acquire()
    pool.release(conn)
    for again in (pool.release, pool.discard, pool.close_conn):
        with pytest.raises(NotOwned, match="was returned to the pool before"):
            again(conn)
    assert (conn.closed, pool.idle) == (0, 1)
    assert_whole(pool)


def test_11_a_second_return_does_not_take_the_connection_from_who_has_it_now() -> None:
    pool = ConnectionPool(Factory(), 1)
    conn = pool.acquire()
    pool.release(conn)
    taken, go = threading.Event(), threading.Event()

    def innocent() -> None:
        with pool.connection() as mine:
            assert mine is conn
            taken.set()
            go.wait()

    with Crew() as crew:
        crew.start(innocent)
        taken.wait()
        with pytest.raises(NotOwned, match="with another user now"):
            pool.release(conn)
        with pytest.raises(NotOwned, match="with another user now"):
            pool.discard(conn)
        assert (pool.in_use, pool.try_acquire()) == (1, None)
        go.set()
    assert_whole(pool)


def test_11_a_second_return_while_the_first_is_being_reset_is_refused() -> None:
    pool: ConnectionPool[Conn]
    seen: list[BaseException] = []

    def reset(conn: Conn) -> None:
        try:
            pool.release(conn)
        except NotOwned as error:
            seen.append(error)

    pool = ConnectionPool(Factory(), 1, reset=reset)
    pool.release(pool.acquire())
    assert len(seen) == 1
    assert_whole(pool)


def test_12_a_return_to_another_pool_is_refused_and_changes_neither() -> None:
    one, two = ConnectionPool(Factory(), 1, name="one"), ConnectionPool(Factory(), 1, name="two")
    conn = one.acquire()
    two.release(two.acquire())
    for wrong in (two.release, two.discard):
        with pytest.raises(NotOwned, match=r"does not belong to pool .two."):
            wrong(conn)
    with pytest.raises(NotOwned):
        two.release(Conn())
    assert (one.in_use, two.idle, conn.closed) == (1, 1, 0)
    one.release(conn)
    assert_whole(one)
    assert_whole(two)


def test_13_a_lease_gives_no_connection_after_its_return() -> None:
    pool = ConnectionPool(Factory(), 1)
    with pool.lease() as conn:
        assert conn.closed == 0
    lease = pool.lease()
    lease.release()
    with pytest.raises(NotOwned):
        lease.conn
    assert_whole(pool)


@every_error
@pytest.mark.parametrize("hook", ["on_create", "on_acquire"])
def test_28_a_hook_that_raises_on_the_way_out_takes_no_capacity(hook: str, error: BaseException) -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 1, **{hook: raising(error)})  # type: ignore[arg-type]
    with pytest.raises(type(error)) as told:
        pool.acquire()
    assert told.value is error
    assert (pool.size, len(factory.open)) == ((0, 0) if hook == "on_create" else (1, 1))
    assert_whole(pool)


def test_24_after_an_outage_one_thread_tries_at_a_time_and_all_are_served() -> None:
    down, tries, trying, most = True, 0, 0, 0
    lock = threading.Lock()
    factory = Factory()

    def create() -> Conn:
        nonlocal tries, trying, most
        with lock:
            tries, trying = tries + 1, trying + 1
            most = max(most, trying)
        time.sleep(0.01)
        with lock:
            trying -= 1
        if down:
            raise Broken
        return factory()

    pool = ConnectionPool(create, 8, retry=Backoff(0.02, 0.5, 0.5))
    with pytest.raises(PoolTimeout) as told:
        pool.acquire(timeout=0.05)
    assert isinstance(told.value.__cause__, Broken)
    tries = most = 0
    with Crew() as crew:
        workers = [crew.start(pool.acquire, timeout=20) for _ in range(8)]
        time.sleep(0.3)
        assert (most, tries > 1) == (1, True)
        assert tries < 0.3 / 0.01
        down = False
        assert len({worker.result(patience=20) for worker in workers}) == 8
