"""One cap on open connections for all processes of a machine: a pool whose limit is a semaphore of processes."""

from __future__ import annotations

import os
import signal
import sys
import uuid

import pytest
from support import alone, wait_until

from sluicegate import ConnectionPool, PoolTimeout

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="semaphores of processes need Linux")


@alone()
def test_a_cap_holds_over_processes_and_an_idle_connection_goes_where_it_is_waited_for() -> None:
    from sluicegate.multiprocessing import BoundedSemaphore

    name = f"test-{uuid.uuid4().hex}"
    limit = BoundedSemaphore.named(name, 2)
    pool = ConnectionPool(object, max_size=5, limit=limit)
    one, two = pool.acquire(), pool.acquire()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        theirs = ConnectionPool(object, max_size=5, limit=BoundedSemaphore.named(name, 2))
        try:
            theirs.acquire(timeout=0.05)
        except PoolTimeout:
            os.write(tell, b"full")
        theirs.acquire(timeout=30)
        os.write(tell, b"open")
        signal.pause()
    assert os.read(told, 4) == b"full"
    wait_until(lambda: limit.pressure == 1)
    # It is not kept idle here, where nobody needs it.
    pool.release(one)
    assert os.read(told, 4) == b"open"
    assert (pool.size, pool.idle, limit.get_value()) == (1, 0, 0)
    assert sorted(holder.pid for holder in limit.holders()) == sorted([os.getpid(), pid])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # Its share is back, for us to open another.
    three = pool.acquire(timeout=30)
    assert (pool.size, limit.get_value()) == (2, 0)
    pool.release(two)
    pool.release(three)
    pool.close()
    assert limit.get_value() == 2
