"""What the tests of the queues share."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import sluicegate.queue as ours

CLASSES: dict[str, Any] = {
    "Queue": ours.Queue,
    "LifoQueue": ours.LifoQueue,
    "PriorityQueue": ours.PriorityQueue,
}
every_class = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())


def opened(kind: Any, maxsize: int = 0) -> Any:
    """A queue of which a program has asked for the insides."""
    q = kind(maxsize)
    assert q.mutex
    return q


# Every sort of bounded queue, native and open. Partials, so that they can travel to a process of one's own.
MAKES: dict[str, Any] = {
    **{name: functools.partial(kind) for name, kind in CLASSES.items()},
    **{f"open {name}": functools.partial(opened, kind) for name, kind in CLASSES.items()},
}
every_make = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())


def getting(q: Any) -> int:
    """How many wait for an item."""
    there = int(q._waiting()[0])
    return there + len(q.not_empty._waiters) if is_open(q) else there


def putting(q: Any) -> int:
    """How many wait for room."""
    there = int(q._waiting()[1])
    return there + len(q.not_full._waiters) if is_open(q) else there


def joining(q: Any) -> int:
    """How many wait for the last task."""
    there = int(q._waiting()[2])
    return there + len(q.all_tasks_done._waiters) if is_open(q) else there


def is_open(q: Any) -> bool:
    return not isinstance(q, ours.SimpleQueue) and bool(q._is_open())
