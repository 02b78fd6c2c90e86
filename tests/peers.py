"""Other processes, for the tests of what processes share: told what to do line by line, stopped, killed."""

from __future__ import annotations

import ast
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support import PATIENCE, TESTS, wait_until


class Peer:
    """A process that knows nothing of this one but the names it is told."""

    def __init__(self, setup: str = "", prefix: tuple[str, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", "import peers; peers.serve()"],
            env={**os.environ, "PYTHONPATH": TESTS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self._answers = b""
        self("from sluicegate.multiprocessing import BoundedSemaphore, Semaphore, SegmentRemoved")
        if setup:
            self(setup)

    def tell(self, line: str) -> None:
        """Has it evaluate, or execute, a line; the answer is another matter."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode("unicode_escape") + b"\n")
        self._process.stdin.flush()

    def has_answered(self, patience: float = 0.0) -> bool:
        assert self._process.stdout is not None
        if b"\n" not in self._answers and select.select([self._process.stdout], [], [], patience)[0]:
            self._answers += os.read(self._process.stdout.fileno(), 65536)
        return b"\n" in self._answers

    def answer(self, patience: float = PATIENCE) -> Any:
        """What the line it was told last came to."""
        wait_until(lambda: self.has_answered(0.05) or self._process.poll() is not None, patience)
        assert b"\n" in self._answers, f"it has ended: {self._process.communicate()}"
        line, _, self._answers = self._answers.partition(b"\n")
        value = ast.literal_eval(line.decode())
        if isinstance(value, dict) and "raised" in value:
            raise AssertionError(value["raised"])
        return value

    def __call__(self, line: str, patience: float = PATIENCE) -> Any:
        self.tell(line)
        return self.answer(patience)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self, reap: bool = True) -> None:
        self._process.kill()
        if reap:
            self._process.wait()

    def end(self) -> tuple[int, str]:
        """Ends it in good order: its exit code and what it said on stderr."""
        if self._process.poll() is not None:
            return self._process.returncode, ""
        _, said = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, said.decode()

    def state(self) -> str:
        with open(f"/proc/{self.pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.communicate()


@contextmanager
def peers(number: int, setup: str = "") -> Iterator[list[Peer]]:
    crew: list[Peer] = []
    try:
        crew.extend(Peer(setup) for _ in range(number))
        yield crew
    finally:
        for peer in crew:
            peer.close()


@contextmanager
def peer(setup: str = "", prefix: tuple[str, ...] = ()) -> Iterator[Peer]:
    it = Peer(setup, prefix)
    try:
        yield it
    finally:
        it.close()


def serve() -> None:
    """The far end of a `Peer`: lines from stdin, their values to stdout."""
    names: dict[str, Any] = {"os": os, "sys": sys}
    with os.fdopen(os.dup(1), "wb", buffering=0) as out:
        for line in sys.stdin:
            code = line.rstrip("\n").encode().decode("unicode_escape")
            try:
                try:
                    value = eval(code, names)
                except SyntaxError:
                    exec(code, names)
                    value = None
            except Exception:
                value = {"raised": traceback.format_exc()}
            out.write(repr(value).encode() + b"\n")
