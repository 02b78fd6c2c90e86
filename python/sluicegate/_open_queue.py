"""What the native queue calls once it is open: when a program has asked for its lock, its items or one of its
conditions, or when a subclass keeps the items its own way.

The steps, and with them the calls of the hooks, are those of `queue.Queue`. A wait that ends with an exception
passes on the notification that it may have been given.
"""

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


def wait(condition: Condition, timeout: float | None = None) -> None:
    if timeout is not None and timeout != timeout:
        raise ValueError("Invalid value NaN (not a number)")
    try:
        condition.wait(timeout)
    except BaseException:
        condition.notify()
        raise


def put(queue: Any, item: object, block: object, timeout: Any) -> None:
    with queue.not_full:
        if queue.is_shutdown:
            raise ShutDown
        if queue.maxsize > 0:
            if not block:
                if queue._qsize() >= queue.maxsize:
                    raise Full
            elif timeout is None:
                while queue._qsize() >= queue.maxsize:
                    wait(queue.not_full)
                    if queue.is_shutdown:
                        raise ShutDown
            elif timeout < 0:
                raise ValueError("'timeout' must be a non-negative number")
            else:
                deadline = monotonic() + timeout
                while queue._qsize() >= queue.maxsize:
                    remaining = deadline - monotonic()
                    if remaining <= 0.0:
                        raise Full
                    wait(queue.not_full, remaining)
                    if queue.is_shutdown:
                        raise ShutDown
        queue._put(item)
        queue.unfinished_tasks += 1
        queue.not_empty.notify()


def get(queue: Any, block: object, timeout: Any) -> object:
    with queue.not_empty:
        if queue.is_shutdown and not queue._qsize():
            raise ShutDown
        if not block:
            if not queue._qsize():
                raise Empty
        elif timeout is None:
            while not queue._qsize():
                wait(queue.not_empty)
                if queue.is_shutdown and not queue._qsize():
                    raise ShutDown
        elif timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        else:
            deadline = monotonic() + timeout
            while not queue._qsize():
                remaining = deadline - monotonic()
                if remaining <= 0.0:
                    raise Empty
                wait(queue.not_empty, remaining)
                if queue.is_shutdown and not queue._qsize():
                    raise ShutDown
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
