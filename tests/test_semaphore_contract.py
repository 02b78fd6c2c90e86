"""What `threading`'s semaphores promise, line by line, held by theirs (the control) and by ours.

Where the wording of an error varies between versions of Python, the running interpreter's own class says what is
right. What differs on purpose is in test_semaphore_differences.py, in one table.
"""

from __future__ import annotations

import copy
import gc
import inspect
import math
import pickle
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from support import Crew, wait_until, waiting

import sluicegate

THEIRS = {"Semaphore": threading.Semaphore, "BoundedSemaphore": threading.BoundedSemaphore}
OURS = {"Semaphore": sluicegate.Semaphore, "BoundedSemaphore": sluicegate.BoundedSemaphore}
EVERY = {f"{kind.__module__}.{name}": kind for kinds in (THEIRS, OURS) for name, kind in kinds.items()}
BOUNDED = [THEIRS["BoundedSemaphore"], OURS["BoundedSemaphore"]]

every = pytest.mark.parametrize("cls", EVERY.values(), ids=EVERY.keys())
unbounded = pytest.mark.parametrize("cls", [THEIRS["Semaphore"], OURS["Semaphore"]], ids=["theirs", "ours"])
bounded = pytest.mark.parametrize("cls", BOUNDED, ids=["theirs", "ours"])
pairs = pytest.mark.parametrize("name", OURS)


def state(sem: Any) -> tuple[int, int]:
    return sem._value, waiting(sem)


def raised(call: Callable[[], object]) -> BaseException:
    """The error of a call that has to raise one."""
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


class Indexable:
    def __index__(self) -> int:
        return 1


class Floatable:
    def __float__(self) -> float:
        return 0.01


class Undecided:
    def __bool__(self) -> bool:
        raise LookupError("neither true nor false")


# ---- the constructor ----


@every
def test_value_is_one_unless_said(cls: Any) -> None:
    assert cls()._value == 1
    assert cls(3)._value == cls(value=3)._value == 3
    assert cls(0)._value == 0
    assert cls(True)._value == 1


@every
@pytest.mark.parametrize("value", [-1, -(2**31), -(2**31) - 1, -sys.maxsize, -(2**70)])
def test_a_negative_value_is_refused(cls: Any, value: int) -> None:
    with pytest.raises(ValueError, match=r"^semaphore initial value must be >= 0$"):
        cls(value)
    with pytest.raises(ValueError, match=r"^semaphore initial value must be >= 0$"):
        cls(value=value)


@every
@pytest.mark.parametrize("value", ["1", None, [1], Indexable(), object()], ids=repr)
def test_a_value_that_is_no_number_is_refused(cls: Any, value: object) -> None:
    with pytest.raises(TypeError):
        cls(value)


@every
def test_the_constructor_takes_nothing_else(cls: Any) -> None:
    with pytest.raises(TypeError):
        cls(1, 2)
    with pytest.raises(TypeError):
        cls(count=1)


# ---- acquire ----


@every
def test_acquire_takes_what_is_there_and_no_more(cls: Any) -> None:
    sem = cls(2)
    assert sem.acquire() is True
    assert sem.acquire(False) is True
    assert sem.acquire(blocking=False) is False
    assert sem.acquire(True, 0.001) is False
    assert sem.acquire(timeout=0.001) is False
    assert state(sem) == (0, 0)


@every
def test_blocking_is_any_truth(cls: Any) -> None:
    for falsy in (0, 0.0, "", (), None):
        sem = cls(1)
        assert sem.acquire(falsy) is True
        assert sem.acquire(falsy) is False
    for truthy in (1, -1, "no", [0], object()):
        sem = cls(1)
        assert sem.acquire(truthy, 5) is True
        assert sem.acquire(truthy, 0.001) is False


@every
def test_an_error_in_the_truth_of_blocking_comes_through(cls: Any) -> None:
    sem = cls(1)
    with pytest.raises(LookupError, match="neither true nor false"):
        sem.acquire(Undecided())
    assert state(sem) == (1, 0)


@every
@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("timeout", [0, 1, -1, 1.5, math.nan, "x"], ids=repr)
def test_a_timeout_that_would_not_be_waited_for_is_refused(cls: Any, value: int, timeout: object) -> None:
    sem = cls(value)
    calls: list[Callable[[], object]] = [
        lambda: sem.acquire(False, timeout),
        lambda: sem.acquire(blocking=0, timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"^can't specify timeout for non-blocking acquire$"):
            call()
    assert state(sem) == (value, 0)


LAZY: list[object] = [
    "x", [], object(), math.nan, math.inf, -math.inf, 2**70, 1e300, -1, 0, Decimal(1), Fraction(1), 1j, Floatable(),
]  # fmt: skip


@every
@pytest.mark.parametrize("timeout", LAZY, ids=repr)
def test_a_timeout_is_not_looked_at_unless_it_is_waited_for(cls: Any, timeout: object) -> None:
    sem = cls(1)
    assert sem.acquire(timeout=timeout) is True
    assert state(sem) == (0, 0)


@every
@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, False, -1, -0.5, -1e300, -(2**70), -math.inf], ids=repr)
def test_a_timeout_in_the_past_is_one_look(cls: Any, timeout: float) -> None:
    sem = cls(0)
    assert sem.acquire(timeout=timeout) is False
    assert state(sem) == (0, 0)


@every
@pytest.mark.parametrize("timeout", [0.03, Fraction(3, 100)], ids=repr)
def test_a_timeout_is_waited_for(cls: Any, timeout: float) -> None:
    if isinstance(timeout, Fraction) and sys.version_info < (3, 15):
        pytest.skip("a Fraction is no timeout before Python 3.15")
    sem = cls(0)
    begin = time.monotonic()
    assert sem.acquire(timeout=timeout) is False
    assert time.monotonic() - begin >= float(timeout)
    assert state(sem) == (0, 0)


@every
@pytest.mark.parametrize(
    "timeout", ["x", "1", [], object(), 1j, Decimal(1), Floatable(), Indexable()], ids=repr
)
def test_a_timeout_that_is_no_number_is_refused_when_waited_for(cls: Any, timeout: object) -> None:
    sem = cls(0)
    with pytest.raises(TypeError):
        sem.acquire(timeout=timeout)
    assert state(sem) == (0, 0)


@pairs
@pytest.mark.parametrize("timeout", [Fraction(1, 100), Fraction(-1), -1.0], ids=repr)
def test_what_is_a_number_is_what_the_interpreter_says(name: str, timeout: object) -> None:
    def story(cls: Any) -> object:
        try:
            return cls(0).acquire(timeout=timeout)
        except Exception as error:
            return type(error)

    assert story(OURS[name]) == story(THEIRS[name])


@every
@pytest.mark.parametrize("timeout", [math.inf, 1e10, 2**70, 1e300, threading.TIMEOUT_MAX * 2], ids=repr)
def test_a_timeout_too_long_to_wait_is_refused(cls: Any, timeout: float) -> None:
    sem = cls(0)
    with pytest.raises(OverflowError):
        sem.acquire(timeout=timeout)
    assert state(sem) == (0, 0)


@every
def test_the_longest_timeout_is_waited_for(cls: Any) -> None:
    sem = cls(1)
    sem.acquire()
    with Crew() as crew:
        worker = crew.queue_up(sem, sem.acquire, timeout=threading.TIMEOUT_MAX)
        sem.release()
        assert worker.result() is True


@every
def test_release_wakes_who_waits(cls: Any) -> None:
    sem = cls(1)
    sem.acquire()
    with Crew() as crew:
        forever, timed = crew.queue_up(sem, sem.acquire), crew.queue_up(sem, sem.acquire, True, 25.0)
        sem.release()
        wait_until(lambda: not (forever.running and timed.running))
        sem.release()
        assert forever.result() is timed.result() is True
    assert state(sem) == (0, 0)


@pairs
def test_an_unknown_keyword_is_named(name: str) -> None:
    words = re.compile(r"Semaphore\.acquire\(\) got an unexpected keyword argument 'block'")
    for cls in (THEIRS[name], OURS[name]):
        sem: Any = cls(1)
        with pytest.raises(TypeError, match=words):
            sem.acquire(block=True)
        assert state(sem) == (1, 0)


@every
def test_acquire_and_release_take_no_more_arguments(cls: Any) -> None:
    sem = cls(1)
    calls: list[Callable[[], object]] = [
        lambda: sem.acquire(True, None, 1),
        lambda: sem.release(1, 1),
        lambda: sem.release(count=1),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert state(sem) == (1, 0)


# ---- with ----


@every
def test_with_takes_one_and_gives_it_back(cls: Any) -> None:
    sem = cls(2)
    with sem as entered:
        assert entered is True
        assert sem._value == 1
        with pytest.raises(KeyError), sem:
            assert sem._value == 0
            raise KeyError
        assert sem._value == 1
    assert sem._value == 2


@every
def test_exit_wants_its_three_arguments(cls: Any) -> None:
    sem = cls(1)
    sem.acquire()
    for arguments in ((), (None,), (None, None)):
        with pytest.raises(TypeError):
            sem.__exit__(*arguments)
    assert sem.__exit__(None, None, None) is None
    assert sem._value == 1


@every
def test_with_sees_an_overridden_release_and_no_overridden_acquire(cls: Any) -> None:
    seen = []

    class Sub(cls):  # type: ignore[misc]
        def acquire(self, *args: Any, **kwargs: Any) -> bool:
            seen.append("acquire")
            return bool(super().acquire(*args, **kwargs))

        def release(self, n: int = 1) -> None:
            seen.append("release")
            super().release(n)

    sem = Sub(1)
    with sem:
        assert sem._value == 0
    assert seen == ["release"]
    assert sem._value == 1


@every
def test_an_error_of_an_overridden_release_leaves_the_block(cls: Any) -> None:
    class Sub(cls):  # type: ignore[misc]
        def release(self, n: int = 1) -> None:
            raise LookupError

    with pytest.raises(LookupError), Sub(1):
        pass


# ---- release ----


@unbounded
def test_release_adds_without_bound(cls: Any) -> None:
    sem = cls(0)
    assert sem.release() is None
    assert sem.release(2) is None
    assert sem.release(n=3) is None
    assert sem.release(True) is None
    assert state(sem) == (7, 0)
    sem.release(10**6)
    assert sem._value == 10**6 + 7


@every
@pytest.mark.parametrize("n", [0, -1, False, -(2**31) - 1, -(2**70)])
def test_a_release_of_nothing_is_refused(cls: Any, n: int) -> None:
    sem = cls(1)
    with pytest.raises(ValueError, match=r"^n must be one or more$"):
        sem.release(n)
    assert state(sem) == (1, 0)


@every
@pytest.mark.parametrize("n", ["1", None, [1], object()], ids=repr)
def test_a_release_of_what_is_no_number_is_refused(cls: Any, n: object) -> None:
    sem = cls(1)
    with pytest.raises(TypeError):
        sem.release(n)
    assert state(sem) == (1, 0)


@bounded
def test_a_release_too_many_adds_nothing(cls: Any) -> None:
    sem = cls(2)
    with pytest.raises(ValueError, match=r"^Semaphore released too many times$"):
        sem.release()
    sem.acquire()
    with pytest.raises(ValueError, match=r"^Semaphore released too many times$"):
        sem.release(2)
    assert state(sem) == (1, 0)
    with pytest.raises(ValueError, match=r"^n must be one or more$"):
        sem.release(0)
    sem.release()
    assert state(sem) == (2, 0)


@every
def test_release_of_many_wakes_as_many(cls: Any) -> None:
    sem = cls(3)
    for _ in range(3):
        sem.acquire()
    with Crew() as crew:
        workers = [crew.queue_up(sem, sem.acquire) for _ in range(5)]
        sem.release(3)
        wait_until(lambda: sum(worker.running for worker in workers) == 2)
        assert state(sem) == (0, 2)
        sem.release(2)
    assert state(sem) == (0, 0)


# ---- what it looks like ----


@pairs
def test_repr_is_theirs_in_our_name(name: str) -> None:
    def shape(sem: object) -> str:
        return re.sub(r"0x[0-9a-f]+", "ADDRESS", repr(sem))

    ours, theirs = OURS[name](3), THEIRS[name](3)
    ours.acquire(), theirs.acquire()
    assert f" at {id(ours):#x}: " in repr(ours)
    assert shape(ours) == shape(theirs).replace("threading.", "sluicegate.")

    def nested(cls: Any) -> Any:
        class Sub(cls):  # type: ignore[misc]
            pass

        return Sub

    assert shape(nested(OURS[name])(2)) == shape(nested(THEIRS[name])(2))
    assert "nested.<locals>.Sub at" in shape(nested(OURS[name])(2))


@every
def test_value_can_be_read_and_set(cls: Any) -> None:
    sem = cls(1)
    sem._value = 3
    assert sem._value == 3
    assert [sem.acquire(False) for _ in range(4)] == [True, True, True, False]
    sem._value += 2
    assert sem._value == 2


@bounded
def test_initial_value_is_the_bound_and_can_be_set(cls: Any) -> None:
    sem = cls(1)
    assert sem._initial_value == 1
    sem.acquire()
    sem._initial_value = 3
    assert sem._value == 0
    sem.release(3)
    with pytest.raises(ValueError, match="too many times"):
        sem.release()
    assert (sem._value, sem._initial_value) == (3, 3)


@unbounded
def test_only_a_bounded_one_has_an_initial_value(cls: Any) -> None:
    assert not hasattr(cls(1), "_initial_value")


@every
@pytest.mark.parametrize("name", ["get_value", "_at_fork_reinit", "__len__", "__iter__", "__class_getitem__"])
def test_it_has_no_more_than_it_promises(cls: Any, name: str) -> None:
    assert not hasattr(cls(1), name)


@every
def test_it_is_itself_and_always_true(cls: Any) -> None:
    sem, other = cls(0), cls(0)
    assert bool(sem) is True
    assert sem == sem and sem != other
    assert hash(sem) == object.__hash__(sem)
    assert len({sem, other}) == 2
    with pytest.raises(TypeError):
        len(sem)
    with pytest.raises(TypeError):
        cls[int]
    with pytest.raises(TypeError):
        sem < other  # noqa: B015


@every
def test_it_can_be_referenced_weakly(cls: Any) -> None:
    sem = cls(1)
    gone: list[object] = []
    reference = weakref.ref(sem, gone.append)
    assert reference() is sem
    del sem
    gc.collect()
    assert gone == [reference]


@every
def test_it_takes_any_attribute(cls: Any) -> None:
    sem = cls(1)
    sem.owner = "me"
    assert sem.owner == "me"
    assert sem.__dict__["owner"] == "me"
    assert vars(sem)["owner"] == "me"
    del sem.owner
    assert not hasattr(sem, "owner")
    with pytest.raises(AttributeError):
        sem.nothing


@every
def test_it_cannot_be_pickled_or_copied_deeply(cls: Any) -> None:
    sem = cls(1)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(sem, protocol)
    for protocol in range(2):
        with pytest.raises((TypeError, pickle.PicklingError), match=r"[cC]an('|no)t pickle"):
            pickle.dumps(sem, protocol)
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(sem)


@every
@pytest.mark.parametrize("method", ["__init__", "acquire", "release"])
def test_the_signature_begins_with_theirs(cls: Any, method: str) -> None:
    theirs = inspect.signature(getattr(threading.Semaphore, method)).parameters
    seen = inspect.signature(getattr(cls, method)).parameters
    if method == "__init__":
        theirs, seen = inspect.signature(threading.Semaphore).parameters, inspect.signature(cls).parameters
    assert [(p.name, p.default) for p in seen.values()][: len(theirs)] == [
        (p.name, p.default) for p in theirs.values()
    ]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(seen.values())[len(theirs) :])


# ---- subclasses ----


@pytest.mark.parametrize("kinds", [THEIRS, OURS], ids=["theirs", "ours"])
def test_a_bounded_one_is_a_semaphore(kinds: dict[str, Any]) -> None:
    assert kinds["BoundedSemaphore"].__mro__ == (kinds["BoundedSemaphore"], kinds["Semaphore"], object)


@every
def test_a_subclass_may_have_a_constructor_of_its_own(cls: Any) -> None:
    class Sub(cls):  # type: ignore[misc]
        def __init__(self, name: str, *rest: object, size: int = 2, **options: object) -> None:
            self.name = name
            super().__init__(size)

    sem = Sub("a", 1, 2, 3, size=4, colour="red")
    assert (sem.name, sem._value) == ("a", 4)
    assert Sub("b")._value == 2
    assert isinstance(sem, cls)


@every
def test_a_subclass_may_mix(cls: Any) -> None:
    class Mixin:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.mixed = True

    class Before(Mixin, cls):  # type: ignore[misc]
        pass

    class Behind(cls, Mixin):  # type: ignore[misc]
        __slots__ = ("slot",)

    assert (Before(3)._value, Before(3).mixed) == (3, True)
    sem = Behind(3)
    sem.slot = 1
    assert sem._value == 3


@every
def test_a_subclass_may_override_and_call_up(cls: Any) -> None:
    class Sub(cls):  # type: ignore[misc]
        def acquire(self, blocking: Any = True, timeout: Any = None) -> bool:
            return not super().acquire(blocking, timeout)

    sem = Sub(1)
    assert sem.acquire() is False
    assert sem.acquire(False) is True


@every
def test_init_again_starts_over(cls: Any) -> None:
    sem = cls(1)
    sem.acquire()
    sem.__init__(5)
    assert state(sem) == (5, 0)
    sem.__init__()
    assert state(sem) == (1, 0)
    with pytest.raises(ValueError, match=">= 0"):
        sem.__init__(-1)
    assert state(sem) == (1, 0)


@bounded
def test_init_again_sets_the_bound(cls: Any) -> None:
    sem = cls(1)
    sem.__init__(5)
    assert (sem._value, sem._initial_value) == (5, 5)
    with pytest.raises(ValueError, match="too many times"):
        sem.release()


@every
def test_a_subclass_that_forgets_init_fails_on_use(cls: Any) -> None:
    class Sub(cls):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    sem = Sub()
    for use in (sem.acquire, sem.release, sem.__enter__, lambda: sem._value, lambda: sem.acquire(False)):
        with pytest.raises(AttributeError):
            use()
    cls.__init__(sem, 2)
    assert sem.acquire() is True
