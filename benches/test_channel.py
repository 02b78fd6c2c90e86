"""Channel while nobody waits; the flow between threads is a section of `python -m sluicegate`."""

from pytest_benchmark.fixture import BenchmarkFixture
from suite import rows_of, run

from sluicegate._bench.timing import Statement


@rows_of("Channel")
def test_channel(benchmark: BenchmarkFixture, group: str, statement: Statement) -> None:
    run(benchmark, group, statement)
