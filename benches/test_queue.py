"""The queues while nobody contends, each beside the standard library's; see `queues.py` for producers and consumers."""

import queue
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from suite import run

from sluicegate import queue as ours
from sluicegate._bench.timing import Statement

PAIR = "q.put(7); q.get()"
RIVALS: dict[str, dict[str, Callable[[], object]]] = {
    "Queue(1024): put + get": {
        "sluicegate.queue.Queue": lambda: ours.Queue(1024),
        "queue.Queue": lambda: queue.Queue(1024),
        "queue.SimpleQueue": queue.SimpleQueue,
    },
    "SimpleQueue: put + get": {
        "sluicegate.queue.SimpleQueue": ours.SimpleQueue,
        "queue.SimpleQueue": queue.SimpleQueue,
    },
    "LifoQueue: put + get": {
        "sluicegate.queue.LifoQueue": ours.LifoQueue,
        "queue.LifoQueue": queue.LifoQueue,
    },
    "PriorityQueue of 500: put + get": {
        "sluicegate.queue.PriorityQueue": ours.PriorityQueue,
        "queue.PriorityQueue": queue.PriorityQueue,
    },
}
CASES = [
    pytest.param(group, Statement(PAIR, new, "q = new()" + FILLED * ("500" in group)), id=f"{group}, {rival}")
    for FILLED in ["\nfor number in range(500): q.put(2 * number)"]
    for group, rivals in RIVALS.items()
    for rival, new in rivals.items()
]


@pytest.mark.parametrize(("group", "statement"), CASES)
def test_queue(benchmark: BenchmarkFixture, group: str, statement: Statement) -> None:
    run(benchmark, group, statement)
