"""The input of the program: the sources of the standard library of the interpreter that runs it."""

import hashlib
import os
import random
import sysconfig
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sluicegate._bench.timing import SEED


class NoSources(Exception):
    """There is nothing to read."""


@dataclass(frozen=True)
class Sources:
    """Real files, in an order that mixes large and small."""

    root: Path
    names: tuple[str, ...]
    size: int
    """Of all of them, in bytes."""
    seconds: float
    """What one thread needs for all of them."""


def digest(path: Path) -> str:
    """What the program does with a file: read, hash, compress."""
    content = path.read_bytes()
    return f"{hashlib.sha256(content).hexdigest()} {len(zlib.compress(content))}"


def find(seconds: float, root: Path | None = None) -> Sources:
    """As many of the sources as one thread can digest in that many seconds.

    They have been read once then: the first to run the program does not pay for a cold disk.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    paths = list(_walk(root))
    if not paths:
        raise NoSources(
            f"no .py files under {root}: the program reads the interpreter's own standard library"
        )
    random.Random(SEED).shuffle(paths)
    names, size = [], 0
    began = time.perf_counter()
    for path in paths:
        digest(path)
        names.append(path.relative_to(root).as_posix())
        size += path.stat().st_size
        if time.perf_counter() - began >= seconds:
            break
    return Sources(root, tuple(names), size, time.perf_counter() - began)


def _walk(root: Path) -> Iterator[Path]:
    """Installed packages are left out: they are somebody else's, and there may be any number of them."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and path.is_file() and os.access(path, os.R_OK):
                yield path
