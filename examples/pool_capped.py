"""The classroom pool, three ways: a bounded semaphore around a list, and the class that replaces both.

A semaphore caps how many connections are out; a list holds those that are not. It works until a connection dies, a
factory raises, or a connection is returned twice. `ConnectionPool` is the same idea with these cases settled, and
takes a semaphore as `limit=` to cap several pools together.

Run: python examples/pool_capped.py
"""

from __future__ import annotations

import itertools
import threading
import time

from sluicegate import BoundedSemaphore, ConnectionPool


class Connection:
    """Counts how many of its kind are open."""

    numbers = itertools.count(1)
    lock = threading.Lock()
    open = most = 0

    def __init__(self) -> None:
        self.number = next(self.numbers)
        with self.lock:
            Connection.open += 1
            Connection.most = max(Connection.most, Connection.open)

    def query(self) -> int:
        time.sleep(0.001)
        return self.number

    def close(self) -> None:
        with self.lock:
            Connection.open -= 1


class ClassroomPool:
    """A bounded semaphore, a list, and a lock for the list."""

    def __init__(self, size: int) -> None:
        self.free = BoundedSemaphore(size)
        self.lock = threading.Lock()
        self.idle: list[Connection] = []

    def get_conn(self) -> Connection:
        self.free.acquire()
        with self.lock:
            return self.idle.pop() if self.idle else Connection()

    def close_conn(self, conn: Connection) -> None:
        with self.lock:
            self.idle.append(conn)
        self.free.release()


def crowd(*pools: ClassroomPool | ConnectionPool[Connection], threads: int = 8, queries: int = 20) -> int:
    """The most connections that were open while threads used the pools."""
    Connection.most = Connection.open = 0

    def work(number: int) -> None:
        pool = pools[number % len(pools)]
        for _ in range(queries):
            conn = pool.get_conn()
            conn.query()
            pool.close_conn(conn)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return Connection.most


def main() -> tuple[int, int, int]:
    classroom = crowd(ClassroomPool(3))
    native = crowd(ConnectionPool(Connection, 3))
    cap = BoundedSemaphore(3)
    together = crowd(*(ConnectionPool(Connection, 3, limit=cap) for _ in range(2)))
    print(f"at most {classroom} open by hand, {native} in a pool, {together} in two pools under one cap")
    return classroom, native, together


if __name__ == "__main__":
    main()
