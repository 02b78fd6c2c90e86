"""Native semaphores, channels and connection pools; see the README for the drop-in rule."""

from sluicegate._native import BoundedSemaphore, Closed, ConnectionPool, Lease, Semaphore
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
    "Closed",
    "ConnectionPool",
    "Lease",
    "NotOwned",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolFull",
    "PoolTimeout",
    "Semaphore",
]
