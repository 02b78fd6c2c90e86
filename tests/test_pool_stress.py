"""A storm over one pool: every callback may fail, connections die, threads give up; invariants hold all the while."""

from __future__ import annotations

import gc
import random
import threading
import time
import warnings
from typing import Any

import pytest
from pool_support import Broken, Conn, Rude
from support import Crew

from sluicegate import BoundedSemaphore, ConnectionPool, NotOwned, PoolError
from sluicegate.pool import Backoff

THREADS = 16
SIZE = 5
pytestmark = [pytest.mark.stress, pytest.mark.thread_unsafe(reason="it brings its own threads")]


class Weather:
    """Callbacks that fail at random, and what is true of all connections at any moment."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.lock = threading.Lock()
        self.conns: set[Conn] = set()
        self.closed = 0
        self.local = threading.local()

    @property
    def draw(self) -> random.Random:
        if not hasattr(self.local, "draw"):
            self.local.draw = random.Random(f"{self.seed} {threading.current_thread().name}")
        draw: random.Random = self.local.draw
        return draw

    def strike(self, chance: float = 0.03) -> None:
        dice = self.draw.random()
        if dice < chance:
            raise Broken
        if dice < chance * 1.2:
            raise Rude
        if dice > 0.9:
            time.sleep(self.draw.random() * 0.0005)

    def create(self) -> Conn:
        self.strike(0.1)
        conn = Conn()
        with self.lock:
            self.conns.add(conn)
            there = len(self.conns)
        # A connection makes room before its close() is over.
        assert there <= SIZE + THREADS, f"{there} connections"
        return conn

    def close(self, conn: Conn) -> None:
        conn.close()
        with self.lock:
            self.conns.discard(conn)
            self.closed += 1
        self.strike()

    def check(self, conn: Conn) -> bool:
        self.strike()
        return not conn.dead

    def hook(self, conn: Conn) -> None:
        assert not conn.closed, f"{conn} is closed"
        self.strike()

    def use(self, conn: Conn) -> None:
        conn.enter()
        try:
            conn.dead = conn.dead or self.draw.random() < 0.02
            if self.draw.random() < 0.3:
                time.sleep(self.draw.random() * 0.001)
        finally:
            conn.leave()
        self.strike()


def user(pool: ConnectionPool[Conn], weather: Weather, end: float) -> int:
    draw, got = weather.draw, 0
    while time.monotonic() < end:
        timeout = draw.choice([0, 0.0002, 0.001, 0.01, 0.05])
        try:
            match draw.randrange(6):
                case 0 | 1:
                    with pool.connection(timeout) as conn:
                        weather.use(conn)
                case 2:
                    with pool.lease(timeout) as conn:
                        weather.use(conn)
                case 3:
                    pool.lease(timeout)  # lost, and found by the collector
                case 4:
                    if (maybe := pool.try_acquire()) is not None:
                        try:
                            weather.use(maybe)
                        finally:
                            pool.discard(maybe) if draw.random() < 0.3 else pool.release(maybe)
                case _:
                    conn = pool.acquire(timeout)
                    try:
                        weather.use(conn)
                    finally:
                        pool.release(conn)
                    with pytest.raises(NotOwned):
                        pool.release(conn)
            got += 1
        except (Broken, Rude, PoolError):
            pass
    return got


def gardener(pool: ConnectionPool[Conn], weather: Weather, end: float) -> None:
    """Resizes, drains and checks in the midst of it, and looks whether the numbers add up."""
    draw = weather.draw
    while time.monotonic() < end:
        time.sleep(draw.random() * 0.005)
        stats = pool.stats()
        assert stats.idle <= stats.size
        assert stats.returned <= stats.acquired
        assert stats.discarded <= stats.created
        held = [holder.conn for holder in pool.holders()]
        assert len({id(conn) for conn in held}) == len(held)
        try:
            match draw.randrange(8):
                case 0:
                    pool.resize(draw.randint(1, SIZE))
                case 1:
                    pool.resize(SIZE)
                case 2:
                    pool.drain()
                case 3:
                    pool.check()
                case 4:
                    gc.collect()
        except (Broken, Rude):
            pass


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "checked": {"check_after": 0},
    "short lives": {"max_lifetime": 0.01, "max_idle": 0.005, "jitter": 0.5},
    "retry": {
        "retry": Backoff(0.001, 0.01, 0.5),
        "detect_deadlock": True,
        "max_waiting": 6,
        "leak_after": 0.1,
    },
    "create elsewhere": {"create_timeout": 0.001},
    "limit": {"limit": BoundedSemaphore(3)},
    "bare": {"reset": None, "check": None, "on_acquire": None, "on_release": None, "on_create": None},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.filterwarnings("ignore:.*was not returned to its pool:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*dropped without a return:ResourceWarning")
# What a callback raises while a lost lease is being returned, nobody can be given.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_storm_leaves_the_pool_whole(
    options: dict[str, Any], seed: int, factor: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "sluicegate.pool")
    print(f"seed {seed}")
    weather = Weather(seed)
    hooks = dict.fromkeys(["reset", "on_acquire", "on_release", "on_create"], weather.hook)
    pool = ConnectionPool(
        weather.create, SIZE, **{"check": weather.check, "close": weather.close, **hooks, **options}
    )
    end = time.monotonic() + 1.0 * factor
    with warnings.catch_warnings(), Crew() as crew:
        users = [crew.start(user, pool, weather, end) for _ in range(THREADS)]
        crew.start(gardener, pool, weather, end)
        got = [worker.result(30 + factor) for worker in users]
    assert sum(got) > THREADS
    pool.resize(SIZE)
    weather.strike = lambda chance=0.0: None  # type: ignore[method-assign]
    for conn in list(weather.conns):
        conn.dead = False
    capacity = min(SIZE, 3 if "limit" in options else SIZE)
    taken = [pool.acquire(timeout=20) for _ in range(capacity)]
    assert len({id(conn) for conn in taken}) == capacity
    for conn in taken:
        pool.release(conn)
    assert (pool.in_use, pool.waiting) == (0, 0)
    stats = pool.stats()
    assert stats.acquired == stats.returned
    assert pool.close()
    assert pool.size == 0
    assert weather.conns == set()
    if "limit" in options:
        assert options["limit"].value == 3
