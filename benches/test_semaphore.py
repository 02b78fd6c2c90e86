"""Semaphore and BoundedSemaphore while nobody contends; see `contended.py` for the rest."""

from pytest_benchmark.fixture import BenchmarkFixture
from suite import rows_of, run

from sluicegate._bench.timing import Statement


@rows_of("Semaphore", "BoundedSemaphore")
def test_semaphore(benchmark: BenchmarkFixture, group: str, statement: Statement) -> None:
    run(benchmark, group, statement)
