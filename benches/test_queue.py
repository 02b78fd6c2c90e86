"""The queues while nobody waits; see `queues.py` for their bars, and for the flow between threads."""

from pytest_benchmark.fixture import BenchmarkFixture
from suite import rows_of, run

from sluicegate._bench.timing import Statement


@rows_of("Queue")
def test_queue(benchmark: BenchmarkFixture, group: str, statement: Statement) -> None:
    run(benchmark, group, statement)
