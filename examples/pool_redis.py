"""redis in a pool: each client has one connection of its own, which only its user talks over.

Run: python examples/pool_redis.py redis://localhost
"""

from __future__ import annotations

import sys
from typing import Any

import redis

from sluicegate import ConnectionPool


def redis_pool(url: str, size: int = 4, **options: Any) -> ConnectionPool[redis.Redis]:
    """A pool of clients of a Redis server."""

    def connect() -> redis.Redis:
        client = redis.Redis.from_url(url, single_connection_client=True)
        client.ping()
        return client

    return ConnectionPool(connect, size, check=redis.Redis.ping, **options)


def main(url: str) -> int:
    with redis_pool(url) as pool, pool.connection() as client:
        client.set("answer", 42)
        answer: Any = client.get("answer")
        print(answer)
        return int(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) != 42)
