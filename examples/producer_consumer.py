"""The classic: one thread finds work, several do it, and the program waits until all of it is done.

    python examples/producer_consumer.py [FOLDER]

Prints how many Python files there are, their lines, and a checksum of them all. Only the import tells it from a
program that uses `queue`.
"""

import sys
import threading
import zlib
from pathlib import Path

from sluicegate.queue import Queue, ShutDown

WORKERS = 4


def main(folder: Path) -> None:
    tasks: Queue[Path] = Queue(maxsize=64)  # bounded: the producer never runs far ahead
    totals = [0, 0, 0]
    lock = threading.Lock()

    def work() -> None:
        while True:
            try:
                path = tasks.get()
            except ShutDown:
                return
            try:
                text = path.read_bytes()
                with lock:
                    totals[0] += 1
                    totals[1] += text.count(b"\n")
                    totals[2] ^= zlib.crc32(text)
            finally:
                tasks.task_done()

    crew = [threading.Thread(target=work) for _ in range(WORKERS)]
    for worker in crew:
        worker.start()
    for path in sorted(folder.rglob("*.py")):
        tasks.put(path)
    tasks.join()  # every file was worked on
    tasks.shutdown()  # the workers wait for more: there is none
    for worker in crew:
        worker.join()
    print(f"{totals[0]} files, {totals[1]} lines, checksum {totals[2]:08x}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
