"""Where `sluicegate`'s semaphores differ from `threading`'s, each on purpose; the README lists the same."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

import sluicegate

THEIRS: dict[str, Any] = {"Semaphore": threading.Semaphore, "BoundedSemaphore": threading.BoundedSemaphore}
OURS: dict[str, Any] = {"Semaphore": sluicegate.Semaphore, "BoundedSemaphore": sluicegate.BoundedSemaphore}

pairs = pytest.mark.parametrize("name", OURS)

LIMIT = 2**31 - 1
Call = Callable[[Any], object]
# What is done, and on ours the error and its words.
DIFFERENCES: dict[str, tuple[Call, type[Exception], str]] = {
    "a NaN timeout": (lambda cls: cls(0).acquire(timeout=math.nan), ValueError, "NaN"),
    "a value of 1.5": (lambda cls: cls(1.5), TypeError, "float"),
    "a value of 1.0": (lambda cls: cls(1.0), TypeError, "float"),
    "a value of NaN": (lambda cls: cls(math.nan), TypeError, "float"),
    "a release of 1.5": (lambda cls: cls(1).release(1.5), TypeError, "float"),
    "a value beyond the limit": (lambda cls: cls(LIMIT + 1), OverflowError, str(LIMIT)),
    "a value far beyond the limit": (lambda cls: cls(2**70), OverflowError, str(LIMIT)),
    "a release beyond the limit": (lambda cls: cls(1).release(2**70), OverflowError, str(LIMIT)),
    "a shallow copy": (lambda cls: copy.copy(cls(1)), TypeError, "cannot pickle"),
    "a condition to poke": (lambda cls: cls(1)._cond, AttributeError, "_cond"),
    "an assigned value of 1.5": (lambda cls: setattr(cls(1), "_value", 1.5), TypeError, "float"),
    "an assigned value below zero": (lambda cls: setattr(cls(1), "_value", -1), ValueError, ">= 0"),
    "an assigned value beyond the limit": (
        lambda cls: setattr(cls(1), "_value", LIMIT + 1),
        OverflowError,
        str(LIMIT),
    ),
}
# Theirs are asked the same, but for what never comes back, or varies with the version.
ACCEPTED = [
    "a value of 1.5",
    "a value of 1.0",
    "a value of NaN",
    "a value beyond the limit",
    "a shallow copy",
    "a condition to poke",
]


@pairs
@pytest.mark.parametrize("what", DIFFERENCES)
def test_ours_refuses(name: str, what: str) -> None:
    call, error, words = DIFFERENCES[what]
    with pytest.raises(error, match=words):
        call(OURS[name])


@pairs
@pytest.mark.parametrize("what", ACCEPTED)
def test_theirs_accepts(name: str, what: str) -> None:
    DIFFERENCES[what][0](THEIRS[name])


def test_the_limit_itself_is_reached_and_kept() -> None:
    sem = sluicegate.Semaphore(LIMIT)
    assert sem._value == LIMIT
    for n in (1, LIMIT, LIMIT + 1, 2**70):
        with pytest.raises(OverflowError, match=str(LIMIT)):
            sem.release(n)
    assert sem._value == LIMIT
    assert sem.acquire() is True
    sem.release()
    assert sem._value == LIMIT


def test_a_bounded_release_of_a_huge_number_is_a_release_too_many() -> None:
    sem = sluicegate.BoundedSemaphore(1)
    for n in (LIMIT, LIMIT + 1, 2**70):
        with pytest.raises((ValueError, OverflowError)):
            sem.release(n)
    assert sem._value == 1
