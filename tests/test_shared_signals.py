"""Ctrl-C, exits, forks and clocks while a thread waits for another process."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from pathlib import Path

import pytest
from peers import peer
from support import PATIENCE, Worker, alone, report, run_python, wait_until

from sluicegate.multiprocessing import BoundedSemaphore, Semaphore

pytestmark = pytest.mark.thread_unsafe(reason="it runs processes of its own")


@pytest.mark.parametrize("timeout", [None, 1000])
@alone()
def test_ctrl_c_ends_a_wait_at_once_and_takes_nothing(timeout: float | None) -> None:
    sem = BoundedSemaphore(1)
    sem.acquire()
    delays = []
    sent = 0.0

    def send() -> None:
        nonlocal sent
        wait_until(lambda: sem.waiting == 1)
        time.sleep(0.05)
        sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    for _ in range(25):
        sender = threading.Thread(target=send)
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            sem.acquire(timeout=timeout)
        delays.append(time.monotonic() - sent)
        sender.join()
        assert sem.waiting == 0
    print(f"Ctrl-C: median {statistics.median(delays) * 1e3:.2f} ms, worst {max(delays) * 1e3:.2f} ms")
    assert statistics.median(delays) < 0.010
    # Sent at the end of a slice as often as not, when the main thread is awake: that must not hide it.
    assert max(delays) < 0.2
    sem.release()
    assert sem.acquire(False)


@alone()
def test_a_handler_that_returns_does_not_stretch_the_wait() -> None:
    calls = 0

    def handler(*_: object) -> None:
        nonlocal calls
        calls += 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    for sem in (BoundedSemaphore(0), Semaphore(0)):
        began = time.monotonic()
        assert sem.acquire(timeout=0.5) is False
        assert 0.5 <= time.monotonic() - began < 0.8
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert calls >= 20


@alone()
def test_a_handler_may_release_what_its_thread_waits_for() -> None:
    sem = BoundedSemaphore(1)
    sem.acquire()
    signal.signal(signal.SIGALRM, lambda *_: sem.release())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    assert sem.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("wanted", [0.01, 0.1, 0.3])
def test_a_timeout_is_exact_to_a_few_milliseconds(wanted: float) -> None:
    for sem in (BoundedSemaphore(0), Semaphore(0)):
        late = []
        for _ in range(5):
            began = time.monotonic()
            assert sem.acquire(timeout=wanted) is False
            late.append(time.monotonic() - began - wanted)
        assert min(late) >= 0 and statistics.median(late) < 0.01, late


def test_daemons_that_wait_do_not_keep_a_process_from_its_end(tmp_path: Path) -> None:
    code = (
        "import sys, threading, time\n"
        "from sluicegate.multiprocessing import BoundedSemaphore, Semaphore\n"
        "sems = [BoundedSemaphore(1), Semaphore(0), BoundedSemaphore.named('exit', 1, dir=sys.argv[1])]\n"
        "sems[0].acquire(); sems[2].acquire()\n"
        "def wait(sem, timeout):\n"
        "    while not sem.acquire(timeout=timeout) and timeout: pass\n"
        "crew = [threading.Thread(target=wait, args=(sem, timeout), daemon=True)\n"
        "        for sem in sems for timeout in (None, 0.001, 0.01, 100)]\n"
        "[one.start() for one in crew]\n"
        "while not all(sem.waiting >= 2 for sem in sems): time.sleep(0.001)\n"
    )
    for _ in range(10):
        done = run_python(code, str(tmp_path))
        assert done.returncode == 0 and not done.stderr, report(done)


def test_a_fork_finds_a_semaphore_that_works_whatever_its_threads_were_doing(tmp_path: Path) -> None:
    code = (
        "import os, sys, threading, warnings\n"
        "warnings.filterwarnings('ignore', category=DeprecationWarning)\n"
        "from sluicegate.multiprocessing import BoundedSemaphore\n"
        "sems = [BoundedSemaphore(2), BoundedSemaphore.named('forks', 2, dir=sys.argv[1])]\n"
        "stop = False\n"
        "def busy(sem):\n"
        "    while not stop:\n"
        "        with sem: pass\n"
        "crew = [threading.Thread(target=busy, args=(sem,)) for sem in sems for _ in range(4)]\n"
        "[one.start() for one in crew]\n"
        "for _ in range(40):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        ok = all(sem.acquire(timeout=20) and sem.release() is None for sem in sems)\n"
        "        os._exit(0 if ok else 1)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "stop = True\n"
        "[one.join() for one in crew]\n"
        "assert [sem.get_value() for sem in sems] == [2, 2]\n"
    )
    done = run_python(code, str(tmp_path), patience=60)
    assert done.returncode == 0 and not done.stderr, report(done)


def wait_for(sem: Semaphore, waiters: int) -> None:
    wait_until(lambda: sem.waiting == waiters)
    # They are counted a moment before they sleep.
    time.sleep(0.002)


def moment_of_acquire(sem: Semaphore) -> float:
    sem.acquire()
    return time.monotonic()


@alone()
def test_a_release_wakes_a_waiter_at_once() -> None:
    """And not only at the end of its slice, which would hide a lost wake-up from every other test."""
    for sem in (BoundedSemaphore(1), Semaphore(1)):
        delays = []
        for _ in range(15):
            sem.acquire()
            woken = Worker(moment_of_acquire, sem)
            wait_for(sem, 1)
            sem.release()
            released = time.monotonic()
            delays.append(woken.result() - released)
            sem.release()
        assert statistics.median(delays) < 0.002, delays


@alone()
def test_releases_one_after_another_wake_as_many_waiters() -> None:
    for sem in (BoundedSemaphore(8), Semaphore(8)):
        delays = []
        for _ in range(9):
            for _ in range(8):
                sem.acquire()
            woken = [Worker(moment_of_acquire, sem) for _ in range(8)]
            wait_for(sem, 8)
            for _ in range(8):
                sem.release()
            released = time.monotonic()
            delays.append(max(one.result() for one in woken) - released)
            sem.release(8)
        assert statistics.median(delays) < 0.004, delays


def test_a_stopped_waiter_goes_on_waiting(tmp_path: Path) -> None:
    setup = f"sem = BoundedSemaphore.named('stop', 1, dir={str(tmp_path)!r})"
    sem = BoundedSemaphore.named("stop", 1, dir=tmp_path)
    sem.acquire()
    with peer(setup) as other:
        other.tell("sem.acquire()")
        wait_until(lambda: sem.waiting == 1)
        other.signal(signal.SIGSTOP)
        wait_until(lambda: other.state() == "T")
        other.signal(signal.SIGCONT)
        assert not other.has_answered(0.2)
        sem.release()
        assert other.answer() is True
