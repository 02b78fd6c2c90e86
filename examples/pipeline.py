"""A pipeline: each stage is a thread that reads one channel and writes the next, and closing runs down the line.

    python examples/pipeline.py [FOLDER]

Prints how many Python files there are, their size, and their size compressed.
"""

import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from sluicegate import Channel, Closed

T = TypeVar("T")
U = TypeVar("U")


def stage(work: Callable[[T], U], source: Iterable[T]) -> Channel[U]:
    """Does the work on every item of the source, in a thread of its own, at most 16 items ahead."""
    results: Channel[U] = Channel(16)

    def run() -> None:
        with results:  # the end of this stage is the end of what the next one reads
            for item in source:
                try:
                    results.send(work(item))
                except Closed:  # nobody reads any more
                    return

    threading.Thread(target=run).start()
    return results


def files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*.py"))


def main(folder: Path) -> None:
    texts = stage(Path.read_bytes, files(folder))
    sizes = stage(lambda text: (len(text), len(zlib.compress(text))), texts)
    count = plain = packed = 0
    for before, after in sizes:
        count, plain, packed = count + 1, plain + before, packed + after
    print(f"{count} files, {plain} bytes, {packed} compressed")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
