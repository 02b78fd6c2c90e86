"""The programs in `examples/` that share semaphores between processes do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from support import TESTS, report

pytestmark = pytest.mark.thread_unsafe(reason="it runs processes of its own")


def example(name: str, *args: str) -> list[str]:
    path = os.path.join(os.path.dirname(TESTS), "examples", name)
    done = subprocess.run(
        [sys.executable, "-W", "error", path, *args], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, report(done)
    return done.stdout.splitlines()


def test_the_cap_holds_and_is_whole_again_after_a_kill() -> None:
    said = example("shared_cap.py")
    assert all(int(found[1]) <= 3 for line in said if (found := re.search(r"inside, (\d) of 3", line)))
    assert sum(line.endswith("is done") for line in said) == 7
    assert any("was killed while it held a permit" in line for line in said)
    assert said[-1] == "all have ended: <BoundedSemaphore(value=3, maxvalue=3)>"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_classrooms_pool_serves_everybody(method: str) -> None:
    said = example("process_pool.py", method)
    assert len(said) == 11
    assert re.fullmatch(r"10 were served, at most [123] at once, and 3 resources are free", said[-1])
