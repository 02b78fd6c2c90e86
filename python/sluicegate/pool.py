"""Connection pools: the errors, records and background work of `ConnectionPool`, whose core is native."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Generic, TypeVar

from sluicegate._native import Closed, ConnectionPool, Lease

__all__ = [
    "Backoff",
    "ConnectionPool",
    "Histogram",
    "Holder",
    "Lease",
    "NotOwned",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolFull",
    "PoolStats",
    "PoolTimeout",
]

C = TypeVar("C")
log = logging.getLogger("sluicegate.pool")


# ---- errors ----


class PoolError(Exception):
    """What goes wrong with a ConnectionPool."""


class PoolTimeout(PoolError, TimeoutError):
    """No connection within the timeout. `__cause__` is the last error of the factory, if there was one since."""

    size: int
    in_use: int
    idle: int
    waiting: int


class PoolClosed(PoolError, Closed):
    """The pool is closed."""


class PoolFull(PoolError):
    """As many threads wait for a connection as `max_waiting` allows."""


class NotOwned(PoolError):
    """The connection is not the caller's to return: returned before, of another pool, or another thread's."""


class PoolDeadlock(PoolError):
    """Every connection is with a thread that itself waits for one, so that none would ever come back."""


# ---- records ----


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failed attempt to open a connection, in seconds: for `retry=`.

    `first`, then twice as long each time up to `most`, each shortened by a random part of up to `jitter`. The pool
    shares one such wait: after a failure one thread tries at a time.

    >>> from sluicegate import Backoff, ConnectionPool
    >>> ConnectionPool(dict, retry=Backoff(first=0.05, most=2.0)).acquire()
    {}
    """

    first: float = 0.1
    most: float = 5.0
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations in seconds. `counts[i]` is the number below `2**i` ns that no lower bucket counts."""

    counts: tuple[int, ...]
    sum: float
    max: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def quantile(self, q: float) -> float:
        """An upper bound of the q-quantile, at most twice the true value: `quantile(0.99)`."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"q must be in 0..1, got {q}")
        rank = q * self.count
        for bucket, count in enumerate(self.counts):
            rank -= count
            if count and rank <= 0:
                return min(float(2**bucket) / 1e9, self.max)
        return self.max


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Counters since the pool was made, sizes now, and the times of waits, uses and creations."""

    acquired: int
    returned: int
    created: int
    create_failed: int
    discarded: int
    expired: int
    failed: int
    timeouts: int
    refused: int
    size: int
    idle: int
    waiting: int
    wait: Histogram
    use: Histogram
    create: Histogram


@dataclass(frozen=True, slots=True)
class Holder(Generic[C]):
    """A connection that is out: who took it (`threading.get_ident()`), for how many seconds, and where.

    `loan` numbers the pool's loans from 1; `ended` says that the thread is no more, so anybody may return it.
    """

    conn: C
    thread: int
    held: float
    where: str | None
    loan: int
    ended: bool


def _stats(counters: list[tuple[str, int]], times: Sequence[tuple[list[int], int, int]]) -> PoolStats:
    wait, use, create = (
        Histogram(tuple(counts), total / 1e9, longest / 1e9) for counts, total, longest in times
    )
    return PoolStats(**dict(counters), wait=wait, use=use, create=create)


def _holders(loans: list[tuple[C, int, float, tuple[CodeType, int] | None, int, bool]]) -> list[Holder[C]]:
    return [
        Holder(conn, thread, held, _place(origin), loan, ended)
        for conn, thread, held, origin, loan, ended in loans
    ]


# ---- words; called by the native half ----


def _place(origin: tuple[CodeType, int] | None) -> str | None:
    if origin is None:
        return None
    code, line = origin
    return f"at {code.co_filename}:{line} in {code.co_qualname}"


def _thread_name(holder: Holder[Any]) -> str:
    if holder.ended:
        return f"{holder.thread}, which has ended"
    names = [thread.name for thread in threading.enumerate() if thread.ident == holder.thread]
    return names[0] if names else str(holder.thread)


def _called(pool: ConnectionPool[Any]) -> str:
    return "the pool" if pool.name is None else f"pool {pool.name!r}"


def _sizes(pool: ConnectionPool[Any]) -> str:
    return f"size={pool.size}, in_use={pool.in_use}, idle={pool.idle}, waiting={pool.waiting}"


def _longest(pool: ConnectionPool[Any]) -> str:
    for holder in pool.holders():
        taken = f", taken {holder.where}" if holder.where else ""
        return f"; one is held for {holder.held:.3g} s by thread {_thread_name(holder)}{taken}"
    return ""


def _timeout(
    pool: ConnectionPool[Any], seconds: float, cause: BaseException | None, deadlocked: bool
) -> PoolTimeout:
    stuck = "; every connection is with a thread that waits here itself" if deadlocked else ""
    error = PoolTimeout(
        f"no connection from {_called(pool)} within {seconds:.3g} s ({_sizes(pool)}{_longest(pool)}{stuck})"
    )
    error.size, error.in_use, error.idle, error.waiting = pool.size, pool.in_use, pool.idle, pool.waiting
    error.__cause__ = cause
    return error


def _full(pool: ConnectionPool[Any]) -> PoolFull:
    return PoolFull(f"{_called(pool)} has all the waiters it may have ({_sizes(pool)}{_longest(pool)})")


def _deadlock(pool: ConnectionPool[Any]) -> PoolDeadlock:
    return PoolDeadlock(
        f"every connection of {_called(pool)} is with a thread that waits for one ({_sizes(pool)})"
    )


def _lease_ended() -> NotOwned:
    return NotOwned("the lease has ended: its connection was returned")


def _report(pool: str, what: str, error: BaseException) -> None:
    log.warning("%s: %s failed: %r; the connection is not used again", pool, what, error, exc_info=error)


def _lost(pool: ConnectionPool[C], conn: C, origin: tuple[CodeType, int] | None) -> None:
    where = _place(origin)
    warnings.warn(
        f"{conn!r} was taken from {_called(pool)}{' ' + where if where else ''} and dropped without a return",
        ResourceWarning,
        stacklevel=2,
    )


# ---- creation with a time limit ----


@dataclass(slots=True)
class _Attempt:
    """One call of a factory on a thread of its own. Whoever gives up first leaves the rest to the other."""

    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    late: bool = False
    made: Any = None
    error: BaseException | None = None

    def run(self, factory: Callable[[], Any], ticket: Any) -> None:
        try:
            self.made = factory()
        except BaseException as error:  # noqa: BLE001 - raised by whoever asked, or told to the pool
            self.error = error
        with self.lock:
            self.done.set()
            late = self.late
        if late and self.error is not None:
            ticket.fail(self.error)
        elif late:
            ticket.adopt(self.made)

    def give_up(self) -> bool:
        """Whether the factory was still at it: then its result goes into the pool when it comes."""
        with self.lock:
            self.late = not self.done.is_set()
            return self.late


def _create_within(factory: Callable[[], C], ticket: Any, seconds: float) -> C:
    attempt = _Attempt()
    thread = threading.Thread(
        target=attempt.run, args=(factory, ticket), name="sluicegate-pool-create", daemon=True
    )
    try:
        thread.start()
        attempt.done.wait(None if seconds == float("inf") else seconds)
        if attempt.give_up():
            raise PoolTimeout(  # noqa: TRY301 - caught as what ends a wait, like Ctrl-C
                f"the factory gave no connection within {seconds:.3g} s"
            )
    except BaseException as error:
        if thread.ident is not None and (attempt.late or attempt.give_up()):
            error.__sluicegate_late__ = True  # type: ignore[attr-defined]
        raise
    if attempt.error is not None:
        raise attempt.error
    made: C = attempt.made
    return made


# ---- the helper thread, and the end ----


class _Helper:
    """One thread for every pool that asked for one: it opens what is missing and closes what is too old."""

    PERIOD = 0.5

    def __init__(self) -> None:
        self.pools: weakref.WeakSet[ConnectionPool[Any]] = weakref.WeakSet()
        self.told: weakref.WeakKeyDictionary[ConnectionPool[Any], set[int]] = weakref.WeakKeyDictionary()
        self.poke = threading.Event()
        # A set cannot be looked through while another thread adds to it.
        self.lock = threading.Lock()
        self.stopped = False
        self.thread: threading.Thread | None = None

    def look_after(self, pool: ConnectionPool[Any]) -> None:
        with self.lock:
            self.pools.add(pool)
            if self.thread is None and not self.stopped:
                self.thread = threading.Thread(target=self.run, name="sluicegate-pool", daemon=True)
                self.thread.start()
        self.poke.set()

    def run(self) -> None:
        while not self.stopped:
            self.poke.clear()
            with self.lock:
                pools = list(self.pools)
            while pools:
                self.tend(pools.pop())
            self.poke.wait(self.PERIOD)

    def tend(self, pool: ConnectionPool[Any]) -> None:
        try:
            leak_after = pool._tend()
        except Exception as error:  # noqa: BLE001 - one pool's callbacks are not the others' end
            log.warning("%s: %r", _called(pool), error)
            return
        if pool.closed:
            with self.lock:
                self.pools.discard(pool)
        if leak_after is not None:
            self.report_leaks(pool, leak_after)

    def report_leaks(self, pool: ConnectionPool[Any], leak_after: float) -> None:
        before, now = self.told.get(pool, set()), set()
        for holder in pool.holders():
            if holder.held < leak_after:
                break
            now.add(holder.loan)
            if holder.loan not in before:
                log.warning(
                    "%s: %r is held for %.3g s by thread %s, taken %s",
                    _called(pool), holder.conn, holder.held, _thread_name(holder), holder.where,
                )  # fmt: skip
        self.told[pool] = now

    def stop(self) -> None:
        self.stopped = True
        self.poke.set()
        if self.thread is not None:
            self.thread.join(1.0)


_helper = _Helper()
_known: weakref.WeakSet[ConnectionPool[Any]] = weakref.WeakSet()


def _introduce(pool: ConnectionPool[Any], background: bool) -> None:
    with _helper.lock:
        _known.add(pool)
    if background:
        _helper.look_after(pool)


@atexit.register
def _at_exit() -> None:
    _helper.stop()
    with _helper.lock:
        pools = list(_known)
    for pool in pools:
        try:
            pool._close_idle()
        except Exception as error:  # noqa: BLE001 - the others are to be closed too
            log.warning("%s: %r", _called(pool), error)


def _after_fork() -> None:
    """The child has no helper thread; a pool asks for one again when it opens a connection there."""
    global _helper  # noqa: PLW0603 - the one of this process
    _helper = _Helper()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
