"""A process of the same user can write the page as it likes: it can spoil the count, and cannot crash us."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support import alone

from sluicegate.multiprocessing import BoundedSemaphore, Semaphore

pytestmark = pytest.mark.thread_unsafe(reason="it forks")


def use(sem: Semaphore, order: random.Random) -> None:
    uses: list[Callable[[], object]] = [
        lambda: sem.acquire(False),
        lambda: sem.acquire(timeout=order.random() * 0.003),
        sem.release,
        lambda: sem.release(order.randrange(1, 5)),
        sem.get_value,
        sem.locked,
        lambda: repr(sem),
        lambda: sem.waiting,
    ]
    if isinstance(sem, BoundedSemaphore):
        uses += [sem.holders, lambda: sem.pressure, lambda: repr(sem.holders())]
    with suppress(ValueError, OSError):
        order.choice(uses)()


def in_a_child(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


@pytest.mark.parametrize("sort", ["anonymous", "named", "signalling"])
@alone(patience=300)
def test_random_bytes_in_the_page_crash_nobody(sort: str, tmp_path: Path, seed: int, factor: int) -> None:
    order = random.Random(seed)
    sem: Semaphore
    if sort == "anonymous":
        sem = BoundedSemaphore(5)
    elif sort == "named":
        sem = BoundedSemaphore.named("hostile", 5, dir=tmp_path)
    else:
        sem = Semaphore(5)
    sem.acquire()
    page = mmap.mmap(os.dup(sem._fileno()), 0)
    # Where there is something: the header, the first members, the slots.
    slots = (512 + 8 * 1024) * 8
    places = [(0, min(4096 + 8 * 64, len(page)))] + (
        [(slots, len(page) - slots)] if len(page) > slots else []
    )

    def spoil() -> None:
        start, length = order.choice(places)
        at = start + order.randrange(length)
        kind = order.randrange(3)
        if kind == 0:
            page[at : at + 1] = order.randbytes(1)
        elif kind == 1:
            at &= ~7
            page[at : at + 8] = order.choice([b"\0" * 8, b"\xff" * 8, order.randbytes(8)])
        else:
            at = min(at, len(page) - 64)
            page[at : at + 64] = order.randbytes(64)

    def victim() -> None:
        mine = random.Random(os.getpid())
        for _ in range(1500 * factor):
            use(sem, mine)

    pids = [in_a_child(victim) for _ in range(2)]
    for _ in range(1500 * factor):
        spoil()
        use(sem, order)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]


@alone()
def test_locks_that_somebody_else_holds_are_waited_for_by_nobody() -> None:
    """Whoever holds the lock of a dead member keeps its permits taken: no crash, no hang, and a timeout is one."""
    import fcntl
    import struct

    sem = BoundedSemaphore(1)
    spoiler = os.open(f"/proc/self/fd/{sem._fileno()}", os.O_RDWR)
    fcntl.fcntl(spoiler, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1 << 40, 0, 0))
    with pytest.raises(OSError, match="too many processes"):
        sem.acquire(timeout=0.1)
    os.close(spoiler)
    assert sem.acquire(timeout=0.1)


def test_the_length_of_an_anonymous_page_cannot_be_changed() -> None:
    sem = BoundedSemaphore(1)
    for length in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(sem._fileno(), length)
