"""The bars of the semaphores of processes, and what was measured.

    python benches/shared.py [--seconds 1.0] [--rounds 7]

Figures, not tests: the ratios are medians of interleaved rounds.
"""

import argparse
import os
import signal
import statistics
import time
from collections.abc import Sequence

from sluicegate._bench.processes import sections
from sluicegate._bench.report import Environment, number
from sluicegate._bench.timing import FULL, Effort, Pace, measure
from sluicegate.multiprocessing import BoundedSemaphore


def recovery(times: int) -> list[float]:
    """Milliseconds from the SIGKILL of a holder until a process that waits for its permit has it."""
    delays = []
    read_end, write_end = os.pipe()
    for _ in range(times):
        sem = BoundedSemaphore(1)
        holder = os.fork()
        if not holder:
            sem.acquire()
            signal.pause()
        while sem.get_value():
            time.sleep(0.001)
        killer = os.fork()
        if not killer:
            while not sem.waiting:
                time.sleep(0.001)
            time.sleep(0.05)
            os.write(write_end, f"{time.monotonic()}\n".encode())
            os.kill(holder, signal.SIGKILL)
            os._exit(0)
        sem.acquire()
        taken = time.monotonic()
        os.waitpid(killer, 0)
        os.waitpid(holder, 0)
        delays.append((taken - float(os.read(read_end, 100))) * 1e3)
        sem.release()
    return delays


def share_of_a_core(seconds: float) -> float:
    """What a waiting process uses, in percent."""
    sem = BoundedSemaphore(1)
    sem.acquire()
    waiter = os.fork()
    if not waiter:
        sem.acquire()
        os._exit(0)
    while not sem.waiting:
        time.sleep(0.001)

    def used() -> int:
        with open(f"/proc/{waiter}/schedstat", encoding="ascii") as schedstat:
            return int(schedstat.read().split()[0])

    begin, before = time.monotonic_ns(), used()
    time.sleep(seconds)
    share = (used() - before) / (time.monotonic_ns() - begin) * 100
    sem.release()
    os.waitpid(waiter, 0)
    return share


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each contest lasts")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is held")
    options = parser.parse_args(arguments)
    print(Environment.here(), end="\n\n")
    rounds = {pace: options.rounds if pace is Pace.CONTEST else FULL.rounds[pace] for pace in Pace}
    effort = Effort(rounds, {**FULL.seconds, Pace.CONTEST: options.seconds})
    for section in sections():
        for result in measure(section, effort, step=lambda section: None):
            (theirs, ratio), *_ = result.ratios.items()
            medians = f"{number(result.medians[result.ours])} against {number(result.medians[theirs])}"
            print(f"{result.name:44} {ratio:6.2f} x  ({medians} {result.figure.unit})")
    delays = recovery(25)
    worst = f"worst {max(delays):.1f}"
    print(
        f"{'SIGKILL of the holder until a waiter is in, ms':44} {statistics.median(delays):6.2f}    ({worst})"
    )
    print(f"{'a process that waits, % of a core':44} {share_of_a_core(3.0):6.2f}")


if __name__ == "__main__":
    main()
