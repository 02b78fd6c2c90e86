"""Channels and the world around them: Ctrl-C, fork, exit, and calls that come from inside."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import statistics
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import (
    PATIENCE,
    Crew,
    Worker,
    alone,
    in_child,
    report,
    run_python,
    thread_status,
    voluntary_switches,
    wait_until,
)

from sluicegate import Channel, Closed, Empty, Full, after, select

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def full() -> Channel[Any]:
    channel: Channel[Any] = Channel(1)
    channel.send("old")
    return channel


# Every way to wait, and on what: an empty channel, or a full one with one item in it.
WAITS: dict[str, tuple[Callable[[], Channel[Any]], Callable[[Channel[Any]], object]]] = {
    "recv()": (lambda: Channel(1), lambda channel: channel.recv()),
    "recv(timeout)": (lambda: Channel(0), lambda channel: channel.recv(timeout=PATIENCE)),
    "recv_many": (lambda: Channel(None), lambda channel: channel.recv_many(3)),
    "next": (lambda: Channel(1), next),
    "send()": (full, lambda channel: channel.send("new")),
    "send(timeout)": (full, lambda channel: channel.send("new", PATIENCE)),
    "send_many": (full, lambda channel: channel.send_many(["new", "newer"])),
    "rendezvous": (lambda: Channel(0), lambda channel: channel.send("new")),
    "select recv": (lambda: Channel(1), lambda channel: select(channel, channel)),
    "select send": (full, lambda channel: select((channel, "new"))),
    "select both": (lambda: Channel(0), lambda channel: select(channel, (channel, "new"))),
}
every_wait = pytest.mark.parametrize("wait", WAITS)


def waits(channel: Channel[Any]) -> bool:
    return channel.sending + channel.receiving > 0


def when_waiting(channel: Channel[Any], act: Callable[[], object]) -> Worker:
    """Acts from another thread as soon as the main thread waits."""

    def run() -> None:
        wait_until(lambda: waits(channel))
        act()

    return Worker(run)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# ---- signals ----


@posix
@every_wait
@alone()
def test_ctrl_c_ends_a_wait_and_leaves_all_as_it_was(wait: str) -> None:
    make, call = WAITS[wait]
    channel = make()
    for _ in range(5):
        helper = when_waiting(channel, interrupt)
        with pytest.raises(KeyboardInterrupt):
            call(channel)
        helper.result()
        assert not waits(channel), channel
    assert channel.drain() == (["old"] if make is full else [])
    channel.close()
    assert list(channel) == []


@posix
@alone()
def test_ctrl_c_does_not_wait_for_the_next_look() -> None:
    channel, sent, took = Channel[int](1), 0.0, []

    def kill() -> None:
        nonlocal sent
        time.sleep(0.03)
        sent = time.perf_counter()
        interrupt()

    for _ in range(15):
        helper = when_waiting(channel, kill)
        try:
            channel.recv()
        except KeyboardInterrupt:
            took.append(time.perf_counter() - sent)
        helper.result()
    print(
        f"KeyboardInterrupt after {statistics.median(took) * 1000:.2f} ms (median), {max(took) * 1000:.2f} at most"
    )
    assert len(took) == 15 and statistics.median(took) < 0.5, took


@posix
@every_wait
@alone()
def test_a_handler_that_returns_does_not_end_the_wait(wait: str) -> None:
    make, call = WAITS[wait]
    channel, seen = make(), []
    signal.signal(signal.SIGINT, lambda *_: seen.append(1))

    def act() -> None:
        for number in range(1, 4):
            interrupt()
            wait_until(lambda: len(seen) == number)
            assert waits(channel)
        if channel.receiving:
            channel.send("new", PATIENCE)
        else:
            wait_until(lambda: channel.recv(PATIENCE) and not channel.sending)

    helper = when_waiting(channel, act)
    call(channel)
    helper.result()
    assert len(seen) == 3


@posix
@alone()
def test_an_item_that_meets_the_interrupt_goes_to_the_next_receiver() -> None:
    """The handler sends, which serves the main thread, the first in line; and then it raises."""
    for capacity in (0, 2):
        channel, item = Channel[int](capacity), 0
        behind: list[Worker] = []

        def handler(*_: object, channel: Channel[int] = channel) -> None:
            nonlocal item
            item += 1
            channel.try_send(item)
            raise KeyboardInterrupt

        def act(channel: Channel[int] = channel, behind: list[Worker] = behind) -> None:
            behind.append(Worker(channel.recv))
            wait_until(lambda: channel.receiving == 2)
            interrupt()

        signal.signal(signal.SIGINT, handler)
        for wait in (channel.recv, lambda: select(channel), lambda: channel.recv_many(2)):
            helper = when_waiting(channel, act)
            with pytest.raises(KeyboardInterrupt):
                wait()
            helper.result()
            assert behind.pop().result() == item
            assert channel.receiving == 0


@posix
@alone()
def test_an_item_that_meets_the_interrupt_stays_for_later() -> None:
    for capacity in (0, 2):
        channel: Channel[str] = Channel(capacity)

        def handler(*_: object, channel: Channel[str] = channel) -> None:
            channel.try_send("a")
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, handler)
        helper = when_waiting(channel, interrupt)
        with pytest.raises(KeyboardInterrupt):
            channel.recv()
        helper.result()
        assert (len(channel), channel.recv()) == (1, "a")


@posix
@alone()
def test_a_send_that_meets_the_interrupt_was_made_or_not_and_never_half() -> None:
    channel = full()

    def handler(*_: object) -> None:
        assert channel.recv() == "old"
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handler)
    helper = when_waiting(channel, interrupt)
    with pytest.raises(KeyboardInterrupt):
        channel.send("new")
    helper.result()
    # The handler made room, and the item was in it before the handler raised.
    assert channel.drain() == ["new"]


@posix
@alone()
def test_a_handler_may_use_the_channel_that_is_in_use() -> None:
    """patroni#3413: a handler that puts into the queue it interrupted."""
    channel, calls, got = Channel[int](None), 0, 0

    def handler(*_: object) -> None:
        nonlocal calls
        calls += 1
        channel.send(1)
        len(channel), channel.sending, repr(channel)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        channel.send_many([1, 1])
        got += len(channel.recv_many(2)) - 2
        channel.send(1)
        channel.recv()
        got += len(channel.drain())
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert got + len(channel) == calls > 50


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc")
@alone()
def test_who_waits_sleeps() -> None:
    """No polling: threads asleep in a channel do not wake up by themselves."""
    channel: Channel[int] = Channel(0)
    with Crew() as crew:
        for _ in range(3):
            crew.start(channel.recv, PATIENCE)
        crew.start(select, channel, after(PATIENCE))
        wait_until(lambda: channel.receiving == 4)
        wait_until(
            lambda: (
                sum(status["State"].startswith("S") for status in thread_status(os.getpid()).values()) >= 4
            )
        )
        before = voluntary_switches(os.getpid())
        time.sleep(0.5)
        woke = voluntary_switches(os.getpid()) - before
        assert woke <= 4, woke
        channel.send_many(range(4))


# ---- fork ----


def use(channel: Channel[Any]) -> None:
    """The channel works: between threads, in both directions, and closing."""
    channel.drain()
    with Crew() as crew:
        receivers = [crew.start(lambda: [channel.recv(PATIENCE) for _ in range(20)]) for _ in range(2)]
        for _ in range(2):
            crew.start(channel.send_many, range(20), PATIENCE)
        assert sum(sum(receiver.result()) for receiver in receivers) == 2 * sum(range(20))
    assert (len(channel), channel.sending, channel.receiving) == (0, 0, 0)
    channel.close()
    assert list(channel) == []


@forks
@pytest.mark.parametrize("capacity", [0, 1, 3, None])
@alone(patience=100)
def test_every_child_forked_under_load_can_send_and_receive(capacity: int | None) -> None:
    channel, other, done = Channel[int](capacity), Channel[int](1), threading.Event()

    def send() -> None:
        while not done.is_set():
            try:
                channel.send(1, timeout=0.001)
                select((channel, 1), (other, 1), timeout=0.001)
                channel.send_many([1, 1], timeout=0.001)
            except (Full, TimeoutError):
                pass

    def receive() -> None:
        while not done.is_set():
            try:
                channel.recv(timeout=0.001)
                select(channel, other, timeout=0.001)
                channel.recv_many(2, timeout=0.001)
            except (Empty, TimeoutError):
                pass

    def check() -> None:
        assert (channel.sending, channel.receiving) == (0, 0), "ghosts"
        use(channel)
        use(other)

    workers = [Worker(work) for work in (send, send, receive, receive)]
    for _ in range(60):
        in_child(check)
    done.set()
    for worker in workers:
        worker.result()


@forks
@alone()
def test_a_child_has_the_items_and_no_ghosts() -> None:
    channel, empty = full(), Channel[str](0)
    with Crew() as crew:
        for number in range(3):
            crew.start(channel.send, number)
            crew.start(empty.recv)
        crew.start(select, empty, (channel, "selected"))
        wait_until(lambda: channel.sending == 4 and empty.receiving == 4)

        def check() -> None:
            assert (channel.sending, empty.receiving) == (0, 0)
            assert (len(channel), channel.try_recv(), channel.drain()) == (1, "old", [])
            with pytest.raises(Full):
                empty.try_send("nobody")
            use(channel)
            use(empty)

        in_child(check)
        assert (channel.sending, empty.receiving) == (4, 4), "the parent's waiters stay"
        assert channel.recv_many(4)[:4] == ["old", 0, 1, 2]
        channel.close()
        empty.close()
        for worker in crew.workers:
            worker.error()


@forks
@alone()
def test_a_child_finds_again_what_had_been_handed_to_a_ghost() -> None:
    """At the fork the receivers had their items and had not run yet: in the child the items are in the channel."""
    before = sys.getswitchinterval()
    channel: Channel[int] = Channel(2)
    with Crew() as crew:
        receivers = [crew.start(channel.recv) for _ in range(3)]
        wait_until(lambda: channel.receiving == 3)
        # Nobody else runs between the sends and the fork.
        sys.setswitchinterval(100)
        channel.send_many(range(5))
        assert len(channel) == 2

        def check() -> None:
            sys.setswitchinterval(before)
            assert channel.drain() == [0, 1, 2, 3, 4]
            use(channel)

        in_child(check)
        sys.setswitchinterval(before)
        assert sorted(receiver.result() for receiver in receivers) == [0, 1, 2]


@forks
@alone()
def test_what_ghosts_wanted_to_send_dies_without_a_deadlock() -> None:
    channel, other = Channel[Any](0), Channel[Any](0)
    died = 0

    class Caller:
        def __del__(self) -> None:
            nonlocal died
            died += 1
            channel.sending, other.sending
            for each in (channel, other):
                with contextlib.suppress(Full):
                    each.try_send(1)

    with Crew() as crew:
        for _ in range(3):
            # A batch: its items are the channel's alone, while what send() was called with stays with the ghost.
            crew.start(lambda: channel.send_many(Caller() for _ in range(2)))
        crew.start(select, (channel, Caller()), (other, Caller()))
        wait_until(lambda: channel.sending == 4 and other.sending == 1)

        def check() -> None:
            with pytest.raises(TimeoutError):
                select(channel, other, timeout=0)
            assert died == 6, died
            use(channel)
            use(other)

        in_child(check)
        channel.drain()


# ---- exit ----

EXIT = """
import atexit, threading, time
from sluicegate import Channel, after, select, tick
empty, full, other = Channel(0), Channel(1), Channel(0)
full.send(0)
waits = [
    empty.recv, lambda: empty.recv(3600), lambda: empty.recv_many(2), lambda: list(empty),
    lambda: full.send(1), lambda: full.send_many([1, 2], 3600),
    lambda: select(empty, (full, 1), after(3600)), lambda: [None for _ in tick(0.001)],
    lambda: [other.send(1) for _ in iter(int, 1)], lambda: [other.recv() for _ in iter(int, 1)],
]
ready = threading.Barrier(len(waits) + 1)
def run(wait):
    ready.wait()
    wait()
for wait in waits:
    threading.Thread(target=run, args=(wait,), daemon=True).start()
ready.wait()
time.sleep({delay})
{end}
"""


@pytest.mark.thread_unsafe(reason="it starts many processes")
@pytest.mark.parametrize(
    "end", ["pass", "atexit.register(lambda: (empty.close(), full.close()))", "full.recv()"]
)
def test_exit_with_daemon_threads_waiting_is_silent(end: str) -> None:
    for run in range(6):
        done = run_python(EXIT.format(delay=0.003 * run, end=end))
        if "close" in end:
            # Who is woken by a close has an exception to tell of, if it gets that far.
            assert done.returncode == 0, report(done)
        else:
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), report(done)


# ---- from inside ----


class Caller:
    """Uses the channels when it dies; in a cycle, so that the collector decides when."""

    calls = 0

    def __init__(self, *channels: Channel[Any]) -> None:
        self.channels, self.me = channels, self

    def __del__(self) -> None:
        for channel in self.channels:
            Caller.calls += 1
            with contextlib.suppress(Full, Closed):
                channel.try_send(None)
            with contextlib.suppress(Empty, Closed):
                channel.try_recv()
            len(channel), channel.sending, channel.closed, repr(channel)


@pytest.mark.parametrize("threads", [0, 3])
@alone()
def test_finalizers_may_use_the_channel_that_is_in_use(threads: int) -> None:
    """sentry-python#803: queue.Queue deadlocks when the collector runs a `__del__` that uses it."""
    channel, other = Channel[Any](3), Channel[Any](0)
    end = time.monotonic() + 0.6

    def load() -> None:
        while time.monotonic() < end:
            for call in (
                lambda: channel.send(Caller(channel, other), 0.001),
                lambda: channel.recv(0.001),
                lambda: channel.send_many([Caller(channel), Caller(other)], 0.001),
                lambda: channel.recv_many(2, 0.001),
                lambda: select((other, Caller(channel)), other, channel, timeout=0.001),
                channel.drain,
            ):
                with contextlib.suppress(Full, Empty, TimeoutError):
                    call()

    gc.set_threshold(1)
    with Crew() as crew:
        for _ in range(threads):
            crew.start(load)
        load()
    gc.set_threshold(700)
    channel.drain()
    gc.collect()
    assert Caller.calls > 100
    assert (channel.sending, channel.receiving, other.sending, other.receiving) == (0, 0, 0, 0)


@alone()
def test_an_item_that_dies_in_any_call_may_use_the_channel() -> None:
    """No item is dropped under the lock: its `__del__` would wait for it for ever."""

    died = 0

    class Dying:
        def __del__(self) -> None:
            nonlocal died
            died += 1
            len(channel), channel.sending
            with contextlib.suppress(Empty, Closed):
                channel.try_recv()

    channel: Channel[Any] = Channel(2)
    for refuse in (
        lambda: [channel.try_send(Dying()) for _ in range(3)],
        lambda: channel.send(Dying(), 0.001),
        lambda: channel.send_many([Dying() for _ in range(5)], 0.001),
        lambda: select((channel, Dying()), (channel, Dying()), timeout=0.001),
        lambda: select((channel, Dying()), 5),  # type: ignore[call-overload]
    ):
        channel.drain()
        channel.send_many([0, 0])
        with pytest.raises((Full, TimeoutError, TypeError)):
            refuse()
        gc.collect()
    channel.drain()
    channel.send(Dying())
    channel.recv()
    channel.send_many([Dying(), Dying()])
    channel.recv_many(2)
    channel.send_many([Dying(), Dying()])
    channel.drain()
    channel.send_many([Dying(), Dying()])
    channel.close()
    with pytest.raises(Closed):
        channel.send_many([Dying(), Dying()])
    channel = Channel(1)
    channel.send(Dying())
    before = died
    channel = Channel(1)
    assert died == before + 1


@alone()
def test_a_cycle_whose_channel_is_cleared_first_is_no_trap() -> None:
    """The collector clears a channel full of items that use it."""
    for _ in range(50):
        channel: Channel[Any] = Channel(None)
        channel.send_many([Caller(channel) for _ in range(5)])
        channel.send(channel)
        alive = weakref.ref(channel)
        del channel
        gc.collect()
        gc.collect()
        assert alive() is None


@alone()
def test_a_weakref_callback_may_use_the_channel() -> None:
    channel: Channel[Any] = Channel(2)
    calls = 0

    class Thing:
        pass

    def from_inside(_: object) -> None:
        nonlocal calls
        calls += 1
        channel.try_send(calls)

    for number in range(20):
        thing = Thing()
        reference = weakref.ref(thing, from_inside)
        channel.send(thing)
        del thing
        channel.recv()
        assert (calls, channel.recv()) == (number + 1, number + 1) and reference() is None
