"""How many futex calls a pair of acquire and release costs: 1 permit, 8 threads. Needs strace.

    python benches/futexes.py [--seconds 2.0]

Counted are the calls of the whole process, so those by which CPython's GIL changes hands are in it, for all
rivals alike: the figure is an upper bound of what the semaphore does. strace slows the calls and nothing
else, so the number of pairs is not to be compared with that of a free run.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluicegate._bench.contest import contend
from sluicegate._bench.rows import ONE_PERMIT

THREADS, TURNS = 8, 20


@dataclass(frozen=True)
class Count:
    """What strace saw in one run of a rival."""

    pairs: int
    waits: int
    wakes: int

    @property
    def pairs_per_wake(self) -> float:
        return self.pairs / max(1, self.wakes)


def count(rival: str, seconds: float) -> Count:
    """Runs the contest in a process of its own, under strace."""
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("futexes.py counts with strace, which is not on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        trace = [strace, "-f", "-qq", "-e", "trace=futex", "-e", "signal=none", "-o", str(log)]
        run = [sys.executable, __file__, "--run", rival, "--seconds", str(seconds)]
        pairs = subprocess.run([*trace, *run], check=True, stdout=subprocess.PIPE, text=True).stdout
        calls = [line for line in log.read_text().splitlines() if " futex(" in line]
    wakes = sum("FUTEX_WAKE" in call for call in calls)
    return Count(int(pairs), len(calls) - wakes, wakes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each contest lasts")
    parser.add_argument("--run", metavar="RIVAL", choices=ONE_PERMIT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        outcome = contend(ONE_PERMIT[options.run](), threads=THREADS, seconds=options.seconds, turns=TURNS)
        print(sum(outcome.served))
        return
    print(
        f"{'1 permit, 8 threads':34}{'pairs':>12}{'futex waits':>13}{'futex wakes':>13}{'pairs per wake':>16}"
    )
    for rival in ONE_PERMIT:
        seen = count(rival, options.seconds)
        print(f"{rival:34}{seen.pairs:12,}{seen.waits:13,}{seen.wakes:13,}{seen.pairs_per_wake:16,.1f}")


if __name__ == "__main__":
    main()
