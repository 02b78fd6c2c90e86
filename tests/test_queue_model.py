"""Any sequence of calls by one thread ends the same with ours, native or opened on the way, as with `queue`."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sluicegate.queue
from sluicegate.queue import ShutDown

NAMES = ["Queue", "LifoQueue", "PriorityQueue"]
Step = tuple[str, Any]

items = st.integers(-5, 5)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("put_nowait"), items),
    st.tuples(st.just("put"), items),
    st.tuples(st.just("get_nowait"), st.none()),
    st.tuples(st.just("get"), st.sampled_from([0, 0.0, -1, 1e-9, "x"])),
    st.tuples(st.just("sizes"), st.none()),
    st.tuples(st.just("task_done"), st.none()),
    st.tuples(st.just("maxsize"), st.sampled_from([-1, 0, 1, 2, 3, 1.5, 0.5, True])),
    st.tuples(st.just("unfinished"), st.integers(0, 3)),
    st.tuples(st.just("clear"), st.none()),
)
DEEDS: dict[str, Callable[[Any, Any], object]] = {
    "put_nowait": lambda q, item: q.put_nowait(item),
    "put": lambda q, item: q.put(item, timeout=0),
    "get_nowait": lambda q, _: q.get_nowait(),
    "get": lambda q, timeout: q.get(timeout=timeout),
    "sizes": lambda q, _: (q.qsize(), q.empty(), q.full(), q.maxsize, q.unfinished_tasks),
    "task_done": lambda q, _: q.task_done(),
    "maxsize": lambda q, maxsize: setattr(q, "maxsize", maxsize),
    "unfinished": lambda q, number: setattr(q, "unfinished_tasks", number),
    "clear": lambda q, _: q.queue.clear(),
    "open": lambda q, _: q.mutex.locked(),
    "shutdown": lambda q, immediate: q.shutdown(immediate),
}


def do(q: Any, step: Step) -> object:
    name, argument = step
    try:
        return DEEDS[name](q, argument)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", NAMES)
@given(maxsize=st.integers(-1, 4), steps=st.lists(STEPS, max_size=40), opened_at=st.integers(0, 60))
def test_a_sequence_of_calls_ends_as_with_the_standard_library(
    name: str, maxsize: int, steps: list[Step], opened_at: int
) -> None:
    ours, theirs = getattr(sluicegate.queue, name)(maxsize), getattr(queue, name)(maxsize)
    for at, step in enumerate(steps):
        if at == opened_at:
            assert ours.mutex
        assert do(ours, step) == do(theirs, step), (at, step)
    assert list(ours.queue) == list(theirs.queue)


@pytest.mark.skipif(not hasattr(queue, "ShutDown"), reason="`queue` has no shutdown yet")
@pytest.mark.parametrize("name", NAMES)
@given(
    steps=st.lists(st.one_of(STEPS, st.tuples(st.just("shutdown"), st.booleans())), max_size=40),
    opened_at=st.integers(0, 60),
)
def test_so_does_one_with_shutdowns(name: str, steps: list[Step], opened_at: int) -> None:
    test: Any = test_a_sequence_of_calls_ends_as_with_the_standard_library
    test.hypothesis.inner_test(name, 2, steps, opened_at)


@pytest.mark.parametrize("name", NAMES)
@given(steps=st.lists(STEPS, max_size=20), more=st.lists(STEPS, max_size=10), immediate=st.booleans())
def test_an_open_queue_is_shut_down_as_a_native_one(
    name: str, steps: list[Step], more: list[Step], immediate: bool
) -> None:
    kind = getattr(sluicegate.queue, name)
    native, opened = kind(3), kind(3)
    assert opened.mutex
    later = [step for step in more if step[0] not in {"maxsize", "clear"}]
    for step in [*(s for s in steps if s[0] != "clear"), ("shutdown", immediate), *later]:
        assert do(native, step) == do(opened, step), step
    assert not native._is_open()
    with pytest.raises(ShutDown):
        native.put(1)
