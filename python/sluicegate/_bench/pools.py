"""Connection pools: rivals, rows, and the act of the program that stores its results through one."""

import contextlib
import hashlib
import queue
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from sluicegate import ConnectionPool
from sluicegate._bench.contest import contest
from sluicegate._bench.sources import Sources
from sluicegate._bench.timing import Pace, Row, Section, statement

SIZE = 4
Pair = tuple[Callable[[], Any], Callable[[Any], object]]
"""How to take a connection, and how to give it back."""


class Connection:
    """The cheapest connection there is: what is timed is the pool."""

    autocommit = closed = False

    def rollback(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Pool(Protocol):
    """What the program wants of a pool."""

    def connection(self) -> AbstractContextManager[sqlite3.Connection]: ...
    def close(self) -> object: ...


class LifoPool:
    """The pool that the standard library's `queue.LifoQueue` makes."""

    def __init__(self, factory: Callable[[], Any], size: int) -> None:
        self.idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(size):
            self.idle.put(factory())

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        conn = self.idle.get(timeout=30.0)
        try:
            yield conn
        finally:
            self.idle.put(conn)

    def close(self) -> None:
        while not self.idle.empty():
            self.idle.get().close()


def native(**options: Any) -> Pair:
    pool = ConnectionPool(Connection, SIZE, **options)
    return pool.acquire, pool.release


def lifo() -> Pair:
    idle = LifoPool(Connection, SIZE).idle
    return lambda: idle.get(timeout=30.0), idle.put


def simple_queue() -> Pair:
    """In C, but without timeouts, checks, or a limit."""
    idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
    for _ in range(SIZE):
        idle.put(Connection())
    return idle.get, idle.put


def sqlalchemy() -> Pair:
    from sqlalchemy.pool import QueuePool

    pool = QueuePool(Connection, pool_size=SIZE, max_overflow=0)  # type: ignore[arg-type]
    conn = pool.connect()
    conn.close()
    return pool.connect, type(conn).close


class Idle:
    """What psycopg_pool asks of a connection at its return."""

    transaction_status = 0
    """`psycopg.pq.TransactionStatus.IDLE`"""


class Fake(Connection):
    """A connection as psycopg_pool makes them."""

    pgconn = Idle

    @classmethod
    def connect(cls, *_: object, **__: object) -> Self:
        return cls()


def psycopg_pool() -> Any:
    import psycopg_pool

    pool = psycopg_pool.ConnectionPool(connection_class=Fake, min_size=SIZE, open=True)  # type: ignore[type-var]
    pool.wait()
    return pool


def psycopg_pair() -> Pair:
    pool = psycopg_pool()
    return pool.getconn, pool.putconn


def installed(
    rivals: dict[str, Callable[[], Any]], *modules: tuple[str, str, Callable[[], Any]]
) -> dict[str, Any]:
    """The rivals, and those of other packages that are there."""
    from importlib.util import find_spec

    return rivals | {name: make for module, name, make in modules if find_spec(module)}


PAIRS = installed(
    {
        "sluicegate.ConnectionPool": native,
        "with a check": lambda: native(check=lambda conn: None),
        "queue.LifoQueue": lifo,
        "queue.SimpleQueue": simple_queue,
    },
    ("sqlalchemy", "sqlalchemy.QueuePool", sqlalchemy),
    ("psycopg_pool", "psycopg_pool", psycopg_pair),
)


def closing_sqlalchemy() -> Callable[[], Any]:
    take, _ = sqlalchemy()
    return lambda: contextlib.closing(take())


BLOCKS = installed(
    {
        "sluicegate.ConnectionPool": lambda: ConnectionPool(Connection, SIZE).connection,
        "queue.LifoQueue": lambda: LifoPool(Connection, SIZE).connection,
    },
    ("sqlalchemy", "sqlalchemy.QueuePool", closing_sqlalchemy),
    ("psycopg_pool", "psycopg_pool", lambda: psycopg_pool().connection),
)


class PoolGate:
    """A pool as a contest sees it: each thread holds at most one connection."""

    def __init__(self, new: Callable[[], Pair]) -> None:
        self.take, self.give = new()
        self.mine = threading.local()

    def acquire(self) -> bool:
        self.mine.conn = self.take()
        return True

    def release(self) -> None:
        self.give(self.mine.conn)


def gate(new: Callable[[], Pair]) -> Callable[[], PoolGate]:
    return lambda: PoolGate(new)


GATES = {name: gate(new) for name, new in PAIRS.items() if name != "with a check"}

SECTIONS = (
    Section(
        "ConnectionPool",
        (
            Row("acquire + release", statement("give(take())", PAIRS, "take, give = new()")),
            Row("with", statement("with block(): pass", BLOCKS, "block = new()")),
        ),
        pace=Pace.STATEMENT,
    ),
    Section(
        "ConnectionPool, contended",
        (
            contest("4 connections, 8 threads, nothing inside", GATES, threads=8),
            contest("4 connections, 8 threads, 0.5 ms of sleep inside", GATES, threads=8, hold=0.0005),
        ),
        pace=Pace.CONTEST,
    ),
)


def store(new: Callable[[Callable[[], sqlite3.Connection], int], Pool], files: Sources) -> str:
    """Threads write what they find out about each file to an SQLite file, over few connections: what is in it then."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.db"

        def connect() -> sqlite3.Connection:
            conn = sqlite3.connect(path, timeout=60.0, check_same_thread=False, isolation_level=None)
            conn.execute("pragma journal_mode = wal")
            conn.execute("pragma synchronous = off")
            return conn

        pool = new(connect, 2)
        with pool.connection() as conn:
            conn.execute("create table result (name text primary key, length integer)")
        names = list(files.names)

        def work(share: list[str]) -> None:
            for name in share:
                with pool.connection() as conn:
                    conn.execute("insert into result values (?, ?)", (str(name), len(str(name))))

        crowd = [threading.Thread(target=work, args=(names[number::8],)) for number in range(8)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        with pool.connection() as conn:
            rows = conn.execute("select * from result order by name").fetchall()
        pool.close()
    return f"{len(rows):,} rows, sha256 {hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}"
