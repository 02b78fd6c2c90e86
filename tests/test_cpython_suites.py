"""CPython's own tests, from the running interpreter and unmodified: on its classes (the control) and on ours."""

from __future__ import annotations

import importlib
import threading
import unittest
from typing import Any

import pytest

import sluicegate

pytestmark = pytest.mark.thread_unsafe(reason="CPython's tests count the threads of the whole process")

# Which of its test classes, under which attribute they look for the class they test, and the two candidates.
SUITES: list[tuple[str, str, str, Any, Any]] = [
    ("test.lock_tests", "SemaphoreTests", "semtype", threading.Semaphore, sluicegate.Semaphore),
    (
        "test.lock_tests",
        "BoundedSemaphoreTests",
        "semtype",
        threading.BoundedSemaphore,
        sluicegate.BoundedSemaphore,
    ),
]


def suite(module: str, name: str, attribute: str, candidate: Any) -> type[unittest.TestCase]:
    try:
        tests: Any = getattr(importlib.import_module(module), name)
    except ImportError as missing:
        reason = f"this interpreter came without its own tests: {missing}"

        class Missing(unittest.TestCase):
            def test_are_missing(self) -> None:
                self.skipTest(reason)

        return Missing
    # BaseTestCase of lock_tests is a TestCase in some versions only.
    bases = (tests,) if issubclass(tests, unittest.TestCase) else (tests, unittest.TestCase)
    return type(name, bases, {attribute: staticmethod(candidate)})


for _module, _name, _attribute, _theirs, _ours in SUITES:
    for _whose, _candidate in (("Theirs", _theirs), ("Ours", _ours)):
        _suite = suite(_module, _name, _attribute, _candidate)
        _suite.__name__ = _suite.__qualname__ = f"Test{_whose}{_name}"
        _suite.__module__ = __name__
        globals()[_suite.__name__] = _suite
del _suite
