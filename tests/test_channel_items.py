"""The items of a channel: their references, their cycles, their deaths; and programs that others test theirs with."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import pytest
from support import PATIENCE, Crew
from test_channel import every_room, filled, sending

from sluicegate import Channel, Closed, Full

# ---- items ----


class Item:
    pass


@every_room
def test_an_item_dies_with_its_last_user(capacity: int | None) -> None:
    channel, died = Channel[Item](capacity), list[int]()
    item = Item()
    weakref.finalize(item, died.append, 1)
    channel.send(item)
    del item
    assert died == []
    channel.recv()
    assert died == [1]


def test_items_die_with_the_channel() -> None:
    channel, item = Channel[Item](2), Item()
    alive = weakref.ref(item)
    channel.send(item)
    del item
    assert alive() is not None
    del channel
    assert alive() is None


def test_a_refused_item_dies_with_its_exception() -> None:
    channel, item = filled(1, [0]), Item()
    alive = weakref.ref(item)
    with pytest.raises(Full):
        channel.try_send(item)
    del item
    gc.collect()
    assert alive() is None


def test_references_are_counted() -> None:
    item: list[int] = []
    before = sys.getrefcount(item)
    channel: Channel[Any] = Channel(4)
    for _ in range(100):
        channel.send_many([item, item])
        channel.send(item)
        channel.recv_many(2)
        channel.recv()
        with pytest.raises(Full):
            channel.send_many([item] * 6, timeout=0)
        channel.drain()
    assert sys.getrefcount(item) == before


@pytest.mark.parametrize("where", ["in the ring", "in its own ring", "with a blocked sender"])
def test_a_cycle_through_a_channel_is_collected(where: str) -> None:
    channel, item = Channel[Any](1), Item()
    alive = weakref.ref(item)
    item.channel = channel  # type: ignore[attr-defined]
    channel.send(item)
    if where == "in its own ring":
        other = Channel[Any](1)
        item.channel = other  # type: ignore[attr-defined]
        other.send(channel)
        del other
    if where == "with a blocked sender":
        # While somebody waits, nothing is garbage.
        with Crew() as crew:
            sending(crew, channel, item)
            del item
            gc.collect()
            assert alive() is not None
            channel.recv()
            assert alive() is not None
        # The crew remembers what it was asked to do.
        item = crew = None  # type: ignore[assignment]
    del channel, item
    gc.collect()
    assert alive() is None


# ---- scenarios of others ----


def test_channel_through_channel() -> None:
    """crossbeam's: each item brings the channel for the next one."""
    first: Channel[Any] = Channel(0)

    def send() -> None:
        channel = first
        for _ in range(200):
            following: Channel[Any] = Channel(0)
            channel.send(following)
            channel = following

    with Crew() as crew:
        crew.start(send)
        channel = first
        for _ in range(200):
            channel = channel.recv(timeout=PATIENCE)


def test_recv_in_send() -> None:
    """crossbeam's: computing the item uses the channel."""
    channel = filled(1, [1])
    channel.send(channel.recv() + 1)
    assert channel.recv() == 2


def test_a_prime_sieve() -> None:
    """Go's sieve1: a chain of rendezvous that grows."""
    with Crew() as crew:
        channels: list[Channel[int]] = []

        def generate(out: Channel[int]) -> None:
            number = 2
            while True:
                try:
                    out.send(number)
                except Closed:
                    return
                number += 1

        def sift(source: Channel[int], out: Channel[int], prime: int) -> None:
            with out:
                for number in source:
                    if number % prime:
                        try:
                            out.send(number)
                        except Closed:
                            return

        channels.append(Channel(0))
        crew.start(generate, channels[0])
        primes = []
        for _ in range(15):
            prime = channels[-1].recv()
            primes.append(prime)
            channels.append(Channel(0))
            crew.start(sift, channels[-2], channels[-1], prime)
        for channel in channels:
            channel.close()
            channel.drain()
    assert primes == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]


def test_chanbarrier() -> None:
    """Go's: n threads meet at a barrier made of two channels."""
    n, rounds = 5, 20
    arrive, leave, log = Channel[int](0), Channel[int](0), []

    def run(number: int) -> None:
        for turn in range(rounds):
            log.append(turn)
            arrive.send(number)
            leave.recv()

    with Crew() as crew:
        for number in range(n):
            crew.start(run, number)
        for turn in range(rounds):
            assert sorted(arrive.recv() for _ in range(n)) == list(range(n))
            assert log.count(turn) == n and turn + 1 not in log
            leave.send_many(range(n))


def test_producers_of_multiple_rates_meet_one_consumer_fairly() -> None:
    """MultiConsumer of Go's runtime: work is spread, nothing is lost, and the workers end with the channel."""
    work, done = Channel[int](23), Channel[int](None)
    with Crew() as crew:
        workers = [crew.start(lambda: [done.send(number) for number in work]) for _ in range(4)]
        with work:
            total = sum(range(2000))
            work.send_many(range(2000))
        for worker in workers:
            worker.result()
    assert sum(done.drain()) == total


def test_disconnect_while_full_and_contended() -> None:
    """crossbeam's disconnect_wakes_sender, many times: each send was either made or refused."""
    for _ in range(30):
        channel, made = Channel[int](1), Channel[int](None)

        def send(number: int, channel: Channel[int] = channel, made: Channel[int] = made) -> None:
            while True:
                try:
                    channel.send(number)
                except Closed as refused:
                    assert refused.item == number
                    return
                made.send(number)

        with Crew() as crew:
            for number in range(3):
                crew.start(send, number)
            got = [channel.recv() for _ in range(10)]
            channel.close()
            got += list(channel)
        assert sorted(got) == sorted(made.drain())


def test_use_while_exiting_a_thread() -> None:
    """crossbeam's thread_locals: a thread's own objects die late, and use the channel then."""
    channel, local = Channel[str](None), threading.local()

    class Farewell:
        def __del__(self) -> None:
            channel.send("farewell")

    def run() -> None:
        local.farewell = Farewell()
        channel.send("hello")

    with Crew() as crew:
        crew.start(run).result()
    assert channel.recv(timeout=PATIENCE) == "hello"
    assert channel.recv(timeout=PATIENCE) == "farewell"
