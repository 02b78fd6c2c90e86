"""Database servers of the test run's own, on sockets in a folder of their own."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def binary(name: str, *folders: str) -> str:
    for place in (
        shutil.which(name),
        *(path for folder in folders for path in glob.glob(f"{folder}/{name}")),
    ):
        if place:
            return place
    pytest.skip(f"{name} is not installed (Debian: apt-get install postgresql redis-server)")


@contextmanager
def folder(user: str | None) -> Iterator[str]:
    """A folder that the server's user may use; its path is short, since a socket's must be."""
    path = tempfile.mkdtemp(prefix="sg", dir="/tmp")
    try:
        if user:
            shutil.chown(path, user)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(
    command: list[str], user: str | None, ready: Callable[[], object]
) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen(
        command, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        deadline = time.monotonic() + 60
        while not ready():
            assert server.poll() is None, f"{command} ended"
            assert time.monotonic() < deadline, f"{command} does not answer"
            time.sleep(0.02)
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server: how to connect to it. It refuses to run as root, so there it is the user postgres."""
    initdb = binary("initdb", "/usr/lib/postgresql/*/bin")
    user = None
    if os.getuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    with folder(user) as place:
        data = f"{place}/data"
        subprocess.run(
            [initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"],
            user=user, check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        server = [
            binary("postgres", "/usr/lib/postgresql/*/bin"), "-D", data, "-k", place,
            "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=40",
        ]  # fmt: skip

        def ready() -> bool:
            """Its socket is there before it takes anybody in."""
            asked = subprocess.run(
                [binary("pg_isready", "/usr/lib/postgresql/*/bin"), "-h", place], capture_output=True
            )
            return asked.returncode == 0

        with running(server, user, ready):
            yield f"host={place} user=postgres dbname=postgres"


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis server: its URL."""
    server = binary("redis-server")
    with folder(None) as place:
        command = [server, "--port", "0", "--unixsocket", f"{place}/redis", "--save", "", "--dir", place]
        with running(command, None, (Path(place) / "redis").exists):
            yield f"unix://{place}/redis"
