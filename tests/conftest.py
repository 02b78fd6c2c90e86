"""Options of the suite: how long the storms rage, and from which seed."""

from __future__ import annotations

import random

import hypothesis
import pytest

# No deadline: a shared machine may stop any example for a while. No database: a failure prints its own recipe.
hypothesis.settings.register_profile("sluicegate", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("sluicegate")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="storms of minutes instead of seconds")
    parser.addoption("--seed", type=int, default=random.randrange(2**32), help="seed of the storms")


def pytest_report_header(config: pytest.Config) -> str:
    return f"storms: seed {config.getoption('--seed')} (repeat with --seed), {_factor(config)} x the usual length"


def _factor(config: pytest.Config) -> int:
    return 30 if config.getoption("--long") else 1


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What the storms draw their order from."""
    return int(request.config.getoption("--seed"))


@pytest.fixture(scope="session")
def factor(request: pytest.FixtureRequest) -> int:
    """How many times longer than usual the storms rage."""
    return _factor(request.config)
