"""Fan-out: many workers take from one channel until it is closed; the first to find what is sought closes it.

    python examples/fan_out.py [FOLDER [TEXT]]

Prints a Python file that contains the text, and stops every thread as soon as one has found it.
"""

import sys
import threading
from pathlib import Path

from sluicegate import Channel, Closed

WORKERS = 4


def search(paths: Channel[Path], found: Channel[Path], text: bytes) -> None:
    for path in paths:  # ends when the channel is closed and empty
        if text in path.read_bytes():
            found.send(path)
            paths.close()  # the walk ends, and so do the other workers
            paths.drain()


def main(folder: Path, text: str) -> None:
    paths, found = Channel[Path](64), Channel[Path](None)
    crew = [threading.Thread(target=search, args=(paths, found, text.encode())) for _ in range(WORKERS)]
    for worker in crew:
        worker.start()
    try:
        with paths:  # closed at the end of the walk
            for path in sorted(folder.rglob("*.py")):
                paths.send(path)
    except Closed as refused:  # found: this file, and those after it, need no look
        print(f"stopped before {refused.item.name}", file=sys.stderr)
    for worker in crew:
        worker.join()
    hits = found.drain()
    print(min(hits) if hits else "nowhere")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(Path(arguments[0] if arguments else "."), arguments[1] if len(arguments) > 1 else "import")
