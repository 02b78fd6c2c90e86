"""CPython's own tests of the semaphores of `multiprocessing`: on its classes (the control) and on ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from support import TESTS, report

pytestmark = pytest.mark.thread_unsafe(reason="it runs in processes of its own")


@pytest.mark.parametrize("candidate", ["theirs", "ours"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_cpythons_tests_of_semaphores_and_conditions_pass(method: str, candidate: str) -> None:
    pytest.importorskip("test._test_multiprocessing", reason="this interpreter came without its own tests")
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "cpython_multiprocessing"],
        env={**os.environ, "PYTHONPATH": TESTS, "START_METHOD": method, "CANDIDATE": candidate},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, report(done)
    ran = re.search(r"Ran (\d+) tests", done.stderr)
    assert ran and int(ran[1]) >= 10, report(done)
    assert "skipped" not in done.stderr, report(done)
