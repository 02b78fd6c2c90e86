"""The examples of the channels do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = [
    pytest.mark.skipif(not (EXAMPLES / "pipeline.py").exists(), reason="not in the source tree"),
    pytest.mark.thread_unsafe(reason="starts a program"),
]


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def test_the_pipeline_misses_nothing(tmp_path: Path) -> None:
    texts = [f"line {number}\n".encode() * number for number in range(100)]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_bytes(text)
    done = run("pipeline.py", tmp_path)
    sizes = sum(map(len, texts)), sum(len(zlib.compress(text)) for text in texts)
    assert (done.stdout, done.stderr) == ("100 files, {} bytes, {} compressed\n".format(*sizes), "")


def test_the_fan_out_finds_it_and_stops(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}.py").write_text("the needle" if number == 150 else "hay")
    assert run("fan_out.py", tmp_path, "the needle").stdout == f"{tmp_path / '150.py'}\n"
    assert run("fan_out.py", tmp_path, "no such thing").stdout == "nowhere\n"


def test_the_select_ends_on_time() -> None:
    done = run("select_timeout.py", 0.4)
    lines = done.stdout.splitlines()
    assert done.stderr == "" and 3 <= len(lines) <= 5, lines
    assert re.fullmatch(r"\d+ readings", lines[-1])
    assert int(lines[-1].split()[0]) > 10
