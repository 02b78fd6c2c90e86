"""Every bar that the queues are to clear, and what was measured: interleaved rounds, medians.

    python benches/queues.py [--rounds 7]

Figures, not tests: on a busy machine one may be missed.
"""

import argparse
import queue
import statistics
import threading
import time
import timeit
from collections.abc import Callable
from typing import Any

from sluicegate import queue as ours

ITEMS = 100_000
Make = Callable[[], Any]


def pair(make: Make, before: int = 0) -> float:
    """Nanoseconds for a put and a get that nobody contends for."""
    q = make()
    for number in range(before):
        q.put(2 * number)
    timer = timeit.Timer("q.put(7); q.get()", globals={"q": q})
    return min(timer.timeit(20_000) for _ in range(3)) / 20_000 * 1e9


def rate(make: Make, producers: int, consumers: int) -> float:
    """Nanoseconds for each item that goes from the producers to the consumers."""
    q, start = make(), threading.Barrier(producers + consumers + 1)

    def produce() -> None:
        put = q.put
        start.wait()
        for number in range(ITEMS // producers):
            put(number)

    def consume() -> None:
        get = q.get
        start.wait()
        for _ in range(ITEMS // consumers):
            get()

    work = [produce] * producers + [consume] * consumers
    crew = [threading.Thread(target=function) for function in work]
    for thread in crew:
        thread.start()
    start.wait()
    begin = time.perf_counter()
    for thread in crew:
        thread.join()
    return (time.perf_counter() - begin) / ITEMS * 1e9


def compare(
    measure: Callable[[Make], float], mine: Make, theirs: Make, rounds: int
) -> tuple[float, float, float]:
    """Medians of both, and of the ratio within a round."""
    seen = [(measure(theirs), measure(mine)) for _ in range(rounds)]
    others, owns = zip(*seen, strict=True)
    ratio = statistics.median(other / own for other, own in seen)
    return statistics.median(owns), statistics.median(others), ratio


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    queues: tuple[Make, Make] = (lambda: ours.Queue(1024), lambda: queue.Queue(1024))
    tight: tuple[Make, Make] = (lambda: ours.Queue(1), lambda: queue.Queue(1))
    heaps: tuple[Make, Make] = (ours.PriorityQueue, queue.PriorityQueue)
    bars: list[tuple[str, Callable[[Make], float], Make, Make, float]] = [
        ("Queue(1024): put + get, x queue.Queue", pair, *queues, 12),
        ("SimpleQueue: put + get, x the C one", pair, ours.SimpleQueue, queue.SimpleQueue, 0.8),
        ("LifoQueue: put + get, x queue.LifoQueue", pair, ours.LifoQueue, queue.LifoQueue, 12),
        ("PriorityQueue of 500: put + get, x queue's", lambda make: pair(make, 500), *heaps, 1.5),
        ("Queue(1024), 1 to 1, x queue.Queue", lambda make: rate(make, 1, 1), *queues, 10),
        ("Queue(1024), 4 to 4, x queue.Queue", lambda make: rate(make, 4, 4), *queues, 10),
        ("Queue(1), 1 to 1, x queue.Queue", lambda make: rate(make, 1, 1), *tight, 1),
    ]  # fmt: skip
    for what, measure, mine, theirs, least in bars:
        own, other, ratio = compare(measure, mine, theirs, rounds)
        verdict = "met" if ratio >= least else "MISSED"
        print(
            f"{what:46} at least {least:4g}: {ratio:6.2f}   ({own:7.1f} ns, theirs {other:7.1f})   {verdict}"
        )


if __name__ == "__main__":
    main()
