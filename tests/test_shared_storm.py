"""Storms: processes that share permits are killed at random moments, and a witness of the kernel's counts holders."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import alone, wait_until

from sluicegate._native import _presume_dead
from sluicegate.multiprocessing import BoundedSemaphore, Semaphore

pytestmark = [
    pytest.mark.stress,
    pytest.mark.thread_unsafe(reason="it runs processes of its own"),
    pytest.mark.timeout(900),
]


class Witness:
    """Counts who holds a permit by record locks, of which a file has one for each permit.

    The kernel drops them when their process ends. The file is opened before the semaphore's, and a process that ends
    closes its descriptors from the lowest up: so the witness lets go first, and never complains too soon.
    """

    def __init__(self, directory: Path, permits: int) -> None:
        self._bytes = range(permits)
        self._file = os.open(directory / "witness", os.O_RDWR | os.O_CREAT, 0o600)
        self._complaints = directory / "complaints"
        self._complaints.touch()

    def hold(self) -> int | None:
        for at in self._bytes:
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
                return at
        with open(self._complaints, "a") as complaints:
            complaints.write("!")
        return None

    def let_go(self, at: int | None) -> None:
        if at is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, at)

    @property
    def complaints(self) -> int:
        return os.path.getsize(self._complaints)


def start(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def rage(seed: int, kills: int, crew: list[Callable[[], object]], pause: float) -> None:
    """Kills one of the crew at random, and starts it again, so many times; and all of them in the end."""
    order = random.Random(seed)
    pids = [start(work) for work in crew]
    for _ in range(kills):
        time.sleep(order.random() * pause)
        at = order.randrange(len(crew))
        os.kill(pids[at], signal.SIGKILL)
        os.waitpid(pids[at], 0)
        pids[at] = start(crew[at])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def is_whole(sem: Any, permits: int) -> bool:
    taken = [sem.acquire(False) for _ in range(permits + 1)]
    sem.release(permits)
    return taken == [True] * permits + [False] and sem.get_value() == permits


def gentle(sem: Any, witness: Witness) -> Callable[[], object]:
    def work() -> None:
        order = random.Random(os.getpid())
        while True:
            assert sem.acquire(timeout=30), "a permit never came back"
            at = witness.hold()
            time.sleep(order.random() * 0.002)
            witness.let_go(at)
            sem.release()

    return work


def hot(sem: Any, witness: Witness) -> Callable[[], object]:
    def work() -> None:
        while True:
            for _ in range(200):
                sem.acquire()
                sem.release()
            with sem:
                witness.let_go(witness.hold())

    return work


SEMAPHORES = ["anonymous", "named"]


def make(sort: str, permits: int, directory: Path) -> Any:
    return (
        BoundedSemaphore(permits)
        if sort == "anonymous"
        else BoundedSemaphore.named("storm", permits, dir=directory)
    )


@pytest.mark.parametrize("sort", SEMAPHORES)
@alone(patience=800)
def test_a_kill_storm_leaves_every_permit_and_admits_nobody_too_many(
    sort: str, tmp_path: Path, seed: int, factor: int
) -> None:
    witness = Witness(tmp_path, 3)
    sem = make(sort, 3, tmp_path)
    rage(seed, 150 * factor, [gentle(sem, witness)] * 8, 0.01)
    assert witness.complaints == 0, f"{witness.complaints} too many"
    assert is_whole(sem, 3), sem


@pytest.mark.parametrize("sort", SEMAPHORES)
@alone(patience=800)
def test_a_hot_storm_leaves_every_permit_and_admits_nobody_too_many(
    sort: str, tmp_path: Path, seed: int, factor: int
) -> None:
    witness = Witness(tmp_path, 2)
    sem = make(sort, 2, tmp_path)
    rage(seed, 150 * factor, [hot(sem, witness)] * 4, 0.01)
    assert witness.complaints == 0, f"{witness.complaints} too many"
    assert is_whole(sem, 2), sem
    # Whatever the killed left in the page, a waiter is still woken at once.
    with sem, sem:
        done = Semaphore(0)
        pid = start(lambda: sem.acquire(timeout=30) and done.release())
        wait_until(lambda: sem.waiting >= 1)
        sem.release()
        assert done.acquire(timeout=30)
        os.waitpid(pid, 0)
        sem.acquire()


@alone(patience=100)
def test_the_witness_sees_it_if_the_living_are_taken_for_dead(tmp_path: Path, seed: int) -> None:
    witness = Witness(tmp_path, 3)
    sem = make("anonymous", 3, tmp_path)

    def lie() -> None:
        _presume_dead(True)
        order = random.Random(os.getpid())
        while True:
            if sem.acquire(timeout=1):
                at = witness.hold()
                time.sleep(order.random() * 0.002)
                witness.let_go(at)
                with suppress(ValueError):
                    sem.release()

    pids = [start(lie) for _ in range(8)]
    wait_until(lambda: witness.complaints > 0)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(f"over-admissions seen: {witness.complaints}")
    # The lie was theirs: this process knows better.
    assert is_whole(sem, 3)


@alone(patience=100)
def test_the_witness_sees_a_permit_that_was_lost(tmp_path: Path, seed: int) -> None:
    """The other control: `multiprocessing`'s own semaphore, in the same storm."""
    import multiprocessing

    sem = multiprocessing.get_context("fork").BoundedSemaphore(3)

    def work() -> None:
        while True:
            with sem:
                time.sleep(0.001)

    rage(seed, 40, [work] * 8, 0.01)
    assert sem.get_value() < 3


@pytest.mark.parametrize("sort", SEMAPHORES)
@alone(patience=800)
def test_mixed_operations_of_threads_in_processes_end_where_they_began(
    sort: str, tmp_path: Path, seed: int, factor: int
) -> None:
    permits, processes, threads = 5, 4, 3
    sem = make(sort, permits, tmp_path)
    operations = 100_000 * factor // (processes * threads)

    def thread(order: random.Random, errors: list[BaseException]) -> None:
        try:
            for _ in range(operations):
                way = order.randrange(6)
                if way == 0:
                    with sem:
                        pass
                elif way == 1 and sem.acquire(False):
                    sem.release()
                elif way == 2 and sem.acquire(timeout=order.random() * 0.001):
                    sem.release(n=1)
                elif way == 3 and sem.acquire(timeout=30):
                    if sem.acquire(False):
                        sem.release(2)
                    else:
                        sem.release()
                elif way == 4:
                    assert 0 <= sem.get_value() <= permits
                elif way == 5 and order.random() < 0.01:
                    assert len(sem.holders()) <= permits
        except BaseException as error:
            errors.append(error)

    def process(number: int) -> Callable[[], object]:
        def work() -> None:
            errors: list[BaseException] = []
            crew = [
                threading.Thread(target=thread, args=(random.Random(f"{seed}.{number}.{at}"), errors))
                for at in range(threads)
            ]
            for one in crew:
                one.start()
            for one in crew:
                one.join()
            if errors:
                raise errors[0]

        return work

    pids = [start(process(number)) for number in range(processes)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * processes
    assert is_whole(sem, permits) and sem.waiting == 0


@alone(patience=800)
def test_what_some_processes_signal_others_get_exactly_once(seed: int, factor: int) -> None:
    sem, got = Semaphore(0), Semaphore(0)
    number = 3000 * factor

    def send() -> None:
        for _ in range(number):
            sem.release()

    def receive() -> None:
        while sem.acquire(timeout=3):
            got.release()

    pids = [start(work) for work in (send, send, receive, receive, receive)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 5
    assert (sem.get_value(), got.get_value()) == (0, 2 * number)
