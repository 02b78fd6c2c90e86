"""Drop-in for `threading`: everything it has, with the semaphores replaced by native ones."""

import threading as _threading
from threading import *

from sluicegate._native import BoundedSemaphore, Semaphore

__all__ = list(_threading.__all__)


def __getattr__(name: str) -> object:
    """What `threading` has beyond `__all__`: `_shutdown`, `_active`, and what a later Python adds."""
    return getattr(_threading, name)
