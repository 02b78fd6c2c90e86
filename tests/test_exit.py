"""The interpreter ends while daemon threads wait: at once, with exit code 0, and without a word."""

from __future__ import annotations

import pytest
from support import PATIENCE, report, run_python

RUNS = 20
THREADS = 16

# What each of the daemon threads does, for ever.
WAITS: dict[str, str] = {
    "for ever": "sem.acquire()",
    "with a timeout": "sem.acquire(timeout=3600)",
    "on short timeouts": "while True: sem.acquire(timeout=0.001)",
    "for many": "sem.acquire(n=2)",
    "with": "sem.__enter__()",
    "in turns": "while True:\n    with turns: time.sleep(0)",
    "all of these": "exec(every[number % len(every)], globals())",
}
# What the main thread does at the very end.
ENDS: dict[str, str] = {
    "nothing": "pass",
    "a release at exit": "atexit.register(sem.release, 8)",
    "a close at exit": "atexit.register(sem.close)",
    "a release by a dying object": "keep = Releaser()",
    "an error": "sys.excepthook = lambda *_: None; raise SystemError",
}

PROGRAM = """
import atexit, sys, threading, time
from sluicegate import Closed, Semaphore, BoundedSemaphore

class Releaser:
    def __del__(self):
        sem.release(8)

sem, turns = Semaphore(0, fair={fair}), BoundedSemaphore(2, fair={fair})
every = {every!r}
started = threading.Barrier({threads} + 1)

def wait(number):
    started.wait()
    try:
        exec({wait!r}, {{**globals(), "number": number}})
    except Closed:  # It ran once more before the end.
        pass

for number in range({threads}):
    threading.Thread(target=wait, args=(number,), daemon=True).start()
started.wait()
time.sleep({delay})
{end}
"""


def program(wait: str, end: str, fair: bool, delay: float) -> str:
    every = [text for name, text in WAITS.items() if name != "all of these"]
    return PROGRAM.format(
        wait=WAITS[wait], end=ENDS[end], fair=fair, delay=delay, threads=THREADS, every=every
    )


@pytest.mark.thread_unsafe(reason="it starts many processes")
@pytest.mark.parametrize("wait", WAITS)
def test_exit_with_daemon_threads_waiting_is_silent(wait: str) -> None:
    for run in range(RUNS if wait in ("for ever", "on short timeouts") else 5):
        done = run_python(
            program(wait, "nothing", fair=run % 2 == 1, delay=0.001 * (run % 7)), patience=PATIENCE
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), report(done)


@pytest.mark.thread_unsafe(reason="it starts many processes")
@pytest.mark.parametrize("end", ENDS)
def test_exit_that_wakes_waiting_daemon_threads_is_silent(end: str) -> None:
    for run in range(6):
        done = run_python(program("all of these", end, fair=run % 2 == 1, delay=0.01), patience=PATIENCE)
        code = 1 if end == "an error" else 0
        assert (done.returncode, done.stdout, done.stderr) == (code, "", ""), report(done)


@pytest.mark.thread_unsafe(reason="it starts processes")
def test_exit_waits_for_a_thread_that_is_no_daemon() -> None:
    code = """if True:
        import threading, time
        from sluicegate import Semaphore
        sem = Semaphore(0)
        def finish():
            sem.acquire()
            print("finished")
        threading.Thread(target=finish).start()
        threading.Thread(target=lambda: (time.sleep(0.05), sem.release()), daemon=True).start()
    """
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", ""), report(done)


@pytest.mark.thread_unsafe(reason="it starts processes")
def test_ctrl_c_at_exit_ends_the_wait_for_a_thread() -> None:
    """The main thread joins a thread that never ends; Ctrl-C gets through, and the program ends with it."""
    code = """if True:
        import os, signal, threading
        from sluicegate import Semaphore
        sem = Semaphore(0)
        threading.Thread(target=sem.acquire, daemon=True).start()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        sem.acquire()
    """
    done = run_python(code)
    assert done.returncode in (1, -2, 130), report(done)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt"), report(done)


@pytest.mark.thread_unsafe(reason="it starts processes")
def test_a_semaphore_in_a_global_outlives_its_waiters_quietly() -> None:
    """Module globals are cleared while threads still wait on what they named."""
    code = """if True:
        import threading
        from sluicegate import Semaphore
        sems = [Semaphore(0) for _ in range(50)]
        for sem in sems:
            sem.me = sem
            threading.Thread(target=sem.acquire, args=(True, 0.002), daemon=True).start()
        del sems, sem
    """
    for _ in range(5):
        done = run_python(code)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), report(done)
