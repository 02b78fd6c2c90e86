"""`sluicegate.queue` beside `queue`, line by line: each scene is played with both, and must end alike.

A scene gets a module and tells what it saw. Where a line says what that is, the standard library is held to it too.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import queue
import sys
import types
import weakref
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import sluicegate.queue

Scene = Callable[[Any], object]
OURS: Any = sluicegate.queue
BLOCKING = ["Queue", "LifoQueue", "PriorityQueue"]
ALL = [*BLOCKING, "SimpleQueue"]
every_blocking = pytest.mark.parametrize("name", BLOCKING)
every_class = pytest.mark.parametrize("name", ALL)


def outcome(scene: Scene, module: Any) -> object:
    """What a scene returned or raised, comparable between the two modules."""
    try:
        return scene(module)
    except Exception as error:
        return type(error), str(error)


def raised(kind: type[BaseException], text: str = "") -> tuple[type[BaseException], str]:
    return kind, text


class Hits:
    """An argument that must not be looked at."""

    def __bool__(self) -> bool:
        raise AssertionError("looked at")

    def __lt__(self, other: object) -> bool:
        raise AssertionError("compared")


class IndexOnly:
    def __index__(self) -> int:
        return 1


class FloatOnly:
    def __float__(self) -> float:
        return 0.001


def full(m: Any, name: str = "Queue", size: object = 1) -> Any:
    q = getattr(m, name)(size)
    q.put(1)
    return q


def holding(m: Any, name: str = "Queue", *items: object) -> Any:
    q = getattr(m, name)()
    for item in items:
        q.put(item)
    return q


NEGATIVE = raised(ValueError, "'timeout' must be a non-negative number")
FULL, EMPTY = raised(queue.Full), raised(queue.Empty)
ODD: list[Any] = [
    "x",
    None,
    [],
    1.5,
    0.5,
    -0.5,
    float("inf"),
    float("-inf"),
    2**70,
    -(2**70),
    True,
    False,
    -5,
    Fraction(3, 2),
]
TIMEOUTS = [
    0, -0.0, 0.0, 0.001, False, -1, -0.5, -(10**400), float("-inf"), "x", [], IndexOnly(), FloatOnly(),
    Decimal("0.001"), Fraction(1, 1000), Fraction(-1, 2), Decimal(-1), 10**400,
]  # fmt: skip
TOO_LONG = [1e10, 2**70, 1e300, float("inf")]


def name_of(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__}-{text if len(text) < 20 and 'object' not in text else len(text)}"


def play(scene: Scene) -> object:
    """Plays a scene with both; returns what came of it."""
    theirs, ours = outcome(scene, queue), outcome(scene, OURS)
    assert ours == theirs, "ours is not as the standard library's"
    return theirs


# ---- scenes that end the same on every Python ----

SCENES: dict[str, tuple[Scene, object]] = {
    "default maxsize": (lambda m: m.Queue().maxsize, 0),
    "keyword maxsize": (lambda m: m.Queue(maxsize=3).maxsize, 3),
    "too many arguments": (lambda m: type(_error(m.Queue, 1, 2)), TypeError),
    "bad keyword": (lambda m: type(_error(m.Queue, size=1)), TypeError),
    "put returns None": (lambda m: m.Queue().put(1), None),
    "put_nowait returns None": (lambda m: m.Queue().put_nowait(1), None),
    "put keywords": (lambda m: m.Queue(1).put(item=1, block=True, timeout=1), None),
    "put wants an item": (lambda m: type(_error(m.Queue().put)), TypeError),
    "put has no blocking": (lambda m: type(_error(m.Queue().put, 1, blocking=True)), TypeError),
    "full, not blocking": (lambda m: full(m).put(2, False), FULL),
    "full, put_nowait": (lambda m: full(m).put_nowait(2), FULL),
    "full, positional timeout": (lambda m: full(m).put(2, True, 0.001), FULL),
    "full, not blocking ignores timeout": (lambda m: full(m).put(2, False, Hits()), FULL),
    "unbounded put looks at nothing": (lambda m: m.Queue().put(1, Hits(), Hits()), None),
    "bounded put looks at block": (lambda m: m.Queue(1).put(1, Hits()), raised(AssertionError, "looked at")),
    "negative bound is none": (lambda m: m.Queue(-5).put(1, timeout=-1), None),
    "bounded put looks at timeout, room or not": (lambda m: m.Queue(1).put(1, timeout=-1), NEGATIVE),
    "a refused put puts nothing": (lambda m: _after(q := m.Queue(1), lambda: q.put(1, timeout=-1)).qsize(), 0),
    "get looks at block": (lambda m: full(m).get(Hits()), raised(AssertionError, "looked at")),
    "get looks at timeout, item or not": (lambda m: full(m).get(timeout=-1), NEGATIVE),
    "get keywords": (lambda m: full(m).get(block=True, timeout=1), 1),
    "empty, get_nowait": (lambda m: m.Queue().get_nowait(), EMPTY),
    "empty, not blocking ignores timeout": (lambda m: m.Queue().get(False, Hits()), EMPTY),
    "empty, timeout 0 tries once": (lambda m: m.Queue().get(timeout=0), EMPTY),
    "item, timeout 0": (lambda m: full(m).get(timeout=0), 1),
    "nan is not compared with": (lambda m: full(m).get(timeout=float("nan")), 1),
    "nan, room": (lambda m: m.Queue(1).put(1, timeout=float("nan")), None),
    "shrinking": (lambda m: _after(q := full(m, size=3), lambda: setattr(q, "maxsize", 1)).put_nowait(2), FULL),
    "growing": (lambda m: _after(q := full(m), lambda: setattr(q, "maxsize", 2)).put_nowait(2), None),
    "unbounding": (lambda m: _after(q := full(m), lambda: setattr(q, "maxsize", 0)).put_nowait(2), None),
    "maxsize spoilt": (
        lambda m: _after(q := full(m), lambda: setattr(q, "maxsize", None)).put(2),
        raised(TypeError, "'>' not supported between instances of 'NoneType' and 'int'"),
    ),
    "task_done too often": (lambda m: m.Queue().task_done(), raised(ValueError, "task_done() called too many times")),
    "tasks count puts": (lambda m: holding(m, "Queue", 1, 2).unfinished_tasks, 2),
    "tasks do not count gets": (lambda m: _after(q := holding(m, "Queue", 1, 2), q.get).unfinished_tasks, 2),
    "task_done returns None": (lambda m: full(m).task_done(), None),
    "tasks can be assigned": (
        lambda m: _after(q := m.Queue(), lambda: setattr(q, "unfinished_tasks", 2)).task_done(),
        None,
    ),
    "join without tasks": (lambda m: m.Queue().join(), None),
    "join has no timeout": (lambda m: type(_error(m.Queue().join, 1)), TypeError),
    "FIFO": (lambda m: _drain(holding(m, "Queue", 3, 1, 2)), [3, 1, 2]),
    "LIFO": (lambda m: _drain(holding(m, "LifoQueue", 3, 1, 2)), [2, 1, 3]),
    "priority": (lambda m: _drain(holding(m, "PriorityQueue", 3, 1, 2, 0, 5, 1)), [0, 1, 1, 2, 3, 5]),
    "priority of tuples": (lambda m: _drain(holding(m, "PriorityQueue", (2, "a"), (1, "b"))), [(1, "b"), (2, "a")]),
    "incomparable": (
        lambda m: holding(m, "PriorityQueue", 1, "x"),
        raised(TypeError, "'<' not supported between instances of 'str' and 'int'"),
    ),
    "queue of a Queue": (lambda m: type(m.Queue().queue).__name__, "deque"),
    "queue of a LifoQueue": (lambda m: holding(m, "LifoQueue", 3, 1).queue, [3, 1]),
    "queue of a PriorityQueue": (lambda m: holding(m, "PriorityQueue", 3, 1, 2).queue, [1, 3, 2]),
    "peek": (lambda m: holding(m, "Queue", 3, 1).queue[0], 3),
    "membership": (lambda m: 1 in holding(m, "Queue", 3, 1).queue, True),
    "list of the items": (lambda m: list(holding(m, "Queue", 3, 1).queue), [3, 1]),
    "conditions share the mutex": (
        lambda m: [c._lock is q.mutex for q in [m.Queue()] for c in _conditions(q)],
        [True] * 3,
    ),
    "mutex is a plain lock": (lambda m: type(m.Queue().mutex).__name__, "lock"),
    "the parts stay": (lambda m: [q.mutex is q.mutex and q.queue is q.queue for q in [m.Queue()]], [True]),
    "initialising again starts over": (
        lambda m: _after(q := full(m), lambda: q.__init__(5)) and (q.qsize(), q.unfinished_tasks, q.maxsize),
        (0, 0, 5),
    ),
    "a queue is true": (lambda m: bool(m.Queue()), True),
    "no len": (lambda m: type(_error(len, m.Queue())), TypeError),
    "no iteration": (lambda m: type(_error(iter, m.Queue())), TypeError),
    "no context": (lambda m: hasattr(m.Queue(), "__enter__"), False),
    "own attributes": (lambda m: _after(q := m.Queue(), lambda: setattr(q, "label", 1)).label, 1),
    "identity": (lambda m: (m.Queue() == m.Queue(), len({m.Queue(), m.Queue()})), (False, 2)),
    "SimpleQueue, positional": (
        lambda m: m.SimpleQueue(1),
        raised(TypeError, "SimpleQueue() takes no positional arguments"),
    ),
    "SimpleQueue, keyword": (
        lambda m: m.SimpleQueue(maxsize=1),
        raised(TypeError, "SimpleQueue() takes no keyword arguments"),
    ),
    "SimpleQueue put ignores timeout": (lambda m: m.SimpleQueue().put(1, [], Hits()), None),
    "SimpleQueue put asks block its truth": (
        lambda m: m.SimpleQueue().put(1, Hits()),
        raised(AssertionError, "looked at"),
    ),
    "SimpleQueue put, then": (lambda m: _after(q := m.SimpleQueue(), lambda: q.put(1, Hits())).qsize(), 0),
    "a timeout may be a bool": (lambda m: (full(m).get(timeout=True), full(m, size=2).put(1, timeout=True)), (1, None)),
    "SimpleQueue put keywords": (lambda m: m.SimpleQueue().put(item=1, block=False, timeout=-1), None),
    "SimpleQueue put_nowait": (lambda m: m.SimpleQueue().put_nowait(1), None),
    "SimpleQueue get_nowait, empty": (lambda m: m.SimpleQueue().get_nowait(), EMPTY),
    "SimpleQueue not blocking ignores timeout": (lambda m: m.SimpleQueue().get(False, -1), EMPTY),
    "SimpleQueue not blocking, any timeout": (lambda m: m.SimpleQueue().get(False, "x"), EMPTY),
    "SimpleQueue sizes": (
        lambda m: [(q.qsize(), q.empty()) for q in [m.SimpleQueue(), holding(m, "SimpleQueue", 1)]],
        [(0, True), (1, False)],
    ),
    "SimpleQueue has no more": (
        lambda m: [hasattr(m.SimpleQueue(), a) for a in ("full", "join", "shutdown", "maxsize", "__dict__")],
        [False] * 5,
    ),
}  # fmt: skip


def _error(call: Callable[..., object], *args: object, **kwargs: object) -> Exception | None:
    try:
        call(*args, **kwargs)
    except Exception as error:
        return error
    return None


def _after(q: Any, act: Callable[[], object]) -> Any:
    _error(act)
    return q


def _drain(q: Any) -> list[object]:
    return [q.get(timeout=0) for _ in range(q.qsize())]


def _conditions(q: Any) -> list[Any]:
    return [q.not_empty, q.not_full, q.all_tasks_done]


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_ends_as_with_the_standard_library(scene: str) -> None:
    act, expected = SCENES[scene]
    assert play(act) == expected


@every_blocking
@pytest.mark.parametrize("maxsize", ODD, ids=name_of)
def test_any_maxsize_is_kept_and_compared_with(name: str, maxsize: object) -> None:
    def scene(m: Any) -> object:
        q = getattr(m, name)(maxsize)
        steps: list[Scene] = [
            lambda _: q.put(1, False),
            lambda _: q.full(),
            lambda _: q.put(2, timeout=0),
            lambda _: q.full(),
        ]
        seen = [outcome(step, m) for step in steps]
        return q.maxsize, seen, q.qsize(), q.empty()

    kept = play(scene)
    assert isinstance(kept, tuple) and kept[0] is maxsize


def test_a_maxsize_of_nan_bounds_nothing() -> None:
    play(
        lambda m: [
            outcome(lambda m: full(m, size=float("nan")).put(2, timeout=-1), m),
            full(m, size=float("nan")).full(),
        ]
    )


@every_blocking
@pytest.mark.parametrize("timeout", TIMEOUTS, ids=name_of)
@pytest.mark.parametrize("wait", [False, True], ids=["at once", "after waiting"])
def test_timeouts_are_taken_and_refused_alike(name: str, timeout: object, wait: bool) -> None:
    play(lambda m: full(m, name, 1 if wait else 2).put(1, timeout=timeout))
    play(lambda m: (getattr(m, name)() if wait else full(m, name)).get(timeout=timeout))
    play(lambda m: full(m, name, 0).put(1, timeout=timeout))


@every_blocking
@pytest.mark.parametrize("timeout", TOO_LONG, ids=name_of)
def test_a_timeout_too_long_for_the_clock_fails_when_it_must_wait(name: str, timeout: float) -> None:
    assert play(lambda m: full(m, name, 2).put(1, timeout=timeout)) is None
    assert play(lambda m: full(m, name).get(timeout=timeout)) == 1
    for scene in (
        lambda m: full(m, name).put(1, timeout=timeout),
        lambda m: getattr(m, name)().get(timeout=timeout),
    ):
        error = play(scene)
        assert isinstance(error, tuple) and error[0] is OverflowError


@every_blocking
def test_a_timeout_of_nan_is_refused_when_it_must_wait(name: str) -> None:
    nan = float("nan")
    for scene in (lambda m: full(m, name).put(1, timeout=nan), lambda m: getattr(m, name)().get(timeout=nan)):
        assert outcome(scene, OURS) == raised(ValueError, "Invalid value NaN (not a number)")
        if sys.version_info >= (3, 14):
            play(scene)


def test_a_timeout_of_nan_is_refused_by_an_open_queue_too() -> None:
    q = OURS.Queue(1)
    assert q.mutex
    with pytest.raises(ValueError, match="NaN"):
        q.get(timeout=float("nan"))


@pytest.mark.parametrize("timeout", [*TIMEOUTS, *TOO_LONG, float("nan")], ids=name_of)
def test_simple_queue_reads_a_timeout_even_if_it_need_not_wait(timeout: Any) -> None:
    play(lambda m: holding(m, "SimpleQueue", 1).get(timeout=timeout))
    play(lambda m: holding(m, "SimpleQueue", 1).get(False, timeout))
    if not (isinstance(timeout, int | float) and timeout > 1):
        play(lambda m: m.SimpleQueue().get(True, timeout))


# ---- subclasses ----


def recording(base: Any) -> Any:
    """A queue that notes its hooks, and whether the mutex was held for them."""

    class Recording(base):  # type: ignore[misc, valid-type, unused-ignore]
        def _note(self, hook: str) -> None:
            self.__dict__.setdefault("calls", []).append(
                (hook, hasattr(self, "mutex") and self.mutex.locked())
            )

        def _init(self, maxsize: int) -> None:
            self._note("_init")
            super()._init(maxsize)

        def _qsize(self) -> Any:
            self._note("_qsize")
            return super()._qsize()

        def _put(self, item: object) -> None:
            self._note("_put")
            super()._put(item)

        def _get(self) -> object:
            self._note("_get")
            return super()._get()

    return Recording


@every_blocking
def test_the_hooks_are_called_in_order_and_under_the_mutex(name: str) -> None:
    def scene(m: Any) -> object:
        q = recording(getattr(m, name))(2)
        q.put(1)
        got = q.get()
        return got, q.qsize(), q.empty(), q.full(), q.unfinished_tasks, q.calls

    under = [(hook, True) for hook in ("_qsize", "_put", "_qsize", "_get", "_qsize", "_qsize", "_qsize")]
    assert play(scene) == (1, 0, True, False, 1, [("_init", False), *under])


@pytest.mark.parametrize("hook", ["_init", "_qsize", "_put", "_get"])
def test_overriding_one_hook_is_enough(hook: str) -> None:
    def scene(m: Any) -> object:
        seen: list[str] = []

        def note(self: Any, *args: object) -> Any:
            seen.append(hook)
            return getattr(m.Queue, hook)(self, *args)

        q = type("Sub", (m.Queue,), {hook: note})(1)
        q.put(1)
        q.get()
        return len(seen)

    assert play(scene) == (2 if hook == "_qsize" else 1)


def test_a_set_backed_queue() -> None:
    def scene(m: Any) -> object:
        class SetQueue(m.Queue):  # type: ignore[misc, name-defined, unused-ignore]
            def _init(self, maxsize: int) -> None:
                self.queue: set[object] = set()

            def _put(self, item: object) -> None:
                self.queue.add(item)

            def _get(self) -> object:
                return self.queue.pop()

        q = SetQueue(2)
        q.put(1)
        q.put(1)
        q.put_nowait(2)
        return outcome(lambda _: q.put_nowait(3), m), q.qsize(), q.queue, q.unfinished_tasks

    assert play(scene) == (FULL, 2, {1, 2}, 3)


def test_the_nowait_forms_see_an_overridden_put_and_get() -> None:
    def scene(m: Any) -> object:
        class Sub(m.Queue):  # type: ignore[misc, name-defined, unused-ignore]
            def put(self, item: object, block: bool = True, timeout: float | None = None) -> str:
                super().put(("put", item, block, timeout))
                return "put"

            def get(self, block: bool = True, timeout: float | None = None) -> object:
                return "got", super().get(block, timeout), block

        q = Sub()
        return q.put_nowait(1), q.get_nowait()

    assert play(scene) == ("put", ("got", ("put", 1, False, None), False))


@every_class
def test_a_subclass_may_have_another_signature(name: str) -> None:
    def scene(m: Any) -> object:
        base = getattr(m, name)

        class Sub(base):  # type: ignore[misc, valid-type]
            def __init__(self, label: str, *, extra: int = 0) -> None:
                super().__init__()
                self.label = label, extra

        class Old(base):  # type: ignore[misc, valid-type]
            def __init__(self, *args: object) -> None:
                self.early = args
                base.__init__(self)

        q, old = Sub("a", extra=2), Old(1, 2)
        q.put(1)
        old.put(2)
        return q.label, q.get(), old.early, old.get()

    assert play(scene) == (("a", 2), 1, (1, 2), 2)


@every_blocking
def test_a_subclass_that_does_not_initialise_fails_on_use(name: str) -> None:
    bare = {"__init__": lambda self: None}

    def scene(m: Any, act: Callable[[Any], object]) -> object:
        error = _error(act, type("Bare", (getattr(m, name),), bare)())
        return type(error)

    acts: list[Callable[[Any], object]] = [
        lambda q: q.put(1), lambda q: q.get(), lambda q: q.qsize(), lambda q: q.empty(), lambda q: q.full(),
        lambda q: q.task_done(), lambda q: q.join(), lambda q: q.maxsize, lambda q: q.mutex, lambda q: q.queue,
        lambda q: q.unfinished_tasks,
    ]  # fmt: skip
    for act in acts:
        assert play(lambda m, act=act: scene(m, act)) is AttributeError  # type: ignore[misc]


def test_hooks_that_raise_leave_the_queue_usable() -> None:
    class Failing(OURS.Queue):  # type: ignore[misc, name-defined, unused-ignore]
        fail = False

        def _put(self, item: object) -> None:
            if self.fail:
                raise OSError("no")
            super()._put(item)

    q = Failing(2)
    q.put(1)
    q.fail = True
    with pytest.raises(OSError, match="no"):
        q.put(2)
    assert (q.unfinished_tasks, q.qsize()) == (1, 1)
    q.fail = False
    q.put(2, timeout=1)
    assert (q.get(), q.get()) == (1, 2)


def test_a_mixin_and_a_diamond() -> None:
    def scene(m: Any) -> object:
        class Loud:
            def _put(self, item: object) -> None:
                super()._put(("loud", item))  # type: ignore[misc]

        class Sub(Loud, m.LifoQueue):  # type: ignore[misc, name-defined, unused-ignore]
            pass

        q = Sub()
        q.put(1)
        return q.get(), [c.__name__ for c in Sub.__mro__]

    assert play(scene) == (("loud", 1), ["Sub", "Loud", "LifoQueue", "Queue", "object"])


# ---- shutdown: on every Python; where `queue` has it, beside it ----

SHUTDOWN: dict[str, tuple[Scene, object]] = {
    "at first": (lambda m: m.Queue().is_shutdown, False),
    "returns None": (lambda m: [m.Queue().shutdown(), m.Queue().shutdown(immediate=True)], [None, None]),
    "then": (lambda m: _after(q := m.Queue(), q.shutdown).is_shutdown, True),
    "again": (lambda m: [q.shutdown(a) for q in [m.Queue()] for a in (False, True, False)], [None] * 3),
    "put": (lambda m: _after(q := m.Queue(), q.shutdown).put(1), "ShutDown"),
    "put comes before any other check": (
        lambda m: _after(q := m.Queue(1), q.shutdown).put(1, Hits(), Hits()),
        "ShutDown",
    ),
    "put_nowait": (lambda m: _after(q := full(m), q.shutdown).put_nowait(1), "ShutDown"),
    "get, empty": (lambda m: _after(q := m.Queue(), q.shutdown).get(Hits(), Hits()), "ShutDown"),
    "get_nowait, empty": (lambda m: _after(q := m.Queue(), q.shutdown).get_nowait(), "ShutDown"),
    "get, not empty": (lambda m: _after(q := full(m), q.shutdown).get(), 1),
    "get, immediate": (lambda m: _after(q := full(m), lambda: q.shutdown(True)).get(), "ShutDown"),
    "tasks, immediate": (lambda m: _after(q := full(m), lambda: q.shutdown(True)).unfinished_tasks, 0),
    "tasks, got before": (lambda m: _after(_after(q := full(m), q.get), lambda: q.shutdown(True)).unfinished_tasks, 1),
    "task_done": (lambda m: _after(q := full(m), q.shutdown).task_done(), None),
    "join, immediate": (lambda m: _after(q := full(m), lambda: q.shutdown(True)).join(), None),
    "sizes": (lambda m: [(q.qsize(), q.shutdown(), q.full()) for q in [full(m)]], [(1, None, True)]),
}  # fmt: skip


@pytest.mark.parametrize("scene", SHUTDOWN)
@pytest.mark.parametrize("opened", [False, True], ids=["native", "open"])
def test_shutdown(scene: str, opened: bool) -> None:
    act, expected = SHUTDOWN[scene]

    def open_queue(*args: object) -> Any:
        q = OURS.Queue(*args)
        assert q.mutex
        return q

    def told(m: Any) -> object:
        seen = outcome(act, m)
        return "ShutDown" if seen == (OURS.ShutDown, "") else seen

    assert told(types.SimpleNamespace(Queue=open_queue) if opened else OURS) == expected
    if hasattr(queue, "ShutDown"):
        assert told(queue) == expected


# ---- the objects ----


@every_class
def test_names_and_signatures(name: str) -> None:
    ours, theirs = getattr(OURS, name), getattr(queue, name)
    assert (ours.__name__, ours.__qualname__, ours.__module__) == (name, name, "sluicegate.queue")
    for method in ("put", "get", "put_nowait", "get_nowait", "qsize", "empty"):
        assert str(inspect.signature(getattr(ours(), method))) == str(
            inspect.signature(getattr(theirs(), method))
        )
    if name != "SimpleQueue":
        assert str(inspect.signature(ours)) == "(maxsize=0)"
        assert [base.__name__ for base in ours.__mro__] == [base.__name__ for base in theirs.__mro__]


def test_the_module_exports_what_queue_does() -> None:
    assert set(OURS.__all__) == {*queue.__all__, "ShutDown"}
    assert all(hasattr(OURS, name) for name in OURS.__all__)
    assert OURS.Empty is queue.Empty and OURS.Full is queue.Full
    assert OURS.ShutDown is getattr(queue, "ShutDown", OURS.ShutDown)
    assert issubclass(OURS.ShutDown, Exception) and OURS.ShutDown.__module__ in {"queue", "sluicegate.queue"}


@every_class
def test_the_object_protocol(name: str) -> None:
    kind = getattr(OURS, name)
    q = kind()
    assert weakref.ref(q)() is q
    assert isinstance(kind[int], types.GenericAlias) and kind[int].__origin__ is kind
    assert type(kind[int]()) is kind
    assert repr(q).startswith(f"<sluicegate.queue.{name} object at 0x")
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=f"cannot pickle '{name}' object"):
            duplicate(q)


def test_logging_takes_it_for_a_queue() -> None:
    import logging.handlers

    q = OURS.Queue()
    handler = logging.handlers.QueueHandler(q)
    handler.emit(logging.LogRecord("n", logging.INFO, "p", 1, "said", None, None))
    assert q.get().msg == "said"
    if sys.version_info >= (3, 12):
        from logging import config

        looks_like_a_queue = getattr(config, "_is_queue_like_object", lambda q: True)
        assert looks_like_a_queue(q)
