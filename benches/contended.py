"""Threads that contend for permits, beside the honest rivals: rate, least / most served, longest wait.

    python benches/contended.py [--seconds 1.0] [--rounds 5]

The figures are medians of interleaved rounds. Least / most served gets nearer to 1 the longer a round lasts,
and a semaphore that starves threads shows a longest wait about as long as the round.
"""

import argparse
import threading
import time
from collections.abc import Sequence

import sluicegate
from sluicegate._bench.report import NOTE, Environment, table
from sluicegate._bench.rows import SECTIONS
from sluicegate._bench.timing import Effort, Pace, Result, measure


def contests(seconds: float, rounds: int) -> list[Result]:
    """The contests of `python -m sluicegate`, for as long as is asked."""
    effort = Effort(rounds={Pace.CONTEST: rounds}, seconds={Pace.CONTEST: seconds})
    return [
        result
        for section in SECTIONS
        if section.name == "Semaphore, contended"
        for result in measure(section, effort, step=lambda section: None)
    ]


def order_of_service(threads: int) -> list[int]:
    """Threads that came to a fair semaphore one after another, in the order in which they got in."""
    semaphore = sluicegate.Semaphore(0, fair=True)
    served: list[int] = []

    def wait(me: int) -> None:
        semaphore.acquire()
        # Before the next permit is given: the order of the appends is the order of the grants.
        served.append(me)

    crowd = [threading.Thread(target=wait, args=(me,)) for me in range(threads)]
    for arrived, thread in enumerate(crowd, 1):
        thread.start()
        while semaphore.waiting < arrived:
            time.sleep(0)
    for granted in range(1, threads + 1):
        semaphore.release()
        while len(served) < granted:
            time.sleep(0)
    for thread in crowd:
        thread.join()
    return served


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each contest lasts")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is held")
    options = parser.parse_args(arguments)
    print(Environment.here(), end="\n\n")
    results = contests(options.seconds, options.rounds)
    print(table("contended", results), end="\n\n")
    served = order_of_service(200)
    exact = "in the order of their arrival" if served == sorted(served) else f"OUT OF ORDER: {served}"
    print(f"fair=True: {len(served)} waiting threads were served {exact}", end="\n\n")
    print(NOTE)


if __name__ == "__main__":
    main()
