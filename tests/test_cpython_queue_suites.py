"""CPython's own `test_queue`, from the running interpreter and unmodified: on its classes (the control) and on ours."""

from __future__ import annotations

import importlib
import queue
import unittest
from types import SimpleNamespace
from typing import Any

import pytest

import sluicegate.queue

pytestmark = pytest.mark.thread_unsafe(reason="CPython's tests count the threads of the whole process")

SUITES = ["QueueTest", "LifoQueueTest", "PriorityQueueTest", "FailingQueueTest", "CSimpleQueueTest"]
# The names its tests look up; ShutDown is newer than some Pythons.
CANDIDATES = {
    "Theirs": queue,
    "Ours": SimpleNamespace(**{name: getattr(sluicegate.queue, name) for name in sluicegate.queue.__all__}),
}


def suite(name: str, candidate: Any) -> type[unittest.TestCase]:
    try:
        tests: Any = getattr(importlib.import_module("test.test_queue"), name)
    except ImportError as missing:
        reason = f"this interpreter came without its own tests: {missing}"

        class Missing(unittest.TestCase):
            def test_are_missing(self) -> None:
                self.skipTest(reason)

        return Missing
    bases = (tests,) if issubclass(tests, unittest.TestCase) else (tests, unittest.TestCase)

    def skip_size(self: Any) -> None:
        self.skipTest("it knows the C struct's own size")

    foreign = (
        {"test_simplequeue_sizeof": skip_size}
        if candidate is not queue and name == "CSimpleQueueTest"
        else {}
    )
    return type(name, bases, {"queue": candidate, **foreign})


for _whose, _candidate in CANDIDATES.items():
    for _name in SUITES:
        _suite = suite(_name, _candidate)
        _suite.__name__ = _suite.__qualname__ = f"Test{_whose}{_name}"
        _suite.__module__ = __name__
        globals()[_suite.__name__] = _suite
del _suite


def test_the_suites_are_there() -> None:
    """An interpreter that has its tests runs dozens of them here."""
    pytest.importorskip("test.test_queue")
    names = [name for name in globals() if name.startswith(("TestOurs", "TestTheirs"))]
    assert len(names) == 2 * len(SUITES)
    ours = sum(unittest.defaultTestLoader.loadTestsFromTestCase(globals()[n]).countTestCases() for n in names)
    assert ours >= 2 * 27
