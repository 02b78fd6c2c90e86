"""Drop-in for `queue`: everything it has, with native queues, and `shutdown()` on every Python."""

from queue import Empty, Full

from sluicegate._native import LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]
