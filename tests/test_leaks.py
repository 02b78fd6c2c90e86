"""What is used over and over takes no more memory than what is used once."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from support import alone, at_once

from sluicegate import Channel, ConnectionPool, Empty, Semaphore, after, queue, select

TURNS = 3000
SOON = 1e-6


def in_turns(one: Callable[[], object], other: Callable[[], object], turns: int) -> None:
    """Two threads, each of which waits for the other at every turn."""

    def repeat(step: Callable[[], object]) -> None:
        for _ in range(turns):
            step()

    at_once(functools.partial(repeat, one), functools.partial(repeat, other))


def semaphores(turns: int, *, fair: bool = False) -> None:
    there, back = Semaphore(0, fair=fair), Semaphore(0, fair=fair)
    in_turns(lambda: (there.acquire(), back.release()), lambda: (there.release(), back.acquire()), turns)
    for _ in range(turns // 10):
        there.acquire(timeout=SOON, n=2)


def fair_semaphores(turns: int) -> None:
    semaphores(turns, fair=True)


def channels(turns: int) -> None:
    there: Channel[Any] = Channel(1)
    back: Channel[Any] = Channel(0)
    in_turns(lambda: back.send(there.recv()), lambda: (there.send(object()), back.recv()), turns)
    for _ in range(turns // 10):
        with suppress(Empty):
            there.recv(timeout=SOON)
        with suppress(TimeoutError):
            select(there, back, (back, object()), timeout=SOON)
        select(there, after(0))


def queues(turns: int) -> None:
    there: queue.Queue[Any] = queue.Queue(1)
    back: queue.SimpleQueue[Any] = queue.SimpleQueue()
    in_turns(
        lambda: (back.put(there.get()), there.task_done()), lambda: (there.put(object()), back.get()), turns
    )
    for _ in range(turns // 10):
        with suppress(queue.Empty):
            there.get(timeout=SOON)


def pools(turns: int) -> None:
    pool = ConnectionPool(object, 1, check=lambda _: True, check_after=0, reset=lambda _: None)

    def use() -> None:
        with pool.connection():
            pass

    in_turns(use, use, turns // 3)
    for _ in range(turns // 10):
        with pool.lease():
            pass
        pool.discard(pool.acquire())


def threads(turns: int) -> None:
    pool = ConnectionPool(object, 2)
    for _ in range(turns // 20):
        worker = threading.Thread(target=lambda: pool.release(pool.acquire()))
        worker.start()
        worker.join()


def objects(turns: int) -> None:
    for _ in range(turns // 3):
        Semaphore(1).acquire()
        Channel[int](5).send(1)
        queue.Queue[int]().put(1)
        ConnectionPool(object, 1).acquire()


def shared(turns: int) -> None:
    from sluicegate.multiprocessing import BoundedSemaphore

    semaphore = BoundedSemaphore(1)

    def use() -> None:
        with semaphore:
            pass

    in_turns(use, use, turns)
    for _ in range(turns // 30):
        # One that is dropped with a permit taken stays, for the permit is the process's.
        with BoundedSemaphore(2):
            pass


class Malloc(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def memory() -> tuple[int, int]:
    """Bytes that are allocated, and Python's blocks."""
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Malloc
    seen = mallinfo2()
    return seen.uordblks + seen.hblkhd, sys.getallocatedblocks()


@pytest.mark.parametrize(
    "use",
    [semaphores, fair_semaphores, channels, queues, pools, threads, objects, shared],
    ids=lambda use: use.__name__,
)
@alone(patience=100)
def test_use_leaves_nothing_behind(use: Callable[[int], None]) -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this C library does not say how much it has allocated")
    if use is shared and sys.platform != "linux":
        pytest.skip("there are no semaphores of processes here")
    use(TURNS)
    grown = []
    for _ in range(5):
        before = memory()
        use(TURNS)
        grown.append(tuple(now - then for now, then in zip(memory(), before, strict=True)))
    # What leaks grows in every round, by a block or 16 bytes a turn; caches of the interpreter grow in some.
    assert min(seen[0] for seen in grown) < TURNS, grown
    assert min(seen[1] for seen in grown) < TURNS // 100, grown
