"""Faults 14 to 30; see test_pool_faults.py."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable

import pytest
from pool_support import Conn, Factory, assert_whole
from support import PATIENCE, Crew, Worker, alone, in_child, report, run_python, wait_until

from sluicegate import (
    ConnectionPool,
    NotOwned,
    PoolClosed,
    PoolDeadlock,
    PoolFull,
    PoolTimeout,
    Semaphore,
)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def interrupt_when(fact: Callable[[], object]) -> Worker:
    """Sends Ctrl-C to this process as soon as something is so."""

    def send() -> None:
        wait_until(fact)
        os.kill(os.getpid(), signal.SIGINT)

    return Worker(send)


@alone()
def test_14_ctrl_c_ends_a_wait_and_loses_no_connection() -> None:
    pool = ConnectionPool(Factory(), 2)
    held = [pool.acquire(), pool.acquire()]
    for timeout in (None, 60):
        watch = interrupt_when(lambda: pool.waiting == 1)
        with pytest.raises(KeyboardInterrupt):
            pool.acquire(timeout=timeout)
        watch.result()
        assert pool.waiting == 0
    for conn in held:
        pool.release(conn)
    assert_whole(pool)


@alone(120)
def test_14_ctrl_c_at_any_moment_of_a_hand_over_loses_no_connection() -> None:
    pool = ConnectionPool(Factory(), 1)
    stop, count = False, 0

    def use() -> None:
        while not stop:
            with pool.connection() as conn:
                conn.enter()
                time.sleep(random.random() * 0.0004)
                conn.leave()

    def send() -> None:
        while not stop:
            time.sleep(random.random() * 0.002)
            os.kill(os.getpid(), signal.SIGINT)

    users = [Worker(use) for _ in range(2)]
    sender: Worker | None = None
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try:
            sender = sender or Worker(send)
            while time.monotonic() < end:
                # What is interrupted between the two calls of a hand-written pair is lost by Python, not by the pool.
                with pool.connection() as conn:
                    conn.number += 0
        except KeyboardInterrupt:
            count += 1
    while True:
        try:
            stop = True
            if sender is not None:
                sender.result()
            for user in users:
                user.result()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            break
        except KeyboardInterrupt:
            count += 1
    print(f"{count} interrupts")
    assert count > 10
    assert_whole(pool)


@alone()
def test_15_ctrl_c_inside_the_factory_takes_no_capacity() -> None:
    inside = threading.Event()
    factory = Factory()

    def create() -> Conn:
        if not inside.is_set():
            inside.set()
            time.sleep(60)
        return factory()

    pool = ConnectionPool(create, 1)
    watch = interrupt_when(inside.is_set)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    watch.result()
    assert pool.size == 0
    assert_whole(pool)


@alone()
def test_15_ctrl_c_while_a_helper_thread_opens_takes_no_capacity() -> None:
    inside, go = threading.Event(), threading.Event()
    factory = Factory()

    def create() -> Conn:
        inside.set()
        go.wait()
        return factory()

    pool = ConnectionPool(create, 1, create_timeout=60)
    watch = interrupt_when(inside.is_set)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    watch.result()
    go.set()
    wait_until(lambda: pool.idle == 1)
    assert_whole(pool)


def test_16_a_timeout_that_meets_a_hand_over_loses_nothing() -> None:
    pool = ConnectionPool(Factory(), 1)

    def race(seed: int) -> int:
        draw, got = random.Random(seed), 0
        for _ in range(300):
            try:
                conn = pool.acquire(timeout=draw.random() * 0.0006)
            except PoolTimeout:
                continue
            got += 1
            conn.enter()
            time.sleep(draw.random() * 0.0004)
            conn.leave()
            pool.release(conn)
        return got

    with Crew() as crew:
        for seed in range(6):
            crew.start(race, seed)
        assert sum(crew.results()) > 0
    assert_whole(pool)


def test_17_close_tells_every_waiter_at_once() -> None:
    pool = ConnectionPool(Factory(), 1)
    conn = pool.acquire()
    with Crew() as crew:
        waiters = [crew.queue_up(pool, pool.acquire, timeout=timeout) for timeout in (None, 3600, None)]
        assert not pool.close(timeout=0)
        for waiter in waiters:
            assert isinstance(waiter.error(patience=5), PoolClosed)
    assert conn.closed == 0
    pool.release(conn)
    assert (conn.closed, pool.size) == (1, 0)


def test_18_close_waits_for_the_connections_that_are_out_and_they_are_closed_when_they_return() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 3)
    held = [pool.acquire(), pool.acquire()]
    idle = pool.acquire()
    pool.release(idle)
    with Crew() as crew:
        closer = crew.start(pool.close, timeout=None)
        wait_until(lambda: pool.closed and idle.closed)
        for conn in held:
            assert closer.running
            pool.release(conn)
        assert closer.result(patience=5) is True
    assert factory.open == []


def test_18_close_by_force_closes_what_is_out_and_forgives_its_return() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 2)
    held = [pool.acquire(), pool.acquire()]
    assert pool.close(timeout=0.01, force=True)
    assert factory.open == []
    pool.release(held[0])
    with pytest.raises(NotOwned):
        pool.release(held[0])
    pool.discard(held[1])
    assert all(conn.closed == 1 for conn in held)


def test_18_close_does_not_wait_for_what_its_own_thread_holds() -> None:
    pool = ConnectionPool(Factory(), 1)
    with pool.connection() as conn:
        assert not pool.close(timeout=None)
    assert conn.closed == 1


def test_19_a_pool_made_smaller_while_all_is_out_shrinks_at_the_returns() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 4)
    held = [pool.acquire() for _ in range(4)]
    pool.resize(2)
    for conn in held:
        pool.release(conn)
    assert (pool.size, len(factory.open)) == (2, 2)
    assert_whole(pool)


# ---- fork ----


@forks
@alone()
def test_20_a_child_neither_uses_nor_closes_what_its_parent_opened() -> None:
    ends: list[socket.socket] = []

    def connect() -> socket.socket:
        mine, other = socket.socketpair()
        ends.append(other)
        return mine

    limit = Semaphore(4)
    pool = ConnectionPool(connect, 2, limit=limit)
    parents = [pool.acquire(), pool.acquire()]
    numbers = {conn.fileno() for conn in parents}
    pool.release(parents.pop())

    def child() -> None:
        assert (pool.size, pool.idle, pool.in_use, pool.waiting) == (0, 0, 0, 0)
        taken = [pool.acquire(), pool.acquire()]
        assert not numbers & {conn.fileno() for conn in taken}
        assert pool.try_acquire() is None
        for conn in taken:
            pool.release(conn)
        # A parent's connection is not the child's to return, and no error either: its `with` block was copied too.
        pool.release(parents[0])
        parents.clear()
        assert pool.close()
        gc.collect()
        assert limit.value == 4, limit.value

    in_child(child)
    pool.release(parents[0])
    both = [pool.acquire(), pool.acquire()]
    for conn in both:
        conn.sendall(b"alive")
    for other in ends:
        assert other.recv(5) == b"alive"
        other.close()
    for conn in both:
        pool.release(conn)
    assert pool.close()


@forks
@alone()
def test_20_a_child_of_a_with_block_leaves_it_without_harm() -> None:
    pool = ConnectionPool(Factory(), 1)
    with pool.connection() as conn:

        def child() -> None:
            with pool.connection() as other:
                assert other is not conn
            assert (pool.size, pool.idle) == (1, 1)

        in_child(child)
        assert pool.in_use == 1
    assert_whole(pool)


@forks
@alone(120)
def test_21_a_child_works_whatever_other_threads_did_to_the_pool_at_the_fork() -> None:
    pool = ConnectionPool(Factory(), 2)
    stop = False

    def use(number: int) -> None:
        while not stop:
            try:
                conn = pool.acquire(timeout=0.001 * number)
            except PoolTimeout:
                continue
            pool.discard(conn) if number == 3 else pool.release(conn)

    def child() -> None:
        assert (pool.size, pool.waiting) == (0, 0)
        with Crew() as crew:
            conns = [pool.acquire(timeout=5), pool.acquire(timeout=5)]
            waiter = crew.queue_up(pool, lambda: pool.release(pool.acquire(timeout=5)))
            pool.release(conns.pop())
            waiter.result()
            pool.release(conns.pop())
        assert_whole(pool)

    users = [Worker(use, number) for number in range(6)]
    for _ in range(15):
        time.sleep(0.003)
        in_child(child)
    stop = True
    for user in users:
        user.result()
    assert_whole(pool)


@forks
@alone()
def test_21_a_fork_inside_a_callback_gives_the_child_a_pool_that_works() -> None:
    pool: ConnectionPool[Conn]
    factory = Factory()
    forked = False

    def create() -> Conn:
        nonlocal forked
        if not forked:
            forked = True

            def child() -> None:
                conn = pool.acquire(timeout=5)
                pool.release(conn)
                assert_whole(pool)

            in_child(child)
        return factory()

    pool = ConnectionPool(create, 2)
    pool.release(pool.acquire())
    assert_whole(pool)


# ---- use that cannot go well ----


def test_22_a_thread_that_holds_everything_and_asks_for_more_is_told_at_once() -> None:
    pool = ConnectionPool(Factory(), 2, detect_deadlock=True)
    held = [pool.acquire(), pool.acquire()]
    begin = time.monotonic()
    with pytest.raises(PoolDeadlock, match="is with a thread that waits"):
        pool.acquire(timeout=60)
    assert time.monotonic() - begin < 30
    for conn in held:
        pool.release(conn)
    assert_whole(pool)


def test_22_threads_that_wait_for_one_another_are_told_and_the_rest_is_served() -> None:
    pool = ConnectionPool(Factory(), 2, detect_deadlock=True, timeout=60)
    both = threading.Barrier(2)

    def greedy() -> int:
        with pool.connection():
            both.wait()
            try:
                with pool.connection():
                    return 1
            except PoolDeadlock:
                return 0

    with Crew() as crew:
        for _ in range(2):
            crew.start(greedy)
        assert sorted(crew.results()) == [0, 1]
    assert_whole(pool)


def test_22_without_that_a_timeout_names_the_deadlock() -> None:
    pool = ConnectionPool(Factory(), 1)
    with (
        pool.connection(),
        pytest.raises(PoolTimeout, match="every connection is with a thread that waits here"),
    ):
        pool.acquire(timeout=0.01)
    assert_whole(pool)


def test_23_every_callback_may_use_the_pool() -> None:
    pool: ConnectionPool[Conn]
    depth = threading.local()

    def use(*_: object) -> None:
        if not getattr(depth, "busy", False):
            depth.busy = True
            try:
                with pool.connection(timeout=5):
                    assert pool.size
                pool.holders()
                pool.stats()
            finally:
                depth.busy = False

    factory = Factory()

    def create() -> Conn:
        use()
        return factory()

    pool = ConnectionPool(
        create,
        4,
        check=use,
        check_after=0,
        reset=use,
        close=use,
        on_create=use,
        on_acquire=use,
        on_release=use,
    )
    with Crew() as crew:
        for _ in range(3):
            crew.start(lambda: [pool.release(pool.acquire(timeout=5)) for _ in range(20)])
    pool.discard(pool.acquire())
    # Everything is taken now, so that a callback that takes one more would wait for ever.
    depth.busy = True
    assert_whole(pool)


def test_25_lifetimes_are_drawn_once_and_apart() -> None:
    ends: dict[Conn, float] = {}
    factory = Factory()
    pool = ConnectionPool(
        factory, 8, max_lifetime=0.4, jitter=1.0, close=lambda conn: ends.setdefault(conn, time.monotonic())
    )
    first = [pool.acquire() for _ in range(8)]
    held, give_up = first, time.monotonic() + PATIENCE
    while not set(first) <= ends.keys() and time.monotonic() < give_up:
        for conn in held:
            pool.release(conn)
        held = [pool.acquire() for _ in range(8)]
    times = [ends[conn] for conn in first]
    assert max(times) - min(times) > 0.05


@alone()
def test_26_a_step_of_the_wall_clock_changes_no_wait_and_no_lifetime() -> None:
    real = time.time
    time.time = lambda: real() + 1e6
    pool = ConnectionPool(Factory(), 1, max_lifetime=1000, max_idle=1000)
    conn = pool.acquire()
    time.time = lambda: real() - 1e6
    begin = time.monotonic()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.05)
    assert 0.05 <= time.monotonic() - begin < 20
    pool.release(conn)
    assert pool.acquire() is conn


def test_27_a_connection_that_is_never_idle_is_replaced_when_its_life_is_over() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 1, max_lifetime=0.05, jitter=0)
    end = time.monotonic() + 0.3
    with Crew() as crew:
        for _ in range(3):
            crew.start(
                lambda: [pool.release(pool.acquire()) for _ in iter(lambda: time.monotonic() < end, False)]
            )
    assert len(factory.made) >= 3
    assert len(factory.open) <= 1


@alone()
def test_29_a_pool_that_is_collected_closes_what_was_idle() -> None:
    factory = Factory()
    pool = ConnectionPool(factory, 2)
    pool.release(pool.acquire())
    watch = weakref.ref(pool)
    del pool
    gc.collect()
    assert watch() is None
    assert factory.open == []


EXIT = """
import threading, time
from sluicegate import ConnectionPool
class Conn:
    def close(self):
        print("closed")
pool = ConnectionPool(Conn, 2, {arguments})
pool.wait()
{body}
"""


@pytest.mark.thread_unsafe(reason="it starts processes")
@pytest.mark.parametrize(
    "arguments", ["", "min_size=2", "create_timeout=60, min_size=1", "background=True, leak_after=1"]
)
@pytest.mark.parametrize(
    "body",
    [
        "pool.release(pool.acquire())",
        "c = pool.acquire(); wait = lambda: [pool.acquire(None) for _ in range(3)]\n"  # noqa: ISC004
        "threading.Thread(target=wait, daemon=True).start(); time.sleep(0.05); pool.release(c)",
        "keep = [pool, pool.acquire(), pool.lease]; keep.append(keep); pool.release(keep[1])",
    ],
    ids=["plain", "daemons wait", "cycle"],
)  # fmt: skip
def test_29_the_interpreter_ends_at_once_and_idle_connections_are_closed(arguments: str, body: str) -> None:
    begin = time.monotonic()
    done = run_python(EXIT.format(arguments=arguments, body=body))
    assert (done.returncode, done.stderr) == (0, ""), report(done)
    assert time.monotonic() - begin < 20
    if "daemon" not in body:
        assert "closed" in done.stdout


def test_30_a_flood_of_waiters_is_refused_at_once() -> None:
    pool = ConnectionPool(Factory(), 1, max_waiting=3)
    conn = pool.acquire()
    with Crew() as crew:
        workers = [crew.start(lambda: pool.release(pool.acquire(timeout=60))) for _ in range(20)]
        wait_until(lambda: sum(not worker.running for worker in workers) == 17)
        assert pool.waiting == 3
        pool.release(conn)
        errors = [worker.error() for worker in workers]
    assert sum(isinstance(error, PoolFull) for error in errors) == 17
    assert errors.count(None) == 3
    assert_whole(pool)
