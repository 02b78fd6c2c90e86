"""How everything here is timed: rounds in which each rival has its turn, in random order; medians; ratios.

A machine that others use slows down and speeds up as it likes. Rivals that are timed one right after another
see the same weather, so the figure to trust is the ratio within a round, and its median over the rounds.
"""

import random
import statistics
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import isfinite
from typing import Any, Literal

SEED = 20_240_229
"""The order of the rivals is random, and the same in every run."""

BATCHES = 3
"""A round of a statement is the best of this many batches: one that was not interrupted."""


class Pace(Enum):
    """What a round of a section is made of."""

    STATEMENT = "statement"
    CONTEST = "contest"
    PROGRAM = "program"


@dataclass(frozen=True)
class Effort:
    """How long to measure what, by its pace."""

    rounds: Mapping[Pace, int]
    seconds: Mapping[Pace, float]
    """What one batch, one contest, one run of the program takes, about."""


FULL = Effort(
    rounds={Pace.STATEMENT: 11, Pace.CONTEST: 3, Pace.PROGRAM: 5},
    seconds={Pace.STATEMENT: 0.002, Pace.CONTEST: 0.25, Pace.PROGRAM: 1.0},
)
QUICK = Effort(
    rounds={Pace.STATEMENT: 2, Pace.CONTEST: 1, Pace.PROGRAM: 2},
    seconds={Pace.STATEMENT: 0.0003, Pace.CONTEST: 0.05, Pace.PROGRAM: 0.1},
)


@dataclass(frozen=True)
class Figure:
    """One number that a row yields."""

    unit: str
    better: Literal["less", "more"] = "less"
    of: str = ""
    """What it is. The first figure of a row needs none: it goes by the row's name."""

    def advantage(self, ours: float, theirs: float) -> float:
        """How many times better `ours` is; 1 where neither differs from zero."""
        better, worse = (theirs, ours) if self.better == "less" else (ours, theirs)
        if worse == 0.0:
            return 1.0 if better == 0.0 else float("inf")
        return better / worse


NS = Figure("ns")

Round = Callable[[], Sequence[float]]
"""Measures once: one number for each figure of the row."""

Trial = Callable[[Effort], Round]
"""Makes a rival ready to be measured."""


@dataclass(frozen=True)
class Statement:
    """One line of code, timed by `timeit`, which turns the garbage collector off meanwhile.

    It is compiled anew for each rival, so that none runs through inline caches that another has trained.
    The cost of the loop stays in, for all alike.
    """

    code: str
    new: Callable[..., object]
    setup: str

    def timer(self) -> timeit.Timer:
        return timeit.Timer(self.code, self.setup, globals={"new": self.new})

    def __call__(self, effort: Effort) -> Round:
        timer = self.timer()
        number = _repetitions(timer, effort.seconds[Pace.STATEMENT])
        return lambda: (min(timer.timeit(number) for _ in range(BATCHES)) / number * 1e9,)


def statement(
    code: str, rivals: Mapping[str, Callable[..., object]], setup: str = "sem = new()"
) -> dict[str, Trial]:
    """The same line for each of the rivals, which `setup` makes with `new`."""
    return {name: Statement(code, new, setup) for name, new in rivals.items()}


def _repetitions(timer: timeit.Timer, seconds: float) -> int:
    number = 1
    while (took := timer.timeit(number)) < seconds / 4:
        number *= 2
    return max(1, int(number * seconds / took))


@dataclass(frozen=True)
class Row:
    """One thing to measure, and who is measured. The first rival is ours: the others are compared with it."""

    name: str
    rivals: Mapping[str, Trial]
    figures: tuple[Figure, ...] = (NS,)


@dataclass(frozen=True)
class Section:
    """Rows that share a table."""

    name: str
    rows: tuple[Row, ...]
    pace: Pace


@dataclass
class Result:
    """The figures of one row: what each rival showed in each round."""

    section: str
    row: str
    figure: Figure
    seen: dict[str, list[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.row}: {self.figure.of}" if self.figure.of else self.row

    @property
    def ours(self) -> str:
        return next(iter(self.seen))

    @property
    def medians(self) -> dict[str, float]:
        return {rival: statistics.median(seen) for rival, seen in self.seen.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """How many times better ours is than each of the others: the median over the rounds."""
        return {
            rival: statistics.median(map(self.figure.advantage, self.seen[self.ours], seen))
            for rival, seen in self.seen.items()
            if rival != self.ours
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "section": self.section,
            "name": self.name,
            "unit": self.figure.unit,
            "better": self.figure.better,
            "medians": self.medians,
            # JSON knows no infinity: a rival that never got in cannot be put into a ratio.
            "ratios": {rival: ratio if isfinite(ratio) else None for rival, ratio in self.ratios.items()},
        }


def measure(section: Section, effort: Effort, step: Callable[[str], None]) -> list[Result]:
    """All rows of a section, a round of everything at a time; calls `step` once a round.

    So a few seconds of bad weather touch every row a little and decide none.
    """
    order = random.Random(SEED)
    results = [list(_results_of(section, row)) for row in section.rows]
    ready = [{rival: trial(effort) for rival, trial in row.rivals.items()} for row in section.rows]
    for _ in range(effort.rounds[section.pace]):
        step(section.name)
        for rounds, figures in zip(ready, results, strict=True):
            for rival in order.sample(list(rounds), len(rounds)):
                for result, number in zip(figures, rounds[rival](), strict=True):
                    result.seen[rival].append(number)
    return [result for figures in results for result in figures]


def _results_of(section: Section, row: Row) -> Iterator[Result]:
    for figure in row.figures:
        yield Result(section.name, row.name, figure, {rival: [] for rival in row.rivals})
