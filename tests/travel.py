"""A program that sends semaphores to other processes in every way there is; run by `test_shared_travel`."""

from __future__ import annotations

import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from sluicegate.multiprocessing import BoundedSemaphore, Semaphore, get_context

given: Any = None


class Slots(BoundedSemaphore):
    """A class of the user's own, with something of its own."""

    def __init__(self, label: str) -> None:
        super().__init__(2)
        self.label = label


def keep(*semaphores: Any) -> None:
    global given
    given = semaphores


def use(limit: Any, done: Any) -> int:
    with limit:
        assert limit.get_value() < limit.capacity
        assert os.getpid() in [holder.pid for holder in limit.holders()]
    done.release()
    return os.getpid()


def use_given(_: int) -> int:
    return use(*given)


def use_slots(slots: Slots, done: Semaphore) -> None:
    assert slots.label == "db" and type(slots) is Slots
    use(slots, done)


def same(one: Any, two: Any) -> bool:
    one.acquire()
    two.release()
    return True


def main(method: str, directory: str) -> None:
    if method == "fork":
        # Pools have threads: CPython's advice about that is not what is tested here.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    context: Any = get_context(method)
    for limit in (BoundedSemaphore(2), BoundedSemaphore.named("travel", 2, dir=directory)):
        done = Semaphore(0)
        crew = [context.Process(target=use, args=(limit, done)) for _ in range(3)]
        for process in crew:
            process.start()
        for process in crew:
            process.join()
            assert process.exitcode == 0, process
        with context.Pool(2, initializer=keep, initargs=(limit, done)) as pool:
            assert os.getpid() not in pool.map(use_given, range(4))
            # As an ordinary argument, which `multiprocessing`'s own cannot be.
            assert pool.apply(use, (limit, done)) != os.getpid()
            assert pool.apply(same, (limit, limit))
            pool.close()
            pool.join()
        with ProcessPoolExecutor(2, mp_context=context, initializer=keep, initargs=(limit, done)) as executor:
            assert os.getpid() not in executor.map(use_given, range(4))
            assert executor.submit(use, limit, done).result() != os.getpid()
        for _ in range(3 + 4 + 1 + 4 + 1):
            assert done.acquire(timeout=30)
        assert not done.acquire(False)
        assert limit.get_value() == 2
    process = context.Process(target=use_slots, args=(Slots("db"), done))
    process.start()
    process.join()
    assert process.exitcode == 0 and done.acquire(False)


if __name__ == "__main__":
    main(*sys.argv[1:])
