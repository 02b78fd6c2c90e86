"""Storms on the queues: nothing lost, nothing doubled, each producer's order kept, whatever happens in between."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from itertools import chain
from typing import Any

import pytest
from queues import CLASSES, every_class, is_open
from support import Crew, has_gil, switch_interval, wait_until

from sluicegate.queue import Empty, Full, Queue, ShutDown, SimpleQueue

pytestmark = [pytest.mark.stress, pytest.mark.thread_unsafe(reason="it sets the switch interval")]

Token = tuple[int, int]
MIXED = {**CLASSES, "SimpleQueue": SimpleQueue}


def put_all(q: Any, rng: random.Random, producer: int, count: int, bounded: bool) -> None:
    """Puts `count` numbered tokens, in every way there is."""
    for number in range(count):
        token = (producer, number)
        while True:
            way = rng.randrange(4)
            try:
                if way == 0:
                    q.put(token)
                elif way == 1:
                    q.put(token, timeout=rng.choice([0.0, 0.0005, 5]))
                elif way == 2:
                    q.put_nowait(token)
                else:
                    q.put(token, rng.random() < 0.5, rng.choice([None, 0.001]))
                break
            except Full:
                assert bounded and (way or q.maxsize), "a put without a timeout never raises Full"
                assert way != 0
                time.sleep(0)


def get_all(q: Any, rng: random.Random, into: list[Token]) -> None:
    """Takes tokens, in every way there is, until there is one with a negative number."""
    while True:
        try:
            way = rng.randrange(4)
            if way == 0:
                token = q.get()
            elif way == 1:
                token = q.get(timeout=rng.choice([0.0, 0.0005, 5]))
            elif way == 2:
                token = q.get_nowait()
            else:
                token = q.get(rng.random() < 0.5, rng.choice([None, 0.001]))
        except Empty:
            assert way != 0, "a get without a timeout never raises Empty"
            time.sleep(0)
            continue
        if hasattr(q, "task_done"):
            q.task_done()
        if token[0] < 0:
            return
        into.append(token)


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("switch", [False, True], ids=["native", "opened in the middle"])
@pytest.mark.parametrize("maxsize", [1, 7, 0])
def test_every_item_is_got_once_and_each_producers_in_order(
    name: str, switch: bool, maxsize: int, seed: int, factor: int
) -> None:
    if name == "SimpleQueue" and (switch or maxsize):
        pytest.skip("it has no insides and no bound")
    rng = random.Random(f"{seed} {name} {switch} {maxsize}")
    producers, consumers, count = 4, 4, 250 * factor
    q: Any = SimpleQueue() if name == "SimpleQueue" else MIXED[name](maxsize)
    got: list[list[Token]] = [[] for _ in range(consumers)]
    with switch_interval(rng.choice([1e-5, 1e-4, 5e-3])), Crew() as crew:
        takers = [crew.start(get_all, q, random.Random(rng.random()), into) for into in got]
        makers = [
            crew.start(put_all, q, random.Random(rng.random()), p, count, maxsize > 0)
            for p in range(producers)
        ]
        if switch:
            time.sleep(rng.random() * 0.02)
            assert q.mutex and is_open(q)
        for maker in makers:
            maker.result(120)
        # The last to come out of a FIFO; a LIFO or a heap is emptied first.
        wait_until(q.empty, 120)
        for _ in takers:
            q.put((-1, -1))
        for taker in takers:
            taker.result(120)
    assert Counter(token for mine in got for token in mine) == Counter(
        (p, number) for p in range(producers) for number in range(count)
    ), f"seed {seed}"
    assert q.empty()
    if name != "SimpleQueue":
        assert q.unfinished_tasks == 0
    if name in {"Queue", "SimpleQueue"}:
        for mine in got:
            for p in range(producers):
                numbers = [number for producer, number in mine if producer == p]
                assert numbers == sorted(numbers), f"producer {p} overtook itself; seed {seed}"


@every_class
def test_a_shutdown_in_the_storm_loses_nothing(kind: Any, seed: int, factor: int) -> None:
    for turn in range(25 * factor):
        rng = random.Random(f"{seed} {kind.__name__} {turn}")
        q = kind(rng.choice([0, 1, 3]))
        immediate, opens = rng.random() < 0.3, rng.random() < 0.3
        accepted: list[list[Token]] = [[] for _ in range(3)]
        got: list[list[Token]] = [[] for _ in range(3)]

        def produce(p: int, q: Any = q, accepted: list[list[Token]] = accepted) -> None:
            number = 0
            while True:
                try:
                    q.put((p, number), timeout=5)
                except ShutDown:
                    return
                accepted[p].append((p, number))
                number += 1

        def consume(c: int, q: Any = q, got: list[list[Token]] = got) -> None:
            while True:
                try:
                    got[c].append(q.get())
                except ShutDown:
                    return
                q.task_done()

        with switch_interval(rng.choice([1e-5, 1e-3])), Crew() as crew:
            for number in range(3):
                crew.start(produce, number)
                crew.start(consume, number)
            joiner = crew.start(q.join)
            time.sleep(rng.random() * 0.005)
            if opens:
                assert q.mutex
            q.shutdown(immediate)
            joiner.result()
        assert q.qsize() == 0 and q.unfinished_tasks == 0, f"seed {seed}, turn {turn}"
        taken, there = Counter(chain(*got)), Counter(chain(*accepted))
        # What an immediate shutdown drained was accepted and not got.
        assert taken <= there if immediate else taken == there, f"seed {seed}, turn {turn}"


@every_class
def test_join_returns_when_the_last_task_is_done_and_not_before(kind: Any, seed: int, factor: int) -> None:
    for turn in range(20 * factor):
        rng = random.Random(f"{seed} join {turn}")
        q = kind(rng.choice([0, 2]))
        done: list[int] = []

        def work(q: Any = q, done: list[int] = done, rng: random.Random = rng) -> None:
            while (item := q.get()) >= 0:
                time.sleep(rng.random() * 0.0002)
                done.append(item)
                q.task_done()

        with Crew() as crew:
            for _ in range(3):
                crew.start(work)
            for item in range(20):
                q.put(item)
            if turn % 3 == 0:
                assert q.mutex
            q.join()
            assert len(done) == 20, f"seed {seed}, turn {turn}"
            for _ in range(3):
                while not q.empty():
                    time.sleep(0)
                q.put(-1)


def test_an_old_waiter_is_served_though_others_never_stop_to_take(factor: int) -> None:
    """Each of the greedy takes what it put at once; a waiter gets its turn all the same."""
    q: Any = Queue()
    done = threading.Event()

    def greedy() -> None:
        while not done.is_set():
            q.put(0)
            q.get()

    with Crew() as crew:
        try:
            for _ in range(2 if has_gil() else 1):
                crew.start(greedy)
            for _ in range(3 * factor):
                begin = time.monotonic()
                q.get(timeout=10)
                q.put(0)
                assert time.monotonic() - begin < 5
        finally:
            done.set()
            # A greedy one that found its item gone waits.
            for _ in range(4):
                q.put(0)
