"""What is shown at the end: tables for people, JSON for machines."""

import os
import platform
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Any

from sluicegate._bench.program import Answers, differences
from sluicegate._bench.timing import Result

SCHEMA = 1
"""Goes up when a field of the JSON changes its meaning or goes away."""


@dataclass(frozen=True)
class Environment:
    """Where it was measured."""

    sluicegate: str
    python: str
    gil: bool
    platform: str
    cores: int
    load: float | None
    """Of the last minute before the start, where the system tells: what else wanted the cores."""

    @classmethod
    def here(cls) -> "Environment":
        gil = getattr(sys, "_is_gil_enabled", None)
        return cls(
            sluicegate=version("sluicegate"),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            gil=gil() if gil else not sysconfig.get_config_var("Py_GIL_DISABLED"),
            platform=f"{platform.system()} {platform.machine()}",
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        )

    def __str__(self) -> str:
        gil = "with the GIL" if self.gil else "without the GIL"
        shared = "" if self.load is None else f", load {self.load:.1f} at the start"
        return (
            f"sluicegate {self.sluicegate}, {self.python} {gil}, {self.platform}, "
            f"{self.cores} core{'s' if self.cores != 1 else ''}{shared}"
        )


@dataclass(frozen=True)
class Report:
    """Everything that was found out."""

    environment: Environment
    answers: Answers
    results: Sequence[Result]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "environment": asdict(self.environment),
            "same_answer": not differences(self.answers),
            "answers": {
                act: {name: sorted(set(given)) for name, given in runs.items()}
                for act, runs in self.answers.items()
            },
            "rows": [result.as_json() for result in self.results],
        }

    def as_text(self) -> str:
        """The tables, one for each section, and the answers below the program's."""
        tables = []
        for section, results in groupby(self.results, key=lambda result: result.section):
            tables.append(table(section, list(results)))
            if len(tables) == 1:
                tables.append(self._verdict())
        return "\n\n".join([str(self.environment), *tables, NOTE])

    def _verdict(self) -> str:
        wrong = differences(self.answers)
        if wrong:
            return "\n".join(["DIFFERENT ANSWERS", *wrong])
        given = (next(iter(next(iter(runs.values())))) for runs in self.answers.values())
        return "\n".join(f"the same answer in all runs: {answer}" for answer in given)


NOTE = """\
(2.0x) is how many times better ours, the first column, is than that one; below 1, it is worse.
Medians over rounds in which each rival has its turn, in random order; a ratio is the median of its rounds.
The times are those of a machine that other programs may use as well: trust the ratios."""


def number(value: float) -> str:
    """Three digits that count, thousands set apart."""
    decimals = 0 if value >= 100 or value == 0 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f}"


def table(title: str, results: Sequence[Result]) -> str:
    """A line for each figure, a column for each rival, ours first."""
    rivals = list(dict.fromkeys(rival for result in results for rival in result.seen))
    # `threading.Semaphore` on two lines: the columns stay narrow.
    modules, _, classes = zip(*(rival.partition(".") for rival in rivals), strict=True)
    lines = [[title, "", *modules]]
    if any(classes):
        lines.append(["", "", *classes])
    lines += [
        [
            f"  {result.figure.of}" if result.figure.of else result.row,
            result.figure.unit,
            *_cells(result, rivals),
        ]
        for result in results
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    text = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    heading = 2 if any(classes) else 1
    return "\n".join([*text[:heading], rule, *text[heading:]])


def _cells(result: Result, rivals: Sequence[str]) -> list[str]:
    medians, ratios = result.medians, result.ratios
    return [
        ""
        if rival not in medians
        else number(medians[rival]) + (f" ({times(ratios[rival])})" if rival in ratios else "")
        for rival in rivals
    ]


def times(ratio: float) -> str:
    """A ratio, with two digits that count."""
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"
