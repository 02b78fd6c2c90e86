"""Every bar that the semaphores are to clear, and what was measured.

    python benches/bars.py [--seconds 2.0]

Figures, not tests: on a busy machine one may be missed, the longest wait first of all.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import contended
import futexes
import memory

from sluicegate._bench.report import Environment, number
from sluicegate._bench.rows import SECTIONS
from sluicegate._bench.timing import FULL, Result, measure

OURS, FAIR = "sluicegate.Semaphore", "sluicegate.fair=True"
THREADING, LOCK, PROCESS = "threading.Semaphore", "threading.Lock", "multiprocessing.BoundedSemaphore"


@dataclass(frozen=True)
class Bar:
    """One thing that was asked for."""

    what: str
    seen: float
    least: float | None = None
    most: float | None = None
    note: str = ""

    def __str__(self) -> str:
        asked = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        met = self.seen >= self.least if self.least is not None else self.seen <= (self.most or 0)
        return f"{self.what:58}{asked:>16}{number(self.seen):>12}   {'met' if met else 'MISSED'}{self.note}"


def uncontended() -> Iterator[Bar]:
    """Ratios of whole rows: a pair, and a `with`."""
    (section,) = (section for section in SECTIONS if section.name == "Semaphore")
    rows = {result.name: result.ratios for result in measure(section, FULL, step=lambda section: None)}
    pair, block = rows["acquire + release"], rows["with"]
    yield Bar("acquire + release, x faster than threading.Lock", pair[LOCK], least=1)
    yield Bar("acquire + release, x faster than multiprocessing's", pair[PROCESS], least=1)
    yield Bar("acquire + release, x faster than threading.Semaphore", pair[THREADING], least=15)
    yield Bar("with, x faster than threading.Lock", block[LOCK], least=1)


def contention(results: Sequence[Result]) -> Iterator[Bar]:
    """8 threads: for 1 permit and nothing that blocks, for 2 permits and 0.5 ms of sleep."""
    empty, _, loop, _, slept, shares, waits = results
    for rate, inside in (empty, "nothing"), (loop, "a loop"):
        yield Bar(f"1 permit, {inside} inside, x threading.Lock", rate.ratios[LOCK], least=2)
        yield Bar(f"1 permit, {inside} inside, x threading.Semaphore", rate.ratios[THREADING], least=4)
    yield Bar("2 permits, x threading.Semaphore", slept.ratios[THREADING], least=0.9)
    yield Bar("2 permits, least / most served", shares.medians[OURS], least=0.9)
    worst = f" (worst round {number(max(waits.seen[OURS]))}, {THREADING} {number(waits.medians[THREADING])})"
    yield Bar("2 permits, longest wait in ms", waits.medians[OURS], most=20, note=worst)
    yield Bar("2 permits, fair=True, least / most served", shares.medians[FAIR], least=0.97)
    served = contended.order_of_service(200)
    yield Bar("fair=True, of 200 waiters served in turn", sum(map(int.__eq__, served, range(200))), least=200)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each contest lasts")
    options = parser.parse_args(arguments)
    print(Environment.here(), end="\n\n")
    for bar in uncontended():
        print(bar)
    for bar in contention(contended.contests(options.seconds, rounds=5)):
        print(bar)
    if shutil.which("strace"):
        seen = futexes.count(OURS, options.seconds)
        print(Bar("1 permit, pairs for each futex wake (the GIL's included)", seen.pairs_per_wake, least=50))
    million = 1_000_000
    beyond = memory.bytes_each(OURS, million) - memory.bytes_each("object", million)
    print(Bar("bytes of an idle semaphore beyond object()", beyond, most=160))


if __name__ == "__main__":
    main()
