"""Ctrl-C and other signals while the main thread waits; each in a process of its own."""

from __future__ import annotations

import _thread
import functools
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import pytest
from support import (
    PATIENCE,
    Crew,
    Worker,
    alone,
    asleep,
    every_policy,
    record,
    run_python,
    switch_interval,
    voluntary_switches,
    wait_until,
)

import sluicegate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def enter(sem: Any) -> None:
    with sem:
        raise AssertionError("there was nothing to take")


def enter_many(sem: Any) -> None:
    with sem.permits(2):
        raise AssertionError("there was nothing to take")


# Every way to wait. What waits in a later primitive joins here.
WAITS: dict[str, Callable[[Any], object]] = {
    "acquire()": lambda sem: sem.acquire(),
    "acquire(timeout)": lambda sem: sem.acquire(timeout=PATIENCE),
    "acquire(n=2)": lambda sem: sem.acquire(n=2),
    "with": enter,
    "with permits": enter_many,
}


def when_waiting(sem: Any, there: int, act: Callable[[], object]) -> Worker:
    """Acts from another thread as soon as the main thread, too, waits on `sem`."""

    def run() -> None:
        wait_until(lambda: sem.waiting == there)
        act()

    return Worker(run)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@every_policy
@pytest.mark.parametrize("wait", WAITS)
@alone()
def test_ctrl_c_ends_a_wait_and_leaves_all_as_it_was(fair: bool, wait: str) -> None:
    sem = sluicegate.BoundedSemaphore(2, fair=fair)
    sem.acquire()
    sem.acquire()
    for _ in range(5):
        helper = when_waiting(sem, 1, interrupt)
        with pytest.raises(KeyboardInterrupt):
            WAITS[wait](sem)
        helper.result()
        assert (sem.value, sem.waiting) == (0, 0), sem
    sem.release(2)
    assert sem.try_acquire(2) is True


@every_policy
@alone()
def test_ctrl_c_does_not_wait_for_the_next_look(fair: bool) -> None:
    """Reported is how long it takes; asserted only that no waiting out of a timer is in it."""
    sem, sent, took = sluicegate.Semaphore(0, fair=fair), 0.0, []

    def kill() -> None:
        nonlocal sent
        time.sleep(0.03)  # Into the middle of whatever interval a poll would have.
        sent = time.perf_counter()
        interrupt()

    for _ in range(25):
        helper = when_waiting(sem, 1, kill)
        try:
            sem.acquire()
        except KeyboardInterrupt:
            took.append(time.perf_counter() - sent)
        helper.result()
    median, longest = statistics.median(took) * 1000, max(took) * 1000
    print(
        f"KeyboardInterrupt after {median:.2f} ms (median of {len(took)}), {longest:.2f} ms at most; promised: 10"
    )
    assert len(took) == 25, took
    assert median < 500, took


@every_policy
@alone()
def test_others_keep_their_places_when_one_is_interrupted(fair: bool) -> None:
    sem = sluicegate.BoundedSemaphore(3, fair=fair)
    sem.acquire(n=3)
    with Crew() as crew:
        before = crew.queue_up(sem, sem.acquire)
        after: list[Worker] = []

        def act() -> None:
            after.append(crew.queue_up(sem, sem.acquire))
            interrupt()

        helper = when_waiting(sem, 2, act)
        with pytest.raises(KeyboardInterrupt):
            sem.acquire()
        helper.result()
        assert sem.waiting == 2, sem.waiting
        assert before.running and after[0].running
        sem.release()
        assert before.result() is True
        assert after[0].running
        sem.release()
        assert after[0].result() is True
    sem.release()
    assert (sem.value, sem.waiting) == (1, 0), sem


@every_policy
@pytest.mark.parametrize("n", [1, 2])
@alone()
def test_a_release_that_meets_the_interrupt_goes_to_the_next_waiter(fair: bool, n: int) -> None:
    """The handler releases, which picks the main thread, the first in line; and then it raises."""
    sem = sluicegate.BoundedSemaphore(2, fair=fair)
    sem.acquire(n=2)
    behind: list[Worker] = []

    def handler(*_: object) -> None:
        sem.release(n)
        raise KeyboardInterrupt

    def act() -> None:
        behind.append(crew.queue_up(sem, sem.acquire, n=n))
        interrupt()

    signal.signal(signal.SIGINT, handler)
    with Crew() as crew:
        for _ in range(20):
            helper = when_waiting(sem, 1, act)
            with pytest.raises(KeyboardInterrupt):
                sem.acquire(n=n)
            helper.result()
            assert behind.pop().result() is True
            assert (sem.value, sem.waiting) == (0, 0), sem


@every_policy
@alone()
def test_a_release_at_the_moment_of_the_interrupt_is_not_lost(fair: bool) -> None:
    """The two race: the main thread has the permit, or the next waiter does; never nobody."""
    sem, tries = sluicegate.BoundedSemaphore(1, fair=fair), 300
    sem.acquire()
    answers: list[bool] = []
    armed, mine = False, 0

    def handler(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def release_and_interrupt(order: int) -> None:
        wait_until(lambda: sem.waiting == 1)
        behind = Worker(sem.acquire)
        wait_until(lambda: sem.waiting == 2)
        for act in (sem.release, interrupt)[:: order or 1]:
            act()
        answers.append(behind.result())

    signal.signal(signal.SIGINT, handler)
    for number in range(tries):
        got: list[bool] = []
        helper = Worker(release_and_interrupt, number % 2 or -1)
        try:
            armed = True
            record(got, sem.acquire)
            armed = False
        except KeyboardInterrupt:
            pass
        armed = False
        mine += len(got)
        if got:
            # It was the main thread's; then the other waits still, until it gets it.
            sem.release()
        helper.result()
        assert (sem.value, sem.waiting) == (0, 0), (number, got, sem, sem.waiting)
    assert answers == [True] * tries
    print(f"of {tries} permits that met an interrupt, {mine} went to the main thread")


@every_policy
@alone()
def test_a_handler_that_returns_lets_the_wait_go_on(fair: bool) -> None:
    sem, seen = sluicegate.BoundedSemaphore(1, fair=fair), []
    sem.acquire()
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(sem.waiting))

    def act() -> None:
        for there in range(5):
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: len(seen) > there)
        sem.release()

    helper = when_waiting(sem, 1, act)
    assert sem.acquire() is True
    helper.result()
    assert seen == [1] * 5, seen
    assert (sem.value, sem.waiting) == (0, 0), sem


@every_policy
@alone()
def test_the_wait_goes_on_for_the_time_that_remains(fair: bool) -> None:
    """Neither cut short by a signal nor begun anew: a wait begun anew at each of these would never end."""
    sem, alarms = sluicegate.BoundedSemaphore(1, fair=fair), 0

    def on_alarm(*_: object) -> None:
        nonlocal alarms
        alarms += 1

    sem.acquire()
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    begin = time.monotonic()
    assert sem.acquire(timeout=0.5) is False
    took = time.monotonic() - begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert 0.5 <= took < PATIENCE, took
    assert alarms >= 3, alarms
    assert (sem.value, sem.waiting) == (0, 0), sem


@every_policy
@alone()
def test_a_handler_that_releases_ends_the_wait(fair: bool) -> None:
    sem = sluicegate.BoundedSemaphore(1, fair=fair)
    sem.acquire()
    signal.signal(signal.SIGUSR1, lambda *_: sem.release())
    for timeout in (None, PATIENCE) * 5:
        helper = when_waiting(sem, 1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert sem.acquire(timeout=timeout) is True
        helper.result()
        assert (sem.value, sem.waiting) == (0, 0), sem


@every_policy
@alone()
def test_a_handler_may_use_the_object_it_interrupted(fair: bool) -> None:
    sem, seen = sluicegate.BoundedSemaphore(1, fair=fair), []
    sem.acquire()

    def handler(*_: object) -> None:
        seen.append(
            (sem.acquire(False), sem.try_acquire(), sem.acquire(timeout=0.01), sem.value, sem.waiting)
        )
        sem.release()
        if not sem.acquire(False):
            # The permit is the main thread's already.
            return
        sem.release()

    signal.signal(signal.SIGUSR1, handler)
    helper = when_waiting(sem, 1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert sem.acquire() is True
    helper.result()
    assert seen == [(False, False, False, 0, 1)], seen
    assert (sem.value, sem.waiting) == (0, 0), sem


@every_policy
@alone()
def test_a_handler_may_wait_and_be_interrupted_itself(fair: bool) -> None:
    sem = sluicegate.BoundedSemaphore(1, fair=fair)
    sem.acquire()

    def handler(signum: int, _: FrameType | None) -> None:
        if signum == signal.SIGUSR1:
            helper = when_waiting(sem, 2, interrupt)
            with pytest.raises(KeyboardInterrupt):
                sem.acquire()
            helper.result()
            sem.release()

    signal.signal(signal.SIGUSR1, handler)
    helper = when_waiting(sem, 1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert sem.acquire() is True
    helper.result()
    assert (sem.value, sem.waiting) == (0, 0), sem


@every_policy
@alone()
def test_a_handler_may_close_or_resize_what_it_interrupted(fair: bool) -> None:
    sem = sluicegate.BoundedSemaphore(2, fair=fair)
    sem.acquire(n=2)
    signal.signal(signal.SIGUSR1, lambda *_: sem.resize(1))
    helper = when_waiting(sem, 1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(ValueError, match="capacity"):
        sem.acquire(n=2)
    helper.result()
    signal.signal(signal.SIGUSR1, lambda *_: sem.close())
    helper = when_waiting(sem, 1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(sluicegate.Closed):
        sem.acquire()
    helper.result()
    assert sem.waiting == 0


@every_policy
@alone()
def test_signals_between_calls_do_not_deadlock(fair: bool) -> None:
    """`threading.Semaphore` hangs here: a handler meets its lock held by the code it interrupted."""
    sem, calls, alarms = sluicegate.BoundedSemaphore(1, fair=fair), 0, 0

    def handler(*_: object) -> None:
        nonlocal alarms
        alarms += 1
        if sem.acquire(False):
            sem.release()

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    while alarms < 300:
        sem.acquire()
        sem.release()
        with sem:
            calls += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert calls > 0
    assert (sem.value, sem.waiting) == (1, 0), sem


@every_policy
@alone()
def test_a_signal_that_comes_as_the_wait_begins_is_not_slept_through(fair: bool) -> None:
    """The handler is noted, not run, when a signal comes between the last check and the sleep."""
    sem = sluicegate.Semaphore(0, fair=fair)
    end, rounds = time.monotonic() + 1, 0
    while time.monotonic() < end:
        rounds += 1
        delay = (rounds % 100) * 1e-6
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 20e-6 + delay)
            sem.acquire(timeout=PATIENCE)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError(f"slept through a signal in round {rounds}")
        assert sem.waiting == 0
    print(f"{rounds} rounds")


@alone()
def test_simulated_ctrl_c_reaches_a_thread_that_waits_with_a_timeout() -> None:
    """`_thread.interrupt_main` sends no signal, so it is seen when the wait ends or looks up; not lost."""
    sem = sluicegate.Semaphore(0)
    helper = when_waiting(sem, 1, _thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        sem.acquire(timeout=0.5)
        time.sleep(0)
    helper.result()
    assert sem.waiting == 0


@alone()
def test_only_the_main_thread_is_interrupted() -> None:
    sem = sluicegate.Semaphore(0)
    with Crew() as crew:
        workers = [crew.queue_up(sem, sem.acquire) for _ in range(3)]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                for _ in range(20):
                    signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
        assert all(worker.running for worker in workers)
        assert sem.waiting == 3
        sem.release(3)
        assert crew.results() == [True] * 3


def test_the_main_thread_is_known_even_if_another_imports_threading_first() -> None:
    """Up to Python 3.12, `threading` takes the thread that imports it first for the main one."""
    code = """if True:
        import _thread, os, signal, sys, time
        assert "threading" not in sys.modules
        from sluicegate import Semaphore

        first, sem, late = Semaphore(0), Semaphore(0), []

        def other():
            first.acquire(timeout=0.01)
            first.release()
            while not sem.waiting:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(2)
            late.append("slept through Ctrl-C")
            sem.release()

        _thread.start_new_thread(other, ())
        while not first.acquire(False):
            time.sleep(0.001)
        try:
            sem.acquire()
        except KeyboardInterrupt:
            pass
        print(late)
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts context switches in Linux' /proc")
@pytest.mark.thread_unsafe(reason="it watches processes for seconds")
def test_a_blocked_process_sleeps_and_is_not_woken_periodically() -> None:
    waits = ["sem.acquire()", "sem.acquire(timeout=1000)", "sem.__enter__()"]
    with ExitStack() as stack:
        processes = [stack.enter_context(blocked(wait, fair)) for wait in waits for fair in (False, True)]
        settle(processes)
        before = [voluntary_switches(process.pid) for process in processes]
        time.sleep(2)
        seen = [
            voluntary_switches(process.pid) - count for process, count in zip(processes, before, strict=True)
        ]
    print(f"voluntary context switches of 3 blocked threads in 2 s, per way to wait: {seen}")
    assert max(seen) <= 3


@contextmanager
def blocked(wait: str, fair: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose three threads all wait, the main one as `wait` says."""
    code = f"""if True:
        import threading
        from sluicegate import Semaphore
        sem = Semaphore(0, fair={fair})
        for timeout in (None, 1000):
            threading.Thread(target=sem.acquire, kwargs={{"timeout": timeout}}, daemon=True).start()
        print("ready", flush=True)
        {wait}
    """
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def settle(processes: list[subprocess.Popen[bytes]]) -> None:
    """Waits until all their threads sleep, and nothing has moved for half a second."""
    still, counts = time.monotonic(), list[int]()

    def settled() -> bool:
        nonlocal still, counts
        now = [voluntary_switches(process.pid) for process in processes]
        if now != counts or not all(asleep(process.pid) for process in processes):
            still, counts = time.monotonic(), now
        return time.monotonic() - still > 0.5

    wait_until(settled)


@alone()
def test_a_permit_granted_before_the_interrupt_is_kept_or_passed_on() -> None:
    """Released and interrupted by a thread that keeps the GIL meanwhile: the main thread wakes to find both."""
    sem = sluicegate.Semaphore(0, fair=True)
    got: list[bool] = []

    def act() -> None:
        with switch_interval(5):
            sem.release()
            interrupt()

    for _ in range(50):
        got.clear()
        helper = when_waiting(sem, 1, act)
        with pytest.raises(KeyboardInterrupt):
            record(got, functools.partial(sem.acquire, timeout=PATIENCE))
            helper.result()
            time.sleep(0)
        helper.result()
        assert len(got) + sem.drain() == 1, (got, sem)
        assert sem.waiting == 0
