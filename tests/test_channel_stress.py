"""Storms over channels: nothing is lost, nothing doubled, order is kept, and histories have a sequential story."""

from __future__ import annotations

import gc
import itertools
import random
import signal
import sys
import threading
import time
from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import pytest
from support import PATIENCE, Crew, alone, at_once, record, wait_until

from sluicegate import Channel, Closed, Empty, Full, select

STORM = 0.7  # seconds
Item = tuple[int, int]

every_capacity = pytest.mark.parametrize("capacity", [0, 1, 3, 100, None])


# ---- storms ----


def send_somehow(  # noqa: PLR0911
    channels: list[Channel[Any]], rng: random.Random, items: list[Item]
) -> tuple[int, list[Item]]:
    """Sends the items in one random way, all to one channel: which one, and what was not sent."""
    where = rng.randrange(len(channels))
    channel = channels[where]
    sort = rng.randrange(6)
    timeout = rng.choice([0, rng.random() * 0.001, PATIENCE])
    try:
        if sort == 0:
            channel.send_many(items, timeout)
        elif sort == 1:
            channel.send_many(iter(items), timeout)
        elif sort == 2:
            channel.try_send(items[0])
            return where, items[1:]
        elif sort == 3:
            fired, _ = select(*((channel, items[0]) for channel in channels), timeout=timeout)
            return next(i for i, channel in enumerate(channels) if channel is fired), items[1:]
        else:
            channel.send(items[0], timeout)
            return where, items[1:]
    except (Full, Closed) as refused:
        if hasattr(refused, "items"):
            return where, refused.items
        # The channel that a select found closed has its item back, too.
        assert refused.item == items[0]  # type: ignore[attr-defined]
        return where, items
    except TimeoutError:
        return where, items
    return where, []


def recv_somehow(channels: list[Channel[Any]], rng: random.Random) -> tuple[int, list[Item]]:
    where = rng.randrange(len(channels))
    channel = channels[where]
    sort = rng.randrange(6)
    timeout = rng.choice([0, rng.random() * 0.001, 0.05])
    try:
        if sort == 0:
            return where, channel.recv_many(rng.randint(1, 5), timeout)
        if sort == 1:
            return where, [channel.try_recv()]
        if sort == 2:
            return where, channel.drain()
        if sort == 3:
            fired, item = select(*channels, timeout=timeout)
            return next(i for i, channel in enumerate(channels) if channel is fired), [item]
        return where, [channel.recv(timeout)]
    except (Empty, Closed, TimeoutError):
        return where, []


def in_order(items: list[Item]) -> bool:
    last: dict[int, int] = {}
    for sender, number in items:
        if last.get(sender, -1) >= number:
            return False
        last[sender] = number
    return True


@pytest.mark.stress
@pytest.mark.parallel_threads_limit(2)
@pytest.mark.parametrize("closes", [False, True], ids=["open", "closed on the way"])
@every_capacity
def test_nothing_is_lost_or_doubled_in_a_storm(
    capacity: int | None, closes: bool, seed: int, factor: int
) -> None:
    channels: list[Channel[Any]] = [Channel(capacity), Channel(capacity), Channel(1)]
    end = time.monotonic() + STORM * factor
    stop = threading.Event()

    def send(sender: int) -> tuple[list[Item], list[Item]]:
        """What was sent, and what was left."""
        rng, number = random.Random(f"{seed} s{sender}"), 0
        sent: list[Item] = []
        todo: list[Item] = []
        while time.monotonic() < end:
            while len(todo) < 1 + number % 5:
                todo.append((sender, number))
                number += 1
            _, left = send_somehow(channels, rng, todo)
            assert todo[len(todo) - len(left) :] == left, (todo, left)
            sent += todo[: len(todo) - len(left)]
            todo = left
        return sent, todo

    def receive(receiver: int) -> list[list[Item]]:
        rng = random.Random(f"{seed} r{receiver}")
        got: list[list[Item]] = [[] for _ in channels]
        while not stop.is_set():
            where, items = recv_somehow(channels, rng)
            got[where] += items
        return got

    with Crew() as crew:
        senders = [crew.start(send, number) for number in range(4)]
        receivers = [crew.start(receive, number) for number in range(3)]
        if closes:
            time.sleep(STORM * factor / 2)
            channels[0].close()
        sent = [sender.result(STORM * factor + 2 * PATIENCE)[0] for sender in senders]
        stop.set()
        got = [receiver.result() for receiver in receivers]
    rest = [channel.drain() for channel in channels]
    for by_channel in [*got, rest]:
        for items in by_channel:
            assert in_order(items)
    received = Counter(item for by_channel in [*got, rest] for items in by_channel for item in items)
    expected = Counter(item for items in sent for item in items)
    assert received == expected, ((received - expected), (expected - received))
    assert sum(expected.values()) > 100
    assert all((channel.sending, channel.receiving) == (0, 0) for channel in channels)


@pytest.mark.stress
@pytest.mark.parametrize("capacity", [0, 1, 4])
@alone(patience=90)
def test_nothing_is_lost_when_signals_interrupt(capacity: int, seed: int, factor: int) -> None:  # noqa: PLR0915
    """The main thread receives, and sends, while a timer raises in it; what it was handed then goes to others."""
    there, back = Channel[int](capacity), Channel[int](capacity)
    end, rng, raised = time.monotonic() + 1.5 * factor, random.Random(seed), 0
    armed = False

    class Signal(Exception):
        pass

    def handler(*_: object) -> None:
        nonlocal armed, raised
        if armed:
            armed = False
            raised += 1
            raise Signal

    def feed() -> int:
        number = 0
        while time.monotonic() < end:
            there.send(number)
            number += 1
        there.close()
        return number

    def collect(channel: Channel[int]) -> list[int]:
        return list(channel)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
    mine: list[int] = []
    perhaps: list[int] = []
    with Crew() as crew:
        feeder = crew.start(feed)
        other = crew.start(collect, there)
        sink = crew.start(collect, back)
        number = 0
        while time.monotonic() < end:
            try:
                armed = True
                if rng.random() < 0.5:
                    record(mine, there.recv)
                else:
                    perhaps.append(number)
                    number += 1
                    back.send(perhaps[-1])
                armed = False
            except Signal:
                continue
            except Closed:
                break
            finally:
                armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        back.close()
        fed, others, sunk = feeder.result(), other.result(), sink.result()
    assert sorted(mine + others) == list(range(fed)), "lost or doubled on the way in"
    assert mine == sorted(mine)
    # What came back was overtaken by what went to others in the meantime; nothing else was.
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(others))
    assert overtaken <= raised, f"{overtaken} overtaken, {raised} raised"
    assert len(set(sunk)) == len(sunk) and set(sunk) <= set(perhaps), "doubled on the way out"
    assert sunk == sorted(sunk)
    assert len(perhaps) - len(sunk) <= raised, (
        f"{len(perhaps) - len(sunk)} of {len(perhaps)} lost, {raised} raised"
    )
    assert raised > 20, raised
    assert (there.receiving, back.sending) == (0, 0)


@alone(patience=90)
def test_the_collector_never_takes_a_live_item_for_dead() -> None:
    """An item whose attributes are gone, or whose weakref callback ran, was cleared while it was alive."""

    class Living:
        def __init__(self, number: int) -> None:
            self.number, self.me = number, self

    channels: list[Channel[Any]] = [Channel(capacity) for capacity in (0, 1, 50)]
    end = time.monotonic() + 1.5

    def send(channel: Channel[Any]) -> None:
        number = 0
        with channel:
            while time.monotonic() < end:
                channel.send_many([Living(number), Living(number + 1)])
                channel.send(Living(number + 2))
                number += 3

    def receive(channel: Channel[Any]) -> int:
        count = 0
        for item in channel:
            assert item.me is item and item.number == count, vars(item)
            count += 1
        return count

    gc.set_threshold(5, 2, 2)
    with Crew() as crew:
        receivers = []
        for channel in channels:
            crew.start(send, channel)
            receivers.append(crew.start(receive, channel))
        while time.monotonic() < end:
            gc.collect()
        counts = [receiver.result() for receiver in receivers]
    assert min(counts) > 50, counts


# ---- linearizability ----


class Step(NamedTuple):
    begin: int
    end: int
    kind: str
    value: object


def is_linear(threads: list[list[Step]], capacity: int) -> bool:
    """Whether there is an order of the steps, each within its own time, that a list would have made.

    Wing and Gong's search, with the memory of Lowe: a set of places where it has been.
    """
    seen: set[object] = set()

    def search(at: tuple[int, ...], queue: tuple[object, ...], closed: bool) -> bool:
        place = (at, queue, closed)
        if place in seen:
            return False
        seen.add(place)
        heads = [
            (number, thread[at[number]]) for number, thread in enumerate(threads) if at[number] < len(thread)
        ]
        if not heads:
            return True
        soonest = min(step.end for _, step in heads)
        for number, step in heads:
            if step.begin > soonest:
                continue
            after = apply(step, queue, closed)
            if after is not None and search((*at[:number], at[number] + 1, *at[number + 1 :]), *after):
                return True
        return False

    def apply(step: Step, queue: tuple[object, ...], closed: bool) -> tuple[tuple[object, ...], bool] | None:
        kind, value = step.kind, step.value
        possible = {
            "sent": not closed and len(queue) < capacity,
            "full": not closed and len(queue) >= capacity,
            "refused": closed,
            "got": queue[:1] == (value,),
            "empty": not closed and not queue,
            "ended": closed and not queue,
            "close": True,
            "len": len(queue) == value,
        }[kind]
        if not possible:
            return None
        if kind == "sent":
            return (*queue, value), closed
        return (queue[1:] if kind == "got" else queue), closed or kind == "close"

    return search((0,) * len(threads), (), False)


def test_the_checker_tells_right_from_wrong() -> None:
    def steps(*rows: tuple[int, int, str, object]) -> list[Step]:
        return [Step(*row) for row in rows]

    assert is_linear([steps((0, 1, "sent", "a")), steps((2, 3, "got", "a"))], 1)
    assert is_linear([steps((0, 9, "sent", "a"), (10, 19, "sent", "b")), steps((1, 12, "got", "a"))], 1)
    # Received before it was sent; two items in a capacity of one; overtaken; empty when it was not; got twice.
    assert not is_linear([steps((2, 3, "sent", "a")), steps((0, 1, "got", "a"))], 1)
    assert not is_linear([steps((0, 1, "sent", "a"), (2, 3, "sent", "b"))], 1)
    assert not is_linear([steps((0, 1, "sent", "a"), (2, 3, "sent", "b"), (4, 5, "got", "b"))], 2)
    assert not is_linear([steps((0, 1, "sent", "a")), steps((2, 3, "empty", None))], 1)
    assert not is_linear(
        [steps((0, 1, "sent", "a")), steps((2, 3, "got", "a")), steps((2, 3, "got", "a"))], 1
    )
    assert not is_linear([steps((0, 1, "close", None)), steps((2, 3, "sent", "a"))], 1)


def perform(channel: Channel[Any], rng: random.Random, name: str, count: int) -> list[Step]:  # noqa: PLR0912
    """Random operations of one thread, and when each of them was under way. A batch is a step per item."""
    now, steps = time.perf_counter_ns, list[Step]()
    for number in range(count):
        item, sort = f"{name}{number}", rng.randrange(10)
        timeout = rng.choice([0, 0.0005, 0.002])
        begin = now()
        told: list[tuple[str, object]]
        try:
            if sort == 0:
                channel.try_send(item)
                told = [("sent", item)]
            elif sort <= 2:
                channel.send(item, timeout)
                told = [("sent", item)]
            elif sort == 3:
                batch = [item + "x", item + "y"]
                try:
                    channel.send_many(batch, timeout)
                    told = [("sent", one) for one in batch]
                except (Full, Closed) as refused:
                    left = refused.items  # type: ignore[union-attr]
                    told = [("sent", one) for one in batch[: len(batch) - len(left)]]
                    told.append(("full" if isinstance(refused, Full) else "refused", None))
            elif sort == 4:
                told = [("got", one) for one in channel.recv_many(2, timeout)]
            elif sort == 5:
                told = [("got", channel.try_recv())]
            elif sort == 6:
                told = [("got", select(channel, timeout=timeout)[1])]
            elif sort == 7 and rng.random() < 0.05:
                channel.close()
                told = [("close", None)]
            elif sort == 7:
                told = [("len", len(channel))]
            else:
                told = [("got", channel.recv(timeout))]
        except Full:
            told = [("full", None)]
        except (Empty, TimeoutError):
            told = [("empty", None)]
        except Closed:
            told = [("refused" if sort <= 3 else "ended", None)]
        end = now()
        steps += [Step(begin, end, kind, value) for kind, value in told]
    return steps


@pytest.mark.stress
@pytest.mark.thread_unsafe(reason="it sets the switch interval")
@pytest.mark.parametrize("capacity", [1, 2])
def test_every_history_has_a_sequential_story(capacity: int, seed: int, factor: int) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00001)
    try:
        for turn in range(120 * factor):
            channel: Channel[Any] = Channel(capacity)
            workers = [
                partial(perform, channel, random.Random(f"{seed} {turn} {name}"), name, 12) for name in "abcd"
            ]
            history = at_once(*workers)
            assert is_linear(history, capacity), (turn, history)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.stress
def test_waiters_come_and_go_without_a_trace() -> None:
    """Many waiters of every sort, of whom most give up: the lists are empty in the end, and the rest was served."""
    channel: Channel[int] = Channel(0)

    def wait(number: int) -> int:
        got = 0
        for turn in range(60):
            try:
                if (number + turn) % 2:
                    channel.send(1, timeout=0.0005)
                    got -= 1
                else:
                    got += channel.recv(timeout=0.0005)
            except (Full, Empty):
                pass
        return got

    assert sum(at_once(*[partial(wait, number) for number in range(12)])) == 0
    wait_until(lambda: (channel.sending, channel.receiving) == (0, 0))
