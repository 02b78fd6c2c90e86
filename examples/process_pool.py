"""The classroom's pool: ten processes share three resources, and a semaphore keeps the rest waiting.

    python examples/process_pool.py [fork | spawn | forkserver]

Only the import says that it is not `multiprocessing`'s.
"""

import random
import sys
import time
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from sluicegate.multiprocessing import BoundedSemaphore, Semaphore, current_process, get_context

RESOURCES, PROCESSES = 3, 10


class ActivePool:
    """Who uses the pool now, and the most that ever did at once."""

    def __init__(self, context: Any) -> None:
        self.limit = BoundedSemaphore(RESOURCES)
        self.active: Synchronized[int] = context.Value("i", 0)
        self.most: Synchronized[int] = context.Value("i", 0)

    def __enter__(self) -> int:
        self.limit.acquire()
        with self.active.get_lock():
            self.active.value += 1
            self.most.value = max(self.most.value, self.active.value)
            return self.active.value

    def __exit__(self, *_: object) -> None:
        with self.active.get_lock():
            self.active.value -= 1
        self.limit.release()


def use(pool: ActivePool, served: Semaphore) -> None:
    with pool as active:
        print(f"{current_process().name} is served, with {active} at once\n", end="", flush=True)
        time.sleep(random.random() * 0.05)
    served.release()


def main(method: str = "fork") -> None:
    context: Any = get_context(method)
    pool, served = ActivePool(context), Semaphore(0)
    jobs = [
        context.Process(target=use, args=(pool, served), name=f"worker {number}")
        for number in range(PROCESSES)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    print(
        f"{served.get_value()} were served, at most {pool.most.value} at once, "
        f"and {pool.limit.get_value()} resources are free"
    )
    assert served.get_value() == PROCESSES and pool.most.value <= RESOURCES == pool.limit.get_value()


if __name__ == "__main__":
    main(*sys.argv[1:])
