"""psycopg in a pool: what psycopg_pool does, with threads served in turn.

Run: python examples/pool_psycopg.py "dbname=postgres"
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from sluicegate import ConnectionPool

Connection = psycopg.Connection[tuple[Any, ...]]


def psycopg_pool(dsn: str, size: int = 4, **options: Any) -> ConnectionPool[Connection]:
    """A pool of connections to a PostgreSQL server."""

    def connect() -> Connection:
        return psycopg.connect(dsn)

    def check(conn: Connection) -> bool:
        """Whether the server still answers; a connection known to be broken is not asked."""
        if conn.closed or conn.info.transaction_status == TransactionStatus.UNKNOWN:
            return False
        conn.execute("")
        return True

    return ConnectionPool(connect, size, check=check, reset=psycopg.Connection.rollback, **options)


def main(dsn: str) -> int:
    with psycopg_pool(dsn) as pool, pool.connection() as conn:
        row = conn.execute("select 6 * 7").fetchone()
        print(row)
        return int(row[0]) if row else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) != 42)
