"""What the native queue calls once it is open: when a program has asked for its lock, its items or one of its
conditions, or when a subclass keeps the items its own way.

The steps, and with them the calls of the hooks, are those of `queue.Queue`. A wait that ends with an exception
passes on the notification that it may have been given.
"""

from collections.abc import Callable
from math import isnan
from queue import Empty, Full
from threading import Condition, Lock
from time import monotonic
from typing import Any

from sluicegate import _native

ShutDown = _native.ShutDown


def parts() -> tuple[Any, Condition, Condition, Condition]:
    """A lock and the conditions on it: not empty, not full, all tasks done."""
    mutex = Lock()
    return mutex, Condition(mutex), Condition(mutex), Condition(mutex)


def wait(condition: Condition, timeout: float | None) -> None:
    if timeout is not None and isnan(timeout):
        raise ValueError("Invalid value NaN (not a number)")
    try:
        condition.wait(timeout)
    except BaseException:
        condition.notify()
        raise


def wait_while(
    blocked: Callable[[], bool],
    condition: Condition,
    over: Callable[[], bool],
    failure: type[Exception],
    *,
    block: object,
    timeout: Any,
) -> None:
    """Waits on the condition, which is held, as long as `block` and `timeout` allow."""
    deadline = None
    if not block:
        if blocked():
            raise failure
        return
    if timeout is not None:
        if timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        deadline = monotonic() + timeout
    while blocked():
        remaining = None
        if deadline is not None:
            remaining = deadline - monotonic()
            if remaining <= 0.0:
                raise failure
        wait(condition, remaining)
        if over():
            raise ShutDown


def put(queue: Any, item: object, block: object, timeout: Any) -> None:
    def full() -> bool:
        return bool(queue._qsize() >= queue.maxsize)

    with queue.not_full:
        if queue.is_shutdown:
            raise ShutDown
        if queue.maxsize > 0:
            wait_while(
                full, queue.not_full, lambda: bool(queue.is_shutdown), Full, block=block, timeout=timeout
            )
        queue._put(item)
        queue.unfinished_tasks += 1
        queue.not_empty.notify()


def get(queue: Any, block: object, timeout: Any) -> object:
    def empty() -> bool:
        return not queue._qsize()

    def over() -> bool:
        return queue.is_shutdown and empty()

    with queue.not_empty:
        if over():
            raise ShutDown
        wait_while(empty, queue.not_empty, over, Empty, block=block, timeout=timeout)
        item: object = queue._get()
        queue.not_full.notify()
        return item


def task_done(queue: Any) -> None:
    with queue.all_tasks_done:
        unfinished = queue.unfinished_tasks - 1
        if unfinished < 0:
            raise ValueError("task_done() called too many times")
        if unfinished == 0:
            queue.all_tasks_done.notify_all()
        queue.unfinished_tasks = unfinished


def join(queue: Any) -> None:
    with queue.all_tasks_done:
        while queue.unfinished_tasks:
            queue.all_tasks_done.wait()


def qsize(queue: Any) -> object:
    with queue.mutex:
        return queue._qsize()


def empty(queue: Any) -> bool:
    with queue.mutex:
        return not queue._qsize()


def full(queue: Any) -> object:
    with queue.mutex:
        return 0 < queue.maxsize <= queue._qsize()


def shutdown(queue: Any, immediate: bool) -> None:
    with queue.mutex:
        queue.is_shutdown = True
        if immediate:
            while queue._qsize():
                queue._get()
                if queue.unfinished_tasks > 0:
                    queue.unfinished_tasks -= 1
            queue.all_tasks_done.notify_all()
        queue.not_empty.notify_all()
        queue.not_full.notify_all()
