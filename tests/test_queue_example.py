"""The example of the queues does what it says."""

from __future__ import annotations

import subprocess
import sys
import zlib
from functools import reduce
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "producer_consumer.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="not in the source tree")
@pytest.mark.thread_unsafe(reason="starts a program")
def test_the_producer_and_its_consumers_miss_nothing(tmp_path: Path) -> None:
    texts = [f"line {number}\n".encode() * number for number in range(200)]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_bytes(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    checksum = reduce(int.__xor__, map(zlib.crc32, texts))
    lines = sum(range(200))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"200 files, {lines} lines, checksum {checksum:08x}\n"
