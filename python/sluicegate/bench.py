"""The head-to-head behind `python -m sluicegate`, as one function; how it works is in `sluicegate._bench`."""

import json
from pathlib import Path

from sluicegate._bench import sources
from sluicegate._bench.program import ACTS, Answers, differences, program
from sluicegate._bench.progress import progress
from sluicegate._bench.report import Environment, Report
from sluicegate._bench.rows import SECTIONS
from sluicegate._bench.sources import NoSources
from sluicegate._bench.timing import FULL, QUICK, Pace, measure

__all__ = ["NoSources", "run"]


def run(*, quick: bool = False, json_file: Path | None = None, plot_file: Path | None = None) -> int:
    """Measures, prints, writes; returns the exit code: 1 if the program gave different answers."""
    effort = QUICK if quick else FULL
    environment = Environment.here()
    answers: Answers = {}
    paces = [Pace.PROGRAM, *(section.pace for section in SECTIONS)]
    with progress(1 + sum(effort.rounds[pace] for pace in paces)) as step:
        step("reading the standard library")
        files = sources.find(effort.seconds[Pace.PROGRAM])
        sections = (program(files, answers, ACTS), *SECTIONS)
        results = [result for section in sections for result in measure(section, effort, step)]
    report = Report(environment, answers, results)
    print(report.as_text())
    if json_file:
        json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    if plot_file:
        from sluicegate._bench.plot import draw

        draw(results, environment, plot_file)
    return 1 if differences(answers) else 0
