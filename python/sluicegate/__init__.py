"""Native semaphores, channels and connection pools; see the README for the drop-in rule."""

from sluicegate._native import BoundedSemaphore, Closed, Semaphore

__all__ = ["BoundedSemaphore", "Closed", "Semaphore"]
