"""Drop-in for `multiprocessing`: everything it has, with the semaphores replaced by native ones.

`BoundedSemaphore` limits how many do something at once: a permit belongs to the process that acquired it, and comes
back when that process ends, however it ends. `Semaphore` is for signalling: anybody may release it, so nothing comes
back. Both go to other processes as arguments, under every start method, as `Process` and initializer arguments
and as ordinary arguments of a task. They need no context; one object serves every start method.

The contexts of `get_context()` are the standard library's, with its semaphores: its queues, and those that others build
on a context, acquire a permit in one process and release it in another.
"""

import atexit
import multiprocessing as _multiprocessing
import sys as _sys
from multiprocessing import *
from multiprocessing import context as _context
from multiprocessing import reduction as _reduction
from multiprocessing import util as _util
from typing import Any, Protocol

if _sys.platform != "linux":
    raise ImportError(
        f"sluicegate.multiprocessing needs Linux, and this is {_sys.platform}: "
        "use the standard library's multiprocessing here"
    )

from sluicegate._native import Holder, SegmentRemoved, _leave_all
from sluicegate._native import SharedBoundedSemaphore as BoundedSemaphore
from sluicegate._native import SharedSemaphore as Semaphore

__all__ = list(_multiprocessing.__all__)
__all__ += ["Holder", "SegmentRemoved"]


def __getattr__(name: str) -> object:
    """What `multiprocessing` has beyond `__all__`, and what a later Python adds."""
    return getattr(_multiprocessing, name)


# ---- the way to another process ----


class _Parcel(Protocol):
    def detach(self) -> int: ...


def _rebuild(kind: type[Semaphore], parcel: _Parcel) -> Semaphore:
    return kind._open(parcel.detach())


def _pass_on(semaphore: Semaphore) -> tuple[Any, ...]:
    """How `multiprocessing` pickles a semaphore: named ones by their path, the others by their descriptor."""
    state = semaphore.__dict__ or None
    if isinstance(semaphore, BoundedSemaphore) and semaphore.path is not None:
        return type(semaphore)._at, (semaphore.path, semaphore.capacity), state
    parcel: _Parcel = _reduction.DupFd(semaphore._fileno())
    return _rebuild, (type(semaphore), parcel), state


def _reduce(semaphore: Semaphore) -> tuple[Any, ...]:
    """How everybody else does: only a named one can be found from anywhere."""
    is_named = isinstance(semaphore, BoundedSemaphore) and semaphore.path is not None
    if not is_named and _context.get_spawning_popen() is None:
        raise RuntimeError(
            f"{type(semaphore).__name__} objects should only be shared between processes through inheritance "
            "or as arguments of multiprocessing and concurrent.futures"
        )
    return _pass_on(semaphore)


_reduction.register(Semaphore, _pass_on)
_reduction.register(BoundedSemaphore, _pass_on)

# ---- the end of the process ----


def _clean_up_at_the_end(_: object = None) -> None:
    """Children of `multiprocessing` end without `atexit`, and a forked one without its parent's finalizers."""
    _util.Finalize(None, _leave_all, exitpriority=-100)


atexit.register(_leave_all)
_clean_up_at_the_end()
_util.register_after_fork(_clean_up_at_the_end, _clean_up_at_the_end)
