"""CPython's own tests of `multiprocessing`'s semaphores, unmodified, for one start method and one candidate.

Run as `python -m unittest cpython_multiprocessing` by `test_shared_suites`; its children import it too.
"""

from __future__ import annotations

import os
import unittest
from typing import Any

from test import _test_multiprocessing as suite  # type: ignore[import-not-found]

import sluicegate.multiprocessing

CLASSES = ["WithProcessesTestSemaphore", "WithProcessesTestCondition"]

suite.install_tests_in_module_dict(globals(), os.environ["START_METHOD"], only_type="processes")
for _name, _value in list(globals().items()):
    if isinstance(_value, type) and issubclass(_value, unittest.TestCase):
        if _name not in CLASSES:
            del globals()[_name]
        elif os.environ["CANDIDATE"] == "ours":
            _tests: Any = _value
            _tests.Semaphore = staticmethod(sluicegate.multiprocessing.Semaphore)
            _tests.BoundedSemaphore = staticmethod(sluicegate.multiprocessing.BoundedSemaphore)
