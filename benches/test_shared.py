"""BoundedSemaphore of processes while nobody contends, beside `multiprocessing`'s; and while processes do."""

from pytest_benchmark.fixture import BenchmarkFixture
from suite import rows_of, run

from sluicegate._bench.timing import Statement


@rows_of("BoundedSemaphore of processes")
def test_shared(benchmark: BenchmarkFixture, group: str, statement: Statement) -> None:
    run(benchmark, group, statement)
