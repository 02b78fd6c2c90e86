"""Native semaphores, channels and connection pools; see the README for the drop-in rule."""

from queue import Empty, Full

from sluicegate._native import (
    BoundedSemaphore,
    Channel,
    Closed,
    ConnectionPool,
    Lease,
    Semaphore,
    Timer,
    after,
    select,
    tick,
)
from sluicegate.pool import (
    Backoff,
    NotOwned,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolFull,
    PoolTimeout,
)

__all__ = [
    "Backoff",
    "BoundedSemaphore",
    "Channel",
    "Closed",
    "ConnectionPool",
    "Empty",
    "Full",
    "Lease",
    "NotOwned",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolFull",
    "PoolTimeout",
    "Semaphore",
    "Timer",
    "after",
    "select",
    "tick",
]
