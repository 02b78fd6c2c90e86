"""Storms over the semaphores: nothing is lost, nobody hangs, and a ten-line model says what is right."""

from __future__ import annotations

import functools
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import PATIENCE, Crew, Worker, alone, every_kind, every_policy, record, wait_until

from sluicegate import BoundedSemaphore, Closed, Semaphore

Make = Callable[..., Any]
STORM = 1.0  # seconds
CAPACITY = 5


class Ledger:
    """What the threads of a storm hold, booked so that it is never more than they really hold."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self.most = most
        self.held = 0
        self.turns = 0

    def took(self, n: int) -> None:
        with self._lock:
            self.held += n
            self.turns += 1
            assert self.held <= self.most, f"{self.held} held of {self.most}"

    def gives(self, n: int) -> None:
        with self._lock:
            self.held -= n


def take_once(sem: Any, ledger: Ledger, rng: random.Random, largest: int) -> None:
    """One acquire of a random sort; what it takes, it holds for a moment and releases."""
    n = rng.randint(1, largest) if rng.random() < 0.4 else 1
    sort = rng.randrange(7)
    if sort == 0:
        got = sem.try_acquire(n)
    elif sort == 1:
        got = sem.acquire(False, n=n)
    elif sort == 2:
        got = sem.acquire(timeout=rng.random() * 0.002, n=n)
    elif sort == 3:
        got = sem.acquire(timeout=PATIENCE, n=n)
        assert got, f"starved: {n} asked, {sem!r}, {sem.waiting} waiting"
    elif sort == 4:
        with sem.permits(n):
            hold(ledger, rng, n)
        return
    elif sort == 5:
        with sem:
            hold(ledger, rng, 1)
        return
    else:
        got = sem.acquire(n=n)
    if got:
        hold(ledger, rng, n)
        for part in split(rng, n):
            sem.release(part)


def hold(ledger: Ledger, rng: random.Random, n: int) -> None:
    ledger.took(n)
    if rng.random() < 0.1:
        time.sleep(rng.random() * 0.0005)
    ledger.gives(n)


def split(rng: random.Random, n: int) -> list[int]:
    first = rng.randint(1, n)
    return [first, n - first] if first < n else [n]


@pytest.mark.stress
@pytest.mark.parallel_threads_limit(2)
@every_kind
def test_no_permit_is_lost_in_a_storm(make: Make, seed: int, factor: int) -> None:
    sem, ledger = make(CAPACITY), Ledger(CAPACITY)
    end = time.monotonic() + STORM * factor

    def storm(rng: random.Random) -> None:
        while time.monotonic() < end:
            take_once(sem, ledger, rng, CAPACITY)
            assert 0 <= sem.value <= CAPACITY

    with Crew() as crew:
        for number in range(8):
            crew.start(storm, random.Random(f"{seed} {number}"))
        crew.results(STORM * factor + PATIENCE)
    assert ledger.turns > 0
    assert (ledger.held, sem.value, sem.waiting) == (0, CAPACITY, 0)
    assert sem.acquire(False, n=CAPACITY) is True


@pytest.mark.stress
@pytest.mark.parallel_threads_limit(2)
@every_policy
def test_no_permit_is_lost_while_the_capacity_changes(fair: bool, seed: int, factor: int) -> None:
    sem, ledger = BoundedSemaphore(CAPACITY, fair=fair), Ledger(CAPACITY)
    end = time.monotonic() + STORM * factor

    def storm(rng: random.Random) -> None:
        while time.monotonic() < end:
            try:
                take_once(sem, ledger, rng, CAPACITY)
            except ValueError as error:
                assert "capacity" in str(error), error

    def resize(rng: random.Random) -> None:
        while time.monotonic() < end:
            sem.resize(rng.randint(0, CAPACITY))
            assert 0 <= sem.value <= CAPACITY
            time.sleep(rng.random() * 0.002)
        # Whoever waits for much is told or served, and whoever waits in a pause goes on.
        sem.resize(CAPACITY)

    with Crew() as crew:
        for number in range(7):
            crew.start(storm, random.Random(f"{seed} {number}"))
        crew.start(resize, random.Random(seed))
        crew.results(STORM * factor + PATIENCE)
    assert (ledger.held, sem.capacity, sem.value, sem.waiting) == (0, CAPACITY, CAPACITY, 0)


@pytest.mark.stress
@pytest.mark.parallel_threads_limit(2)
@every_kind
def test_close_in_a_storm_frees_every_thread_and_keeps_every_permit(
    make: Make, seed: int, factor: int
) -> None:
    for number in range(40 * factor):
        rng = random.Random(f"{seed} {number}")
        sem, ledger = make(CAPACITY), Ledger(CAPACITY)

        def storm(rng: random.Random, sem: Any = sem, ledger: Ledger = ledger) -> None:
            while True:
                take_once(sem, ledger, rng, CAPACITY)

        workers = [Worker(storm, random.Random(rng.random())) for _ in range(6)]
        time.sleep(rng.random() * 0.01)
        sem.close()
        assert [type(worker.error()) for worker in workers] == [Closed] * 6
        assert (ledger.held, sem.value, sem.waiting, sem.closed) == (0, CAPACITY, 0, True)


@pytest.mark.stress
@pytest.mark.parallel_threads_limit(2)
@every_policy
def test_permits_passed_from_hand_to_hand_add_up(fair: bool, seed: int, factor: int) -> None:
    """Producers release what they never acquired: what went in is what came out, is free, or was drained."""
    sem = Semaphore(0, fair=fair)
    end = time.monotonic() + STORM * factor / 2

    def produce(rng: random.Random) -> int:
        sent = 0
        while time.monotonic() < end:
            n = rng.randint(1, 3)
            sem.release(n)
            sent += n
            time.sleep(rng.choice([0, 0, 0.0001]))
        return sent

    def consume(rng: random.Random) -> int:
        taken = 0
        while not done.is_set():
            n = rng.randint(1, 3)
            if sem.acquire(timeout=rng.random() * 0.003, n=n):
                taken += n
            if rng.random() < 0.01:
                taken += sem.drain()
        return taken

    done = threading.Event()
    consumers = [Worker(consume, random.Random(f"{seed} c{number}")) for number in range(4)]
    producers = [Worker(produce, random.Random(f"{seed} p{number}")) for number in range(3)]
    sent = sum(producer.result(PATIENCE * factor) for producer in producers)
    done.set()
    taken = sum(consumer.result(PATIENCE * factor) for consumer in consumers)
    assert sent == taken + sem.value
    assert taken > 0
    assert sem.waiting == 0


@pytest.mark.stress
@pytest.mark.parallel_threads_limit(2)
@every_policy
def test_one_permit_reaches_everyone_in_turn(fair: bool) -> None:
    """Every release is answered by a wake-up: with one lost, this stops for ever."""
    sem, threads, turns = Semaphore(1, fair=fair), 6, 300

    def take_turns() -> None:
        for _ in range(turns):
            assert sem.acquire(timeout=PATIENCE)
            # Lets the others run, and queue up, while the permit is held.
            time.sleep(0)
            sem.release()

    with Crew() as crew:
        for _ in range(threads):
            crew.start(take_turns)
    assert (sem.value, sem.waiting) == (1, 0)


class Interrupt(Exception):
    """Raised by the handler of the storm below."""


@pytest.mark.stress
@every_policy
@alone(patience=300)
def test_no_permit_is_lost_to_interrupts(fair: bool, seed: int, factor: int) -> None:
    """The main thread's waits are broken off at random moments while others storm."""
    sem, ledger, rng = BoundedSemaphore(CAPACITY, fair=fair), Ledger(CAPACITY), random.Random(seed)
    end = time.monotonic() + STORM * factor
    armed = False
    broken = 0

    def on_alarm(*_: object) -> None:
        nonlocal armed, broken
        if time.monotonic() < end:
            signal.setitimer(signal.ITIMER_REAL, 0.0002 + rng.random() * 0.002)
        if armed:
            armed = False
            broken += 1
            raise Interrupt

    def storm(rng: random.Random) -> None:
        while time.monotonic() < end:
            take_once(sem, ledger, rng, CAPACITY)

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    workers = [Worker(storm, random.Random(f"{seed} {number}")) for number in range(4)]
    answers: list[bool] = []
    while time.monotonic() < end:
        n, timeout = rng.randint(1, CAPACITY), rng.choice([None, 0.001, 0.01])
        call = functools.partial(sem.acquire, True, timeout, n=n)
        try:
            armed = True
            record(answers, call)
            armed = False
        except Interrupt:
            pass
        if answers and answers.pop():
            ledger.took(n)
            ledger.gives(n)
            sem.release(n)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for worker in workers:
        worker.result()
    assert (ledger.held, sem.value, sem.waiting) == (0, CAPACITY, 0), (ledger.held, sem, sem.waiting)
    assert broken > 0, broken
    print(f"{broken} waits broken off, {ledger.turns} turns taken")


# ---- a model ----


class Alone(RuleBasedStateMachine):
    """One thread and every operation that does not wait, against a model that counts."""

    @initialize(value=st.integers(0, 6), is_bounded=st.booleans(), fair=st.booleans())
    def begin(self, value: int, is_bounded: bool, fair: bool) -> None:
        self.sem: Any = (BoundedSemaphore if is_bounded else Semaphore)(value, fair=fair)
        # Free permits (below zero: still to be returned after a shrink), the bound, closed.
        self.free, self.bound, self.closed = value, value if is_bounded else None, False

    @rule(n=st.integers(1, 8), how=st.sampled_from(["try_acquire", "not blocking", "no time", "permits"]))
    def acquire(self, n: int, how: str) -> None:
        if how == "permits" and n > self.free and not self.closed and not (self.bound and n > self.bound):
            return  # it would wait
        call: Callable[[], object] = {
            "try_acquire": lambda: self.sem.try_acquire(n),
            "not blocking": lambda: self.sem.acquire(False, n=n),
            "no time": lambda: self.sem.acquire(timeout=0, n=n),
            "permits": lambda: self.sem.permits(n).__enter__() is None,
        }[how]
        if self.closed:
            with pytest.raises(Closed):
                call()
        elif self.bound and n > self.bound:
            with pytest.raises(ValueError, match="capacity"):
                call()
        else:
            assert call() is (n <= self.free)
            self.free -= n if n <= self.free else 0

    @rule(n=st.integers(1, 8))
    def release(self, n: int) -> None:
        if self.bound is not None and self.free + n > self.bound:
            with pytest.raises(ValueError, match="too many times"):
                self.sem.release(n)
        else:
            self.sem.release(n)
            self.free += n

    @rule(n=st.integers(-3, 0))
    def ask_nonsense(self, n: int) -> None:
        for call in (self.sem.acquire, self.sem.release, self.sem.try_acquire, self.sem.permits):
            with pytest.raises(ValueError, match="one or more"):
                call(n=n)

    @rule()
    def drain(self) -> None:
        assert self.sem.drain() == max(self.free, 0)
        self.free = min(self.free, 0)

    @precondition(lambda self: self.bound is not None)
    @rule(capacity=st.integers(0, 8))
    def resize(self, capacity: int) -> None:
        self.sem.resize(capacity)
        self.free, self.bound = self.free + capacity - (self.bound or 0), capacity

    @rule(data=st.data())
    def assign(self, data: st.DataObject) -> None:
        self.free = data.draw(st.integers(0, 8 if self.bound is None else self.bound))
        self.sem._value = self.free

    @rule()
    def close(self) -> None:
        self.sem.close()
        self.closed = True

    @rule(value=st.integers(0, 6))
    def start_over(self, value: int) -> None:
        self.sem.__init__(value)
        self.free, self.bound, self.closed = value, None if self.bound is None else value, False

    @invariant()
    def they_agree(self) -> None:
        if hasattr(self, "sem"):
            seen = (self.sem.value, self.sem._value, self.sem.locked(), self.sem.closed, self.sem.waiting)
            free = max(self.free, 0)
            assert seen == (free, free, free == 0, self.closed, 0)
            assert getattr(self.sem, "capacity", None) == self.bound


class InLine(RuleBasedStateMachine):
    """Threads that wait for a fair semaphore, against a model that serves the first in line as far as it can."""

    @initialize(capacity=st.integers(1, 4))
    def begin(self, capacity: int) -> None:
        self.sem: Any = BoundedSemaphore(capacity, fair=True)
        self.capacity, self.free, self.held = capacity, capacity, 0
        self.line: deque[tuple[Worker, int]] = deque()

    def serve(self) -> None:
        while self.line and self.line[0][1] <= self.free:
            worker, n = self.line.popleft()
            assert worker.result() is True
            self.free, self.held = self.free - n, self.held + n
        assert self.sem.waiting == len(self.line)
        assert all(worker.running for worker, _ in self.line)

    @precondition(lambda self: len(self.line) < 5)
    @rule(n=st.integers(1, 4), timeout=st.sampled_from([None, PATIENCE]))
    def acquire(self, n: int, timeout: float | None) -> None:
        if 0 < self.capacity < n:
            return
        worker = Worker(self.sem.acquire, True, timeout, n=n)
        self.line.append((worker, n))
        if len(self.line) > 1 or n > self.free:
            wait_until(lambda: self.sem.waiting == len(self.line))
        self.serve()

    @rule(n=st.integers(1, 4))
    def try_acquire(self, n: int) -> None:
        if 0 < self.capacity < n:
            return
        got = not self.line and n <= self.free
        assert self.sem.try_acquire(n) is got
        if got:
            self.free, self.held = self.free - n, self.held + n

    @precondition(lambda self: self.held > 0)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(1, self.held))
        self.sem.release(n)
        self.free, self.held = self.free + n, self.held - n
        self.serve()

    @rule(capacity=st.integers(0, 4))
    def resize(self, capacity: int) -> None:
        hopeless = [worker for worker, n in self.line if 0 < capacity < n]
        self.sem.resize(capacity)
        for worker in hopeless:
            assert isinstance(worker.error(), ValueError)
        self.line = deque((worker, n) for worker, n in self.line if worker not in hopeless)
        self.free, self.capacity = self.free + capacity - self.capacity, capacity
        self.serve()

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "sem"):
            assert self.sem.value == max(self.free, 0)
            assert self.free + self.held == self.capacity

    def teardown(self) -> None:
        if hasattr(self, "sem"):
            self.sem.close()
            for worker, _ in self.line:
                assert isinstance(worker.error(), Closed)
            assert self.sem.waiting == 0


TestAlone = Alone.TestCase
TestAlone.settings = settings(max_examples=150, stateful_step_count=40)
TestInLine = InLine.TestCase
TestInLine.settings = settings(max_examples=60, stateful_step_count=25)
for _case in (TestAlone, TestInLine):
    _case.pytestmark = [pytest.mark.thread_unsafe(reason="hypothesis' state machines are one thread's")]  # type: ignore[attr-defined]
del _case
