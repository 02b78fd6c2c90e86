"""What the tests share: waiting for facts, crews of threads, and a process of one's own."""

from __future__ import annotations

import base64
import faulthandler
import functools
import importlib
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Self, TypeVar, cast

import pytest

import sluicegate

TESTS = os.path.dirname(os.path.abspath(__file__))
# Longer than any wait that ends, on the slowest machine: a test that needs it has found a thread that hangs.
PATIENCE = 30.0
# Exit code by which a process of one's own says that it skipped.
SKIPPED = 77

# Every sort of semaphore there is. Partials, so that they can travel to a process of one's own.
KINDS: dict[str, Callable[..., Any]] = {
    "Semaphore": functools.partial(sluicegate.Semaphore),
    "fair Semaphore": functools.partial(sluicegate.Semaphore, fair=True),
    "BoundedSemaphore": functools.partial(sluicegate.BoundedSemaphore),
    "fair BoundedSemaphore": functools.partial(sluicegate.BoundedSemaphore, fair=True),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
every_policy = pytest.mark.parametrize("fair", [False, True], ids=["barging", "fair"])

Test = TypeVar("Test", bound=Callable[..., None])


def wait_until(fact: Callable[[], object], patience: float = PATIENCE) -> None:
    """Waits for a fact; that it never comes true is a failure that names it."""
    deadline = time.monotonic() + patience
    nap = 0.0
    while not fact():
        assert time.monotonic() < deadline, f"not true within {patience} s: {describe(fact)}"
        time.sleep(nap)
        nap = min(nap + 0.0005, 0.01)


def describe(fact: Callable[[], object]) -> str:
    code = getattr(fact, "__code__", None)
    if code is None:
        return repr(fact)
    cells = getattr(fact, "__closure__", None) or ()
    seen = {name: cell.cell_contents for name, cell in zip(code.co_freevars, cells, strict=True)}
    return f"{code.co_qualname} at {os.path.basename(code.co_filename)}:{code.co_firstlineno} with {seen}"


def waiting(sem: Any) -> int:
    """How many threads wait, for ours and for the stdlib's (the control)."""
    return sem.waiting if hasattr(sem, "waiting") else len(sem._cond._waiters)


class Worker:
    """One watched thread. A daemon, so that a thread that hangs fails its test and not the whole run."""

    def __init__(self, function: Callable[..., object], *args: object, **kwargs: object) -> None:
        self._result: object = None
        self._error: BaseException | None = None
        self._told = False
        self._call = functools.partial(function, *args, **kwargs)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self, patience: float = PATIENCE) -> Any:
        """What the function returned; what it raised is raised here; that it hangs is a failure."""
        self._thread.join(patience)
        assert not self.running, f"{self._call} still runs after {patience} s"
        self._told = True
        if self._error is not None:
            raise self._error
        return self._result

    def error(self, patience: float = PATIENCE) -> BaseException | None:
        """What the function raised, as a value."""
        self._thread.join(patience)
        assert not self.running, f"{self._call} still runs after {patience} s"
        self._told = True
        return self._error

    @property
    def untold(self) -> bool:
        """Whether nobody has asked yet how it ended."""
        return not self._told


class Crew:
    """Threads that have all ended when the block does; an error that nobody asked for is raised there."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    def start(self, function: Callable[..., object], *args: object, **kwargs: object) -> Worker:
        worker = Worker(function, *args, **kwargs)
        self.workers.append(worker)
        return worker

    def queue_up(self, sem: Any, function: Callable[..., object], *args: object, **kwargs: object) -> Worker:
        """Starts a thread that will wait on `sem`, and comes back when it does."""
        there = waiting(sem)
        worker = self.start(function, *args, **kwargs)
        wait_until(lambda: waiting(sem) == there + 1 or not worker.running)
        assert worker.running, f"did not wait: {worker.error()!r}, {worker.result()!r}"
        return worker

    def results(self, patience: float = PATIENCE) -> list[Any]:
        return [worker.result(patience) for worker in self.workers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for worker in self.workers:
                if worker.untold:
                    worker.result()


def at_once(*functions: Callable[[], object], patience: float = PATIENCE) -> list[Any]:
    """Runs the functions, each in a thread, all let go at the same moment: what they returned."""
    gate = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        gate.wait()
        return function()

    return [worker.result(patience) for worker in [Worker(run, function) for function in functions]]


@contextmanager
def switch_interval(seconds: float) -> Iterator[None]:
    """How long a thread keeps the GIL from one that asks for it: the whole process's, so only when alone in it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def has_gil() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


# ---- a process of one's own ----


def alone(patience: float = 60.0) -> Callable[[Test], Test]:
    """Has a test's body run in a fresh interpreter: it may raise signals, fork, or hang, and harms nobody.

    The arguments travel by pickle. What the body prints is printed by the test; a failed `assert` there is not
    rewritten by pytest, so it brings its own words. A body that does not end in time is a failure that shows where
    each thread hangs.
    """

    def decorate(test: Test) -> Test:
        @pytest.mark.thread_unsafe(reason="it runs in a process of its own")
        @functools.wraps(test)
        def outside(*args: object, **kwargs: object) -> None:
            __tracebackhide__ = True
            call = (test.__module__, test.__qualname__, patience, args, kwargs)
            done = run_python(
                "import support; support.inside()",
                base64.b85encode(pickle.dumps(call)).decode(),
                patience=patience + 15,
                flags=(),
            )
            print(done.stdout, end="")
            if done.returncode == SKIPPED:
                pytest.skip(done.stderr.strip())
            assert done.returncode == 0 and not done.stderr, report(done)

        return cast("Test", outside)

    return decorate


def inside() -> None:
    """The far end of `alone`."""
    module, name, patience, args, kwargs = pickle.loads(base64.b85decode(sys.argv[1]))
    faulthandler.enable()
    faulthandler.dump_traceback_later(patience, exit=True)
    test = getattr(importlib.import_module(module), name).__wrapped__
    warnings.simplefilter("error")
    expect_forks()
    try:
        test(*args, **kwargs)
    except pytest.skip.Exception as skipped:
        print(skipped.msg, file=sys.stderr)
        sys.stderr.flush()
        os._exit(SKIPPED)
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        # Not `sys.exit`: whatever went wrong, its threads may not let the interpreter end.
        os._exit(1)
    faulthandler.cancel_dump_traceback_later()


def expect_an_end(patience: float = PATIENCE) -> None:
    """A child that hangs says where, and ends with a signal that its parent hears of."""
    faulthandler.unregister(signal.SIGALRM)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(int(patience))


def in_child(
    check: Callable[[], object], fork: Callable[[], int] | None = None, patience: float = PATIENCE
) -> None:
    """Forks, and has the child do the check: that it fails, hangs or crashes is a failure here."""
    pid = (fork or os.fork)()
    if pid == 0:
        code = 1
        try:
            expect_an_end(patience)
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"the child ended with {code}" + (": it hung" if code == -signal.SIGALRM else "")


def expect_forks() -> None:
    """Silences Python 3.12's advice not to fork a process with threads: that it works is what is tested."""
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)


def run_python(
    code: str, *args: str, patience: float = PATIENCE, flags: tuple[str, ...] = ("-W", "error")
) -> subprocess.CompletedProcess[str]:
    """Runs a program in a fresh interpreter; that it hangs is a failure that shows what it had said."""
    command = [sys.executable, *flags, "-c", code, *args]
    path = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired as hung:
        raise AssertionError(f"no end within {patience} s\n{hung.stdout!r}\n{hung.stderr!r}") from None


def report(done: subprocess.CompletedProcess[str]) -> str:
    return f"exit code {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"


# ---- what the kernel sees ----


def thread_status(pid: int) -> dict[str, dict[str, str]]:
    """`/proc/<pid>/task/<tid>/status` of every thread."""
    threads = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status") as status:
            threads[tid] = dict(re.findall(r"^(\w+):\s*(.*)$", status.read(), re.MULTILINE))
    return threads


def voluntary_switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep, in all."""
    return sum(int(status["voluntary_ctxt_switches"]) for status in thread_status(pid).values())


def asleep(pid: int) -> bool:
    return all(status["State"].startswith("S") for status in thread_status(pid).values())


# ---- a wait that a signal handler may end ----


def record(into: list[Any], call: Callable[[], object]) -> None:
    """Appends what `call`, a function written in C, returns: a handler that raises then cannot lose the answer.

    `into.append(call())` could: CPython may run a signal handler between the two calls.
    """
    into.extend(islice(iter(call, _NEVER), 1))


_NEVER = object()
