"""sqlite3 in a pool: eight threads write to one file through two connections.

Run: python examples/pool_sqlite3.py
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import threading
from pathlib import Path

from sluicegate import ConnectionPool


def sqlite_pool(path: str | Path, size: int = 4) -> ConnectionPool[sqlite3.Connection]:
    """A pool of connections to an SQLite file. Any thread may use any of them, one at a time."""

    def connect() -> sqlite3.Connection:
        conn = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
        conn.execute("pragma journal_mode = wal")
        return conn

    return ConnectionPool(connect, size, reset=sqlite3.Connection.rollback)


def main(path: Path, threads: int = 8, rows: int = 50) -> int:
    with sqlite_pool(path, 2) as pool:
        with pool.connection() as conn:
            conn.execute("create table if not exists result (thread integer, number integer)")

        def work(thread: int) -> None:
            for number in range(rows):
                with pool.connection() as conn, conn:
                    conn.execute("insert into result values (?, ?)", (thread, number))

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with pool.connection() as conn:
            (count,) = conn.execute("select count(*) from result").fetchone()
        print(f"{count} rows by {threads} threads over {pool.size} connections")
        return int(count)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(Path(folder) / "results.db") != 400)
