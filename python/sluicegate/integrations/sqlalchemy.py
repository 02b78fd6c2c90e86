"""SQLAlchemy's connections in a native pool: `create_engine(url, poolclass=SluicegatePool)`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from sluicegate import ConnectionPool, PoolTimeout

__all__ = ["SluicegatePool"]


class SluicegatePool(Pool):
    """A drop-in for `sqlalchemy.pool.QueuePool`, as `poolclass=` or `pool=` of `create_engine`.

    It takes the arguments of QueuePool; `pool_size + max_overflow` is the most connections. Threads that wait are
    served in turn, and at once when a connection could not be opened. `native` is the ConnectionPool behind it, with
    its stats() and holders(). Raises sqlalchemy.exc.TimeoutError where QueuePool does.
    """

    def __init__(
        self,
        creator: Any,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float = 30.0,
        use_lifo: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(creator, **kw)
        self._arguments: dict[str, Any] = {
            "pool_size": pool_size, "max_overflow": max_overflow, "timeout": timeout, "use_lifo": use_lifo
        }  # fmt: skip
        # SQLAlchemy itself recycles, pings and resets what it checks out and in.
        self.native: ConnectionPool[ConnectionPoolEntry] = ConnectionPool(
            self._create_connection,
            pool_size + max_overflow,
            timeout=timeout,
            lifo=use_lifo,
            max_lifetime=None,
            close=lambda entry: entry.close(),
            name=self.logging_name if self._orig_logging_name else None,
        )

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            return self.native.acquire()
        except PoolTimeout as error:
            raise exc.TimeoutError(str(error), code="3o7r") from error

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self.native._give_back(record)

    def recreate(self) -> SluicegatePool:
        """A new pool with the same arguments."""
        self.logger.info("Pool recreating")
        return self.__class__(
            self._creator,
            **self._arguments,
            pre_ping=self._pre_ping,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def dispose(self) -> None:
        """Close what is idle; what is out is closed when it is returned."""
        self.native.drain()
        self.logger.info("Pool disposed. %s", self.status())

    def status(self) -> str:
        native = self.native
        return f"Pool size: {native.max_size}  Idle: {native.idle}  In use: {native.in_use}  Waiting: {native.waiting}"

    def size(self) -> int:
        return self.native.max_size

    def checkedin(self) -> int:
        return self.native.idle

    def checkedout(self) -> int:
        return self.native.in_use
