"""Semaphores on their way to other processes: under every start method, silently, and leaving nothing behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from peers import peer
from support import TESTS, report

from sluicegate.multiprocessing import BoundedSemaphore

pytestmark = pytest.mark.thread_unsafe(reason="it runs in processes of its own")

every_method = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@every_method
def test_they_travel_every_way_and_nothing_is_said_or_left(method: str, tmp_path: Path) -> None:
    before = set(os.listdir("/dev/shm"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", os.path.join(TESTS, "travel.py"), method, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.returncode == 0 and not done.stderr, report(done)
    assert list(tmp_path.iterdir()) == []
    left = {name for name in set(os.listdir("/dev/shm")) - before if "sluicegate" in name or "travel" in name}
    assert not left


def test_a_named_semaphore_is_pickled_by_its_name(tmp_path: Path) -> None:
    sem = BoundedSemaphore.named("by name", 2, dir=tmp_path)
    sem.acquire()
    here = pickle.loads(pickle.dumps(sem))
    assert here.path == sem.path and here.get_value() == 1
    with peer() as other:
        assert other(f"__import__('pickle').loads({pickle.dumps(sem)!r}).get_value()") == 1
    sem.release()
    here.acquire()
    sem.release()
