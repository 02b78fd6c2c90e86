"""Native semaphores, channels and connection pools; see the README for the drop-in rule."""

from queue import Empty, Full

from sluicegate._native import BoundedSemaphore, Channel, Closed, Semaphore, Timer, after, select, tick

__all__ = [
    "BoundedSemaphore",
    "Channel",
    "Closed",
    "Empty",
    "Full",
    "Semaphore",
    "Timer",
    "after",
    "select",
    "tick",
]
