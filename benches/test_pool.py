"""ConnectionPool while nobody contends, beside the rivals that are installed; see `contended.py` for the rest."""

from pytest_benchmark.fixture import BenchmarkFixture
from suite import rows_of, run

from sluicegate._bench.timing import Statement


@rows_of("ConnectionPool")
def test_pool(benchmark: BenchmarkFixture, group: str, statement: Statement) -> None:
    run(benchmark, group, statement)
