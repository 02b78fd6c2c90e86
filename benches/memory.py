"""What one idle object takes, beyond `object()`: the resident memory that a million of them add. Linux only.

python benches/memory.py [--count 1000000]
"""

import argparse
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import sluicegate

KINDS: dict[str, Callable[[], object]] = {
    "object": object,
    "sluicegate.Semaphore": sluicegate.Semaphore,
    "sluicegate.BoundedSemaphore": sluicegate.BoundedSemaphore,
    "threading.Lock": threading.Lock,
    "threading.Semaphore": threading.Semaphore,
}


def resident() -> int:
    """The bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def taken(make: Callable[[], object], count: int) -> float:
    """Bytes each, in this process, which must not have made any before."""
    kept: list[object] = [None] * count
    gc.collect()
    before = resident()
    for index in range(count):
        kept[index] = make()
    return (resident() - before) / count


def bytes_each(kind: str, count: int) -> float:
    """Bytes each, in a process of their own: freed memory of another kind would make them look smaller."""
    run = [sys.executable, __file__, "--run", kind, "--count", str(count)]
    return float(subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="how many are made")
    parser.add_argument("--run", metavar="KIND", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not sys.platform.startswith("linux"):
        parser.error(f"reads /proc/self/statm, which Linux has and {sys.platform} has not")
    if options.run:
        print(taken(KINDS[options.run], options.count))
        return
    print(f"{options.count:,} of each{'bytes':>27}{'beyond object()':>18}")
    least = bytes_each("object", options.count)
    for kind in KINDS:
        # The stdlib's are several times as large: fewer of them tell as much and do not fill the machine.
        count = options.count if kind != "threading.Semaphore" else max(1, options.count // 10)
        seen = least if kind == "object" else bytes_each(kind, count)
        print(f"{kind:34}{seen:10.1f}{seen - least:18.1f}")


if __name__ == "__main__":
    main()
