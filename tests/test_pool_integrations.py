"""The pool with real libraries over a real SQLite file, a real PostgreSQL and a real Redis of the run's own."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from servers import postgres, redis_server
from support import Crew, wait_until

from sluicegate import ConnectionPool, PoolTimeout

EXAMPLES = Path(__file__).parent.parent / "examples"
pytestmark = pytest.mark.thread_unsafe(reason="it starts servers, and a crew of its own")


def example(name: str) -> ModuleType:
    path = EXAMPLES / f"{name}.py"
    if not path.exists():
        pytest.skip("not in the source tree")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'psycopg[binary]')")
    with postgres() as dsn:
        yield dsn


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    pytest.importorskip("redis", reason="redis is not installed (pip install redis)")
    with redis_server() as url:
        yield url


def crowd(pool: ConnectionPool[Any], use: Any, threads: int = 8, times: int = 25) -> None:
    """Many threads over few connections: each is used by one at a time."""
    users: dict[int, int] = {}
    lock = threading.Lock()

    def work(number: int) -> None:
        for turn in range(times):
            with pool.connection(timeout=30) as conn:
                with lock:
                    users[id(conn)] = users.get(id(conn), 0) + 1
                    assert users[id(conn)] == 1
                use(conn, number * times + turn)
                with lock:
                    users[id(conn)] -= 1

    with Crew() as crew:
        for number in range(threads):
            crew.start(work, number)
    assert len(users) <= pool.max_size
    assert (pool.in_use, pool.waiting) == (0, 0)


# ---- examples ----


def test_the_classroom_example_caps_what_is_open() -> None:
    assert all(most <= 3 for most in example("pool_capped").main())


def test_the_sqlite_example_writes_every_row(tmp_path: Path) -> None:
    assert example("pool_sqlite3").main(tmp_path / "results.db") == 400


def test_a_failed_transaction_in_sqlite_is_rolled_back_before_the_next_user(tmp_path: Path) -> None:
    pool = example("pool_sqlite3").sqlite_pool(tmp_path / "x.db", 1)
    with pool.connection() as conn, conn:
        conn.execute("create table t (n integer)")
    with pytest.raises(sqlite3.OperationalError), pool.connection() as conn:
        conn.execute("insert into t values (1)")
        conn.execute("no sql")
    with pool.connection() as conn:
        assert conn.execute("select count(*) from t").fetchone() == (0,)
    assert pool.close()


# ---- psycopg ----


def test_psycopg_connections_are_shared_out_and_reset(dsn: str) -> None:
    recipe = example("pool_psycopg")
    assert recipe.main(dsn) == 42
    pool = recipe.psycopg_pool(dsn, 3)
    with pool.connection() as conn:
        conn.execute("create table if not exists t (n integer)")
        conn.commit()

    def insert(conn: Any, number: int) -> None:
        conn.execute("insert into t values (%s)", (number,))
        conn.commit()

    crowd(pool, insert)
    with pool.connection() as conn:
        conn.execute("delete from t")  # not committed: reset on return
    with pool.connection() as conn:
        assert conn.execute("select count(*), count(distinct n) from t").fetchone() == (200, 200)
    assert pool.close()


def test_psycopg_connections_that_the_server_kills_are_replaced(dsn: str) -> None:
    import psycopg

    pool = example("pool_psycopg").psycopg_pool(dsn, 3, check_after=0.0)
    taken = [pool.acquire() for _ in range(3)]
    pids = [conn.info.backend_pid for conn in taken]
    for conn in taken:
        pool.release(conn)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) pid", (pids,))
        count = "select count(*) from pg_stat_activity where pid = any(%s)"
        wait_until(lambda: admin.execute(count, (pids,)).fetchone() == (0,))
    for _ in range(6):
        with pool.connection() as conn:
            assert conn.execute("select 1").fetchone() == (1,)
            assert conn.info.backend_pid not in pids
    # One dies while it is out.
    with pytest.raises(psycopg.OperationalError), pool.connection() as conn:
        conn.execute("select pg_terminate_backend(pg_backend_pid())")
    assert conn.closed
    with pool.connection() as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    assert pool.close()


# ---- redis ----


def test_redis_clients_are_shared_out(redis_url: str) -> None:
    recipe = example("pool_redis")
    assert recipe.main(redis_url) == 42
    pool = recipe.redis_pool(redis_url, 3, check_after=0.0)
    crowd(pool, lambda client, number: client.incrby("sum", number))
    with pool.connection() as client:
        assert int(client.get("sum")) == sum(range(200))
        client.client_kill_filter(skipme=False)
    with pool.connection() as client:
        assert client.ping()
    assert pool.close()


# ---- SQLAlchemy ----


def engines(url: str, **options: Any) -> Iterator[Any]:
    sqlalchemy = pytest.importorskip(
        "sqlalchemy", reason="SQLAlchemy is not installed (pip install sqlalchemy)"
    )
    from sluicegate.integrations.sqlalchemy import SluicegatePool

    engine = sqlalchemy.create_engine(url, poolclass=SluicegatePool, **options)
    yield engine
    engine.dispose()


def test_sqlalchemy_over_sqlite_behaves_as_with_its_own_pool(tmp_path: Path) -> None:
    for engine in engines(f"sqlite:///{tmp_path}/x.db", pool_size=2, max_overflow=1, pool_timeout=0.05):
        sqlalchemy_pool_story(engine)


def test_sqlalchemy_over_postgresql_behaves_as_with_its_own_pool(dsn: str) -> None:
    place = dsn.split(maxsplit=1)[0].partition("=")[2]
    url = f"postgresql+psycopg://postgres@/postgres?host={place}"
    for engine in engines(url, pool_size=2, max_overflow=1, pool_timeout=0.05, pool_pre_ping=True):
        sqlalchemy_pool_story(engine)


def sqlalchemy_pool_story(engine: Any) -> None:
    from sqlalchemy import exc, text

    with engine.begin() as conn:
        conn.execute(text("create table story (n integer)"))
    with pytest.raises(ZeroDivisionError), engine.begin() as conn:
        conn.execute(text("insert into story values (1)"))
        1 / 0  # rolled back
    held = [engine.connect() for _ in range(3)]
    assert engine.pool.checkedout() == engine.pool.size() == 3
    with pytest.raises(exc.TimeoutError, match="size=3, in_use=3") as told:
        engine.connect()
    assert isinstance(told.value.__cause__, PoolTimeout)
    held.pop().invalidate()
    for conn in held:
        conn.close()
    wait_until(lambda: engine.pool.checkedout() == 0, patience=5)
    with Crew() as crew:

        def work() -> None:
            for _ in range(10):
                # A timeout of 50 ms is for the test above: on a busy machine a turn may take longer.
                while True:
                    try:
                        with engine.begin() as conn:
                            conn.execute(text("insert into story values (2)"))
                    except (exc.TimeoutError, exc.OperationalError):
                        time.sleep(0.01)
                        continue
                    break

        for _ in range(6):
            crew.start(work)
    # A connection closed by another thread than its own.
    conn = engine.connect()
    assert conn.execute(text("select count(*) from story")).scalar() == 60
    with Crew() as crew:
        crew.start(conn.close)
    assert engine.pool.checkedout() == 0
    assert "In use: 0" in engine.pool.status()
    engine.dispose()
    with engine.connect() as conn:
        conn.execute(text("drop table story"))
        conn.commit()
