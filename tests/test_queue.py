"""What `sluicegate.queue` promises beyond the contract: fast and open mode, and the way from one to the other."""

from __future__ import annotations

import collections
import gc
import queue
import random
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Any

import pytest
from queues import CLASSES, every_class, every_make, getting, is_open, joining, putting
from support import PATIENCE, Crew, at_once, switch_interval, wait_until

from sluicegate.queue import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue

# ---- fast until a program asks for the insides ----


@every_class
def test_a_program_that_uses_the_documented_methods_never_opens_the_queue(kind: Any) -> None:
    class Own(kind):  # type: ignore[misc]
        def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
            super().put(item, block, timeout)

    for q in (kind(2), Own(2)):
        q.put(1)
        q.put_nowait(2)
        q.maxsize = 3
        q.put(3, timeout=1)
        assert (q.qsize(), q.empty(), q.full(), q.maxsize, q.unfinished_tasks) == (3, False, True, 3, 3)
        q.get(), q.get_nowait(), q.get(timeout=1)
        for _ in range(3):
            q.task_done()
        q.join()
        with pytest.raises(Empty):
            q.get(timeout=0.001)
        q.shutdown()
        assert q.is_shutdown and weakref.ref(q)() is q
        assert not is_open(q)


INSIDES = ["mutex", "queue", "not_empty", "not_full", "all_tasks_done"]


@every_class
@pytest.mark.parametrize("inside", INSIDES)
def test_the_items_move_over_in_order_with_all_that_was_counted(kind: Any, inside: str) -> None:
    q, control = kind(5), getattr(queue, kind.__name__)(5)
    for item in (3, 1, 2, 5):
        q.put(item)
        control.put(item)
    assert q.get() == control.get()
    assert getattr(q, inside) is getattr(q, inside)
    assert is_open(q)
    assert (list(q.queue), q.unfinished_tasks, q.maxsize, q.is_shutdown) == (list(control.queue), 4, 5, False)
    q.put(4)
    control.put(4)
    assert [q.get() for _ in range(4)] == [control.get() for _ in range(4)]


@every_class
def test_a_shut_down_queue_stays_shut_when_it_is_opened(kind: Any) -> None:
    q = kind()
    q.put(1)
    q.shutdown()
    assert list(q.queue) == [1] and q.is_shutdown
    assert q.get() == 1
    with pytest.raises(ShutDown):
        q.get()
    with pytest.raises(ShutDown):
        q.put(1)


@every_class
def test_opening_at_once_by_many_threads_gives_one_mutex(kind: Any) -> None:
    for _ in range(50):
        q = kind()
        for item in range(5):
            q.put(item)
        mutexes = at_once(*[lambda q=q: q.mutex] * 3, lambda q=q: q.put(5), lambda q=q: q.put(6))[:3]  # type: ignore[misc]
        assert all(mutex is q.mutex for mutex in mutexes)
        assert sorted(q.queue) == list(range(7))


@every_class
@pytest.mark.parametrize("inside", INSIDES)
def test_who_waits_natively_at_the_switch_is_served_after_it(kind: Any, inside: str) -> None:
    empty, full, busy = kind(), kind(1), kind()
    full.put(0)
    busy.put(0)
    with Crew() as crew:
        getters = [crew.start(empty.get, timeout=timeout) for timeout in (None, PATIENCE, None)]
        putters = [
            crew.start(full.put, item, timeout=timeout) for item, timeout in ((1, None), (2, PATIENCE))
        ]
        joiners = [crew.start(busy.join) for _ in range(2)]
        wait_until(lambda: (getting(empty), putting(full), joining(busy)) == (3, 2, 2))
        for q in (empty, full, busy):
            getattr(q, inside)
            assert q._waiting() == (0, 0, 0)
        wait_until(lambda: (getting(empty), putting(full), joining(busy)) == (3, 2, 2))
        for item in range(3):
            empty.put(item)
        assert sorted(getter.result() for getter in getters) == [0, 1, 2]
        seen = [full.get(timeout=PATIENCE) for _ in range(3)]
        assert sorted(seen) == [0, 1, 2]
        assert [putter.result() for putter in putters] == [None, None]
        busy.task_done()
        assert [joiner.result() for joiner in joiners] == [None, None]


@every_class
def test_the_time_already_waited_counts_after_the_switch(kind: Any) -> None:
    empty, full = kind(), kind(1)
    full.put(0)

    def timed(call: Callable[..., object], *args: object) -> float:
        begin = time.monotonic()
        with pytest.raises((Empty, Full)):
            call(*args, timeout=1.0)
        return time.monotonic() - begin

    with Crew() as crew:
        waits = [crew.start(timed, empty.get), crew.start(timed, full.put, 1)]
        wait_until(lambda: getting(empty) and putting(full))
        time.sleep(0.6)
        assert empty.mutex and full.mutex
        for wait in waits:
            assert 0.99 <= wait.result() < 1.5


@every_class
def test_a_shutdown_after_the_switch_reaches_who_waited_before_it(kind: Any) -> None:
    q = kind()
    with Crew() as crew:
        getters = [crew.start(q.get) for _ in range(3)]
        wait_until(lambda: getting(q) == 3)
        assert q.mutex
        q.shutdown()
        assert all(isinstance(getter.error(), ShutDown) for getter in getters)


@every_class
def test_the_mutex_excludes_every_other_thread(kind: Any) -> None:
    q, done = kind(8), threading.Event()

    def busy() -> None:
        while not done.is_set():
            for _ in range(3):
                q.put(1)
                q.qsize()
            for _ in range(3):
                q.get()
                q.task_done()

    with Crew() as crew:
        for _ in range(4):
            crew.start(busy)
        time.sleep(0.02)
        try:
            for _ in range(30):
                with q.mutex:
                    seen = list(q.queue), q.unfinished_tasks
                    time.sleep(0.001)
                    assert (list(q.queue), q.unfinished_tasks) == seen
        finally:
            done.set()
            # Who waits for an item or for room is let go.
            wait_until(lambda: _let_go(q, crew))


def _let_go(q: Any, crew: Crew) -> bool:
    with suppress(Empty, Full):
        q.put_nowait(1) if q.empty() else q.get_nowait()
    return not any(worker.running for worker in crew.workers)


@pytest.mark.parametrize("start_open", [False, True], ids=["native", "open"])
def test_clearing_under_the_mutex(start_open: bool) -> None:
    q: Any = Queue(2)
    if start_open:
        assert q.mutex
    q.put(1)
    q.put(2)
    with q.mutex:
        q.queue.clear()
    assert (q.qsize(), q.unfinished_tasks) == (0, 2)
    q.put(3)
    assert q.get(timeout=1) == 3


def test_clearing_lets_in_who_waits_natively() -> None:
    q: Any = Queue(1)
    q.put(0)
    with Crew() as crew:
        putter = crew.start(q.put, 1)
        wait_until(lambda: putting(q) == 1)
        with q.mutex:
            q.queue.clear()
            q.not_full.notify()
        putter.result()
    assert list(q.queue) == [1]


def test_waiting_on_a_condition_beside_native_puts() -> None:
    q: Any = Queue()

    def watch() -> object:
        with q.not_empty:
            while not q.queue:
                q.not_empty.wait()
            return q.queue[0]

    with Crew() as crew:
        watcher = crew.start(watch)
        time.sleep(0.01)
        q.put("x")
        assert watcher.result() == "x"
    assert q.get() == "x"


def test_the_parts_can_be_assigned() -> None:
    q: Any = Queue()
    q.put(1)
    q.queue = collections.deque([7, 8])
    assert is_open(q) and (q.get(), q.get()) == (7, 8)
    lock = threading.RLock()
    q.mutex = lock
    assert q.mutex is lock
    for name in ("not_empty", "not_full", "all_tasks_done"):
        condition = threading.Condition(lock)
        setattr(q, name, condition)
        assert getattr(q, name) is condition
    q.put(1)
    with q.mutex:
        assert q.get() == 1


def test_assigning_unfinished_tasks_lets_joiners_go() -> None:
    q: Any = Queue()
    q.put(1)
    with Crew() as crew:
        joiner = crew.start(q.join)
        wait_until(lambda: joining(q) == 1)
        q.unfinished_tasks = 0
        joiner.result()


@every_class
def test_more_room_is_known_to_who_waits_for_it(kind: Any) -> None:
    q = kind(1)
    q.put(1)
    with Crew() as crew:
        putter = crew.start(q.put, 2)
        wait_until(lambda: putting(q) == 1)
        q.maxsize = 2
        putter.result()


# ---- items ----


class Item:
    """Something to hold on to, and to compare."""

    def __init__(self, on_death: Callable[[], object] = lambda: None) -> None:
        self.on_death = on_death

    def __lt__(self, other: object) -> bool:
        return False

    def __del__(self) -> None:
        self.on_death()


@pytest.mark.parametrize("kind", [*CLASSES.values(), SimpleQueue])
def test_an_item_is_freed_as_soon_as_it_was_got(kind: Any) -> None:
    q = kind()
    for _ in range(3):
        q.put(Item())
    refs = []
    while not q.empty():
        item = q.get()
        refs.append(weakref.ref(item))
        del item
        assert refs[-1]() is None


@every_class
def test_a_refused_item_is_not_kept(kind: Any) -> None:
    q = kind(1)
    q.put(Item())
    item = Item()
    ref = weakref.ref(item)
    with pytest.raises(Full):
        q.put(item, timeout=0.001)
    del item
    assert ref() is None


@pytest.mark.parametrize("kind", [*CLASSES.values(), SimpleQueue])
def test_a_cycle_through_a_queue_is_collected(kind: Any) -> None:
    q = kind()
    item = Item()
    item.q = q  # type: ignore[attr-defined]
    q.put(item)
    ref = weakref.ref(item)
    del q, item
    gc.collect()
    assert ref() is None


@every_class
def test_a_cycle_through_an_open_queue_is_collected(kind: Any) -> None:
    q = kind()
    q.loop = q
    item = Item()
    q.put(item)
    assert q.mutex
    ref = weakref.ref(item)
    del q, item
    gc.collect()
    assert ref() is None


@every_make
def test_a_dying_item_may_use_the_queue_it_was_in(make: Any) -> None:
    q = make()
    seen = []
    for _ in range(3):
        q.put(Item(lambda: seen.append(q.qsize()) if not is_open(q) else seen.append(0)))
    q.shutdown(immediate=True)
    assert len(seen) == 3 and q.qsize() == 0


def test_a_dying_queue_drops_its_items_without_a_word() -> None:
    dead: list[int] = []
    for kind in (*CLASSES.values(), SimpleQueue):
        q = kind()
        q.put(Item(lambda: dead.append(1)))
        del q
    gc.collect()
    assert len(dead) == 4


# ---- priorities ----


class Fussy:
    """Raises when it is compared with another that is fussy too, on demand."""

    raising = False

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __lt__(self, other: Fussy) -> bool:
        if Fussy.raising:
            raise OSError("not now")
        return self.rank < other.rank


@pytest.mark.thread_unsafe(reason="a switch for all")
def test_a_comparison_that_raises_leaves_the_queue_as_it_was() -> None:
    q: Any = PriorityQueue()
    for rank in (5, 3, 4, 1, 2):
        q.put(Fussy(rank))
    Fussy.raising = True
    try:
        for call in (lambda: q.put(Fussy(0)), q.get, lambda: q.put(Fussy(0), timeout=1), q.get_nowait):
            with pytest.raises(OSError, match="not now"):
                call()
            assert (q.qsize(), q.unfinished_tasks) == (5, 5)
    finally:
        Fussy.raising = False
    assert [q.get().rank for _ in range(5)] == [1, 2, 3, 4, 5]


@pytest.mark.thread_unsafe(reason="it sets the switch interval")
def test_a_getter_whose_comparison_raises_passes_its_turn_on() -> None:
    q: Any = PriorityQueue()
    unlucky: set[int] = set()

    class Picky:
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __lt__(self, other: Picky) -> bool:
            if threading.get_ident() in unlucky:
                raise OSError("not for this thread")
            return self.rank < other.rank

    def fail() -> None:
        unlucky.add(threading.get_ident())
        q.get()

    with Crew() as crew:
        failing = []
        for there in range(3):
            failing.append(crew.start(fail))
            wait_until(lambda there=there: getting(q) == there + 1)  # type: ignore[misc]
        lucky = crew.start(q.get)
        wait_until(lambda: getting(q) == 4)
        # As many items as there are unlucky threads: the lucky one is only woken by one of them. The first `get` of
        # three items compares; of one it would not, so no getter may run before all three are there.
        with switch_interval(PATIENCE):
            for rank in range(3):
                q.put(Picky(rank))
        assert lucky.result().rank == 0
        for number, worker in enumerate(failing):
            wait_until(lambda w=worker: not w.running or getting(q) > 0)  # type: ignore[misc]
            q.put(Picky(10 + number))
        assert all(worker.error() is None or isinstance(worker.error(), OSError) for worker in failing)
        assert any(worker.error() for worker in failing)


def test_a_comparison_may_use_the_queue() -> None:
    q: Any = PriorityQueue()

    class Guest:
        visits = 0

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __lt__(self, other: Guest) -> bool:
            if Guest.visits:
                Guest.visits -= 1
                q.put(Guest(100 + Guest.visits))
                assert q.qsize() > 0
            return self.rank < other.rank

    for rank in (5, 3, 4, 1, 2):
        q.put(Guest(rank))
    Guest.visits = 2
    q.put(Guest(0))
    Guest.visits = 2
    got = [q.get().rank]
    while not q.empty():
        got.append(q.get().rank)
    assert got == [0, 1, 2, 3, 4, 5, 100, 100, 101, 101]


def test_comparisons_that_let_other_threads_run_keep_the_order() -> None:
    class Slow:
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __lt__(self, other: Slow) -> bool:
            time.sleep(0)
            return self.rank < other.rank

    q: Any = PriorityQueue()
    ranks = list(range(200))
    random.Random(1).shuffle(ranks)
    with Crew() as crew:
        for part in range(4):
            crew.start(lambda mine=ranks[part::4]: [q.put(Slow(rank)) for rank in mine])
    assert q.qsize() == 200
    with Crew() as crew:
        takers = [crew.start(lambda: [q.get().rank for _ in range(50)]) for _ in range(4)]
    taken = [taker.result() for taker in takers]
    assert sorted(chain(*taken)) == list(range(200))
    assert all(mine == sorted(mine) for mine in taken)


# ---- bugs of peers ----


@every_make
def test_a_blocking_put_never_raises_full_and_four_by_four_never_stall(make: Any) -> None:
    for maxsize in (1, 3, 64):
        q, each = make(maxsize), 400

        def produce(q: Any = q, each: int = each) -> None:
            for item in range(each):
                q.put(item)
                assert q.qsize() <= q.maxsize

        def consume(q: Any = q, each: int = each) -> None:
            for _ in range(each):
                q.get()
                q.task_done()

        with Crew() as crew:
            for _ in range(4):
                crew.start(produce)
                crew.start(consume)
        assert (q.qsize(), q.unfinished_tasks) == (0, 0)


@every_make
def test_a_shutdown_wakes_everybody(make: Any) -> None:
    for immediate in (False, True):
        empty, full = make(), make(1)
        full.put(0)
        with Crew() as crew:
            waiters = [crew.start(empty.get) for _ in range(4)] + [crew.start(full.put, 1) for _ in range(4)]
            wait_until(lambda e=empty, f=full: (getting(e), putting(f)) == (4, 4))  # type: ignore[misc]
            empty.shutdown(immediate)
            full.shutdown(immediate)
            assert all(isinstance(waiter.error(), ShutDown) for waiter in waiters)
        assert full.qsize() == (0 if immediate else 1)


def test_a_timed_out_wait_leaves_nothing_behind() -> None:
    empty: Any = Queue()
    full: Any = Queue(1)
    full.put(0)
    for _ in range(20):
        with pytest.raises(Empty):
            empty.get(timeout=0.001)
        with pytest.raises(Full):
            full.put(1, timeout=0.001)
    assert empty._waiting() == full._waiting() == (0, 0, 0)
    empty.put(1)
    assert (empty.get(), full.get(), full.qsize()) == (1, 0, 0)


def test_last_in_first_out_with_a_putter_waiting() -> None:
    q: Any = LifoQueue(2)
    q.put(1)
    q.put(2)
    with Crew() as crew:
        putter = crew.start(q.put, 3)
        wait_until(lambda: putting(q) == 1)
        assert q.get() == 2
        putter.result()
    assert (q.get(), q.get()) == (3, 1)


def test_a_wait_that_raises_in_an_open_queue_passes_its_notification_on() -> None:
    class Rude(threading.Condition):
        """Raises in the first thread that it wakes."""

        spared = False

        def wait(self, timeout: float | None = None) -> bool:
            woken = super().wait(timeout)
            if not Rude.spared:
                Rude.spared = True
                raise OSError("in the middle of it")
            return woken

    q: Any = Queue()
    q.not_empty = Rude(q.mutex)
    with Crew() as crew:
        first = crew.start(q.get)
        wait_until(lambda: getting(q) == 1)
        second = crew.start(q.get)
        wait_until(lambda: getting(q) == 2)
        q.put("x")
        assert isinstance(first.error(), OSError)
        assert second.result() == "x"
