"""What the pool's tests share: a connection that watches its users, and a look whether a pool is whole."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from support import wait_until

from sluicegate import ConnectionPool

_numbers = itertools.count()


class Conn:
    """A connection that notices a second user, a use after its end, and how often it was closed."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.users = 0
        self.closed = 0
        self.dead = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Conn {self.number}>"

    def enter(self) -> None:
        with self._lock:
            self.users += 1
            assert self.users == 1, f"{self} has {self.users} users"
            assert not self.closed, f"{self} is used after its end"

    def leave(self) -> None:
        with self._lock:
            self.users -= 1

    def close(self) -> None:
        self.closed += 1
        assert self.closed == 1, f"{self} is closed twice"


class Factory:
    """Makes connections, and remembers them; `fail` holds what the next calls raise."""

    def __init__(self) -> None:
        self.made: list[Conn] = []
        self.fail: list[BaseException] = []

    def __call__(self) -> Conn:
        if self.fail:
            raise self.fail.pop(0)
        conn = Conn()
        self.made.append(conn)
        return conn

    @property
    def open(self) -> list[Conn]:
        return [conn for conn in self.made if not conn.closed]


class Broken(Exception):
    """What a callback of a test raises."""


class Rude(BaseException):
    """What a callback raises that is no Exception, as Ctrl-C is none."""


def assert_whole(pool: ConnectionPool[Any], *, reset_for: float = 5.0) -> None:
    """The pool's whole capacity is there: so many different connections can be taken at once, and no more."""
    wait_until(lambda: (pool.in_use, pool.waiting) == (0, 0), patience=reset_for)
    taken = [pool.acquire(timeout=reset_for) for _ in range(pool.max_size)]
    assert len({id(conn) for conn in taken}) == pool.max_size, "a connection has two users"
    assert pool.try_acquire() is None
    assert pool.in_use == pool.size == pool.max_size
    for conn in taken:
        pool.release(conn)
    assert (pool.in_use, pool.waiting, pool.idle) == (0, 0, pool.max_size)


def raising(error: BaseException) -> Callable[..., Any]:
    """A callback that raises, once."""
    errors = [error]

    def callback(*_: object) -> None:
        if errors:
            raise errors.pop()

    return callback
