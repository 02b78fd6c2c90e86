"""What the pytest-benchmark suites share: the rows of `python -m sluicegate`, a benchmark for each rival."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sluicegate._bench.rows import SECTIONS
from sluicegate._bench.timing import Statement

REPEATED = 1000
"""A round runs the statement so often: its time in microseconds is that of one in nanoseconds."""


def rows_of(*sections: str) -> pytest.MarkDecorator:
    """Parametrizes a benchmark with `group` and `statement`: every rival of every row of the sections."""
    cases = [
        pytest.param(f"{section.name}: {row.name}", trial, id=f"{section.name}, {row.name}, {rival}")
        for section in SECTIONS
        for row in section.rows
        for rival, trial in row.rivals.items()
        if section.name in sections and isinstance(trial, Statement)
    ]
    return pytest.mark.parametrize(("group", "statement"), cases)


def run(benchmark: BenchmarkFixture, group: str, statement: Statement) -> None:
    """The rivals of a row are compared with one another, so they make a group."""
    benchmark.group = f"{group} (us for {REPEATED} = ns each)"
    timer = statement.timer()
    benchmark.pedantic(timer.timeit, args=(REPEATED,), rounds=200, warmup_rounds=5)  # type: ignore[no-untyped-call]
