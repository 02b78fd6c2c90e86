"""`sluicegate.threading`: `threading` with the semaphores replaced, and nothing else."""

from __future__ import annotations

import threading

import pytest

import sluicegate
import sluicegate.threading

OURS = {"Semaphore": sluicegate.Semaphore, "BoundedSemaphore": sluicegate.BoundedSemaphore}


@pytest.mark.parametrize("name", threading.__all__)
def test_every_public_name_is_theirs_or_ours(name: str) -> None:
    assert getattr(sluicegate.threading, name) is OURS.get(name, getattr(threading, name))


def test_all_is_theirs() -> None:
    assert sorted(sluicegate.threading.__all__) == sorted(threading.__all__)
    namespace: dict[str, object] = {}
    exec("from sluicegate.threading import *", namespace)
    assert namespace["Semaphore"] is sluicegate.Semaphore
    assert namespace["Thread"] is threading.Thread


def test_what_is_not_public_is_found_too() -> None:
    assert sluicegate.threading._active is threading._active  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no_such_name"):
        sluicegate.threading.no_such_name


def test_the_classes_are_the_same_at_both_doors() -> None:
    assert sluicegate.threading.Semaphore is sluicegate.Semaphore
    assert sluicegate.threading.BoundedSemaphore is sluicegate.BoundedSemaphore
    assert threading.Semaphore is not sluicegate.Semaphore  # type: ignore[comparison-overlap]
    assert sluicegate.Semaphore.__module__ == "sluicegate"
    assert sluicegate.BoundedSemaphore.__module__ == "sluicegate"
    assert sluicegate.Closed.__module__ == "sluicegate"


def test_hooks_set_on_theirs_are_seen_through_ours() -> None:
    assert sluicegate.threading.excepthook is threading.excepthook
    assert sluicegate.threading.current_thread() is threading.current_thread()
