"""What Channel promises, one promise per test: order, waiting, closing, batches, refused items, arguments."""

from __future__ import annotations

import copy
import functools
import operator
import pickle
import queue
import sys
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE, Crew, Worker, at_once, wait_until

from sluicegate import Channel, Closed, Empty, Full

every_capacity = pytest.mark.parametrize("capacity", [0, 1, 3, 1024, None])
every_room = pytest.mark.parametrize("capacity", [1, 3, 1024, None])


def filled(capacity: int | None, items: Any = ()) -> Channel[Any]:
    channel: Channel[Any] = Channel(capacity)
    channel.send_many(items)
    return channel


def sending(crew: Crew, channel: Channel[Any], item: object, **kwargs: Any) -> Worker:
    """A thread that is asleep in a send."""
    there = channel.sending
    worker = crew.start(channel.send, item, **kwargs)
    wait_until(lambda: channel.sending == there + 1 or not worker.running)
    assert worker.running, worker.result()
    return worker


def receiving(crew: Crew, channel: Channel[Any], **kwargs: Any) -> Worker:
    """A thread that is asleep in a receive."""
    there = channel.receiving
    worker = crew.start(channel.recv, **kwargs)
    wait_until(lambda: channel.receiving == there + 1 or not worker.running)
    assert worker.running, worker.result()
    return worker


# ---- what it is ----


def test_every_public_method_has_a_docstring() -> None:
    bare = [name for name, value in vars(Channel).items() if not name.startswith("_") and not value.__doc__]
    assert bare == []


@pytest.mark.parametrize("capacity", [-1, -(10**30)])
def test_a_negative_capacity_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=rf"^capacity must be >= 0 or None, got {capacity}$"):
        Channel(capacity)


@pytest.mark.parametrize("capacity", [1.0, "1", b"", [], object])
def test_a_capacity_is_an_int_or_none(capacity: Any) -> None:
    with pytest.raises(TypeError, match=r"^capacity must be an int or None, not "):
        Channel(capacity)


def test_a_capacity_has_to_be_named() -> None:
    with pytest.raises(TypeError, match=r"capacity"):
        Channel()  # type: ignore[call-arg]


def test_a_capacity_beyond_memory_is_no_bound() -> None:
    assert Channel[int](2**200).capacity is None
    assert Channel[int](10**9).capacity == 10**9


def test_its_face() -> None:
    channel = filled(3, "ab")
    assert (len(channel), channel.capacity, channel.closed) == (2, 3, False)
    assert (channel.sending, channel.receiving) == (0, 0)
    assert repr(channel) == f"<sluicegate.Channel at {id(channel):#x}: len=2 capacity=3>"
    channel.close()
    assert repr(channel).endswith(": len=2 capacity=3 closed>")
    assert repr(Channel(None)).endswith("len=0 capacity=None>")
    assert bool(Channel(0)) is True, "`channel or Channel(1)` must not lose an empty channel"
    assert Channel[int] is not None and weakref.ref(channel)() is channel
    assert Channel.__module__ == "sluicegate"


def test_it_can_be_subclassed() -> None:
    class Jobs(Channel[str]):
        def __init__(self, capacity: int) -> None:
            self.name = f"jobs of {capacity}"

    jobs = Jobs(2)
    jobs.send("a")
    assert (jobs.name, jobs.recv()) == ("jobs of 2", "a")
    assert "Jobs at 0x" in repr(jobs)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_copied(copier: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=r"^cannot pickle 'Channel' object$"):
        copier(Channel(1))


def test_full_and_empty_are_those_of_queue() -> None:
    assert Full is queue.Full and Empty is queue.Empty
    assert not issubclass(Closed, (Full, Empty))


@pytest.mark.thread_unsafe(reason="counts the memory of the process")
def test_an_empty_channel_is_small() -> None:
    channel: Channel[int] = Channel(1024)
    assert sys.getsizeof(channel) < 500
    tracemalloc.start()
    many = [Channel[int](1024) for _ in range(100)]
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(many) < 500


# ---- order and waiting ----


@every_room
def test_items_come_out_in_the_order_they_went_in(capacity: int | None) -> None:
    channel: Channel[int] = Channel(capacity)
    got = []
    for number in range(50):
        channel.send(number)
        if len(channel) == capacity or number % 3 == 2:
            got.append(channel.recv())
    got += channel.drain()
    assert got == list(range(50))


def test_a_full_channel_refuses_and_the_item_is_on_the_exception() -> None:
    channel, item = filled(1, [0]), object()
    for send in (lambda: channel.try_send(item), lambda: channel.send(item, timeout=0.001)):
        with pytest.raises(Full, match=r"^the channel is full$") as refused:
            send()  # type: ignore[no-untyped-call]
        assert refused.value.item is item  # type: ignore[attr-defined]
    assert channel.drain() == [0]


def test_an_empty_channel_refuses() -> None:
    channel: Channel[int] = Channel(1)
    for recv in (
        channel.try_recv,
        lambda: channel.recv(timeout=0.001),
        lambda: channel.recv_many(2, timeout=0),
    ):
        with pytest.raises(Empty, match=r"^the channel is empty$"):
            recv()
    assert channel.receiving == 0


@pytest.mark.parametrize("timeout", [0.05, 0])
def test_a_timeout_is_waited_out_and_not_longer(timeout: float) -> None:
    channel = filled(1, [0])
    begin = time.monotonic()
    with pytest.raises(Full):
        channel.send(1, timeout=timeout)
    assert timeout <= time.monotonic() - begin < timeout + 5
    channel.drain()
    begin = time.monotonic()
    with pytest.raises(Empty):
        channel.recv(timeout=timeout)
    assert timeout <= time.monotonic() - begin < timeout + 5


@pytest.mark.parametrize("call", ["send", "recv", "send_many", "recv_many"])
def test_a_bad_timeout_is_an_error_whether_or_not_there_is_something_to_wait_for(call: str) -> None:
    first = {"send": (0,), "send_many": ([0],), "recv": (), "recv_many": (1,)}[call]
    for items in ([], [1]):
        channel = filled(2, items)
        for timeout, error in (
            (-1, ValueError),
            (float("nan"), ValueError),
            ("1", TypeError),
            (1e300, OverflowError),
        ):
            with pytest.raises(error):
                getattr(channel, call)(*first, timeout=timeout)
        assert channel.drain() == items
    with pytest.raises(ValueError, match=r"^timeout must be >= 0 or None, got -0.5$"):
        getattr(filled(2, [1]), call)(*first, timeout=-0.5)


def test_a_rendezvous_waits_for_the_other_side() -> None:
    channel: Channel[str] = Channel(0)
    with pytest.raises(Full):
        channel.try_send("nobody is there")
    with Crew() as crew:
        receiver = receiving(crew, channel)
        channel.send("a")
        assert receiver.result() == "a"
        sender = sending(crew, channel, "b")
        assert len(channel) == 0
        assert channel.try_recv() == "b"
        assert sender.result() is None


def test_who_waits_longest_is_served_first() -> None:
    channel: Channel[int] = Channel(0)
    with Crew() as crew:
        receivers = [receiving(crew, channel) for _ in range(5)]
        for number in range(5):
            channel.send(number)
        assert [receiver.result() for receiver in receivers] == [0, 1, 2, 3, 4]
        for number in range(5):
            sending(crew, channel, number)
        assert [channel.recv() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_blocked_sender_is_not_overtaken() -> None:
    channel = filled(1, [0])
    with Crew() as crew:
        sending(crew, channel, 1)
        assert channel.try_recv() == 0
        with pytest.raises(Full):
            channel.try_send(2)
        assert channel.drain() == [1]


def test_try_recv_takes_in_what_a_blocked_sender_waits_with() -> None:
    """anyio#143: or the sender sleeps on though there is room."""
    channel = filled(1, [0])
    with Crew() as crew:
        sender = sending(crew, channel, 1)
        assert channel.try_recv() == 0
        assert sender.result() is None
        assert channel.try_recv() == 1


def test_a_late_receiver_leaves_nothing_behind() -> None:
    channel: Channel[int] = Channel(1)
    with Crew() as crew:
        late = receiving(crew, channel, timeout=0.02)
        assert isinstance(late.error(), Empty)
        assert channel.receiving == 0
        channel.send(1)
        assert channel.recv() == 1


def test_a_late_sender_leaves_nothing_behind() -> None:
    channel = filled(1, [0])
    with Crew() as crew:
        late = sending(crew, channel, 1, timeout=0.02)
        assert isinstance(late.error(), Full)
        assert (channel.sending, channel.drain()) == (0, [0])


def test_a_blocking_send_never_raises_full() -> None:
    """ft_utils' ConcurrentQueue does, one run in three."""
    channel: Channel[int] = Channel(2)
    at_once(
        *[lambda: [channel.send(1) for _ in range(500)]] * 4,
        *[lambda: [channel.recv() for _ in range(500)]] * 4,
    )
    assert (len(channel), channel.sending, channel.receiving) == (0, 0, 0)


@every_capacity
def test_four_senders_and_four_receivers_never_stall(capacity: int | None) -> None:
    """tsasync's Channel does."""
    channel: Channel[int] = Channel(capacity)
    sends = [lambda: [channel.send(1) for _ in range(300)]] * 4
    recvs = [lambda: [channel.recv() for _ in range(300)]] * 4
    results = at_once(*sends, *recvs)
    assert sum(map(len, results[4:])) == 1200
    assert (len(channel), channel.sending, channel.receiving) == (0, 0, 0)


# ---- closing ----


def test_close_refuses_senders_and_leaves_the_rest_to_receivers() -> None:
    channel, item = filled(2, [1, 2]), object()
    channel.close()
    assert channel.closed
    for send in (channel.send, channel.try_send):
        with pytest.raises(Closed, match=r"^the channel is closed$") as refused:
            send(item)
        assert refused.value.item is item
    assert (channel.recv(), channel.try_recv()) == (1, 2)
    for recv in (
        channel.recv,
        channel.try_recv,
        lambda: channel.recv_many(1),
        lambda: channel.recv(timeout=PATIENCE),
    ):
        with pytest.raises(Closed, match=r"^the channel is closed$"):
            recv()


def test_a_second_close_is_quiet() -> None:
    channel: Channel[int] = Channel(1)
    channel.close()
    channel.close()
    with channel:
        pass
    at_once(*[channel.close] * 4)


def test_close_wakes_every_sender_and_hands_its_item_back() -> None:
    channel = filled(1, [0])
    with Crew() as crew:
        senders = [sending(crew, channel, number) for number in range(4)]
        channel.close()
        for number, sender in enumerate(senders):
            error = sender.error()
            assert isinstance(error, Closed) and error.item == number
    assert (channel.sending, channel.drain()) == (0, [0])


@every_capacity
def test_close_wakes_every_receiver(capacity: int | None) -> None:
    """janus#237, cpython#117531, aiochannel#13."""
    channel: Channel[int] = Channel(capacity)
    with Crew() as crew:
        receivers = [receiving(crew, channel) for _ in range(4)]
        channel.close()
        assert all(isinstance(receiver.error(), Closed) for receiver in receivers)
    assert channel.receiving == 0


def test_iteration_ends_when_the_channel_is_closed_and_empty() -> None:
    channel = filled(3, "abc")
    channel.close()
    assert list(channel) == ["a", "b", "c"]
    assert list(channel) == []
    with Crew() as crew:
        other: Channel[int] = Channel(1)
        loop = crew.start(lambda: list(other))
        for number in range(10):
            other.send(number)
        assert loop.running
        other.close()
        assert loop.result() == list(range(10))


def test_many_threads_may_iterate_over_one_channel() -> None:
    with Crew() as crew:
        with Channel[int](4) as channel:
            loops = [crew.start(lambda: list(channel)) for _ in range(3)]
            channel.send_many(range(500))
        got = [loop.result() for loop in loops]
    assert sorted(functools.reduce(operator.iadd, got, [])) == list(range(500))
    assert all(items == sorted(items) for items in got)


def test_with_closes_whatever_happened() -> None:
    channel: Channel[int] = Channel(1)
    with pytest.raises(ZeroDivisionError), channel as same:
        assert same is channel
        raise ZeroDivisionError
    assert channel.closed


# ---- batches ----


def test_a_batch_is_sent_in_order_and_counted() -> None:
    channel: Channel[Any] = Channel(None)
    assert channel.send_many([]) == 0
    assert channel.send_many("abc") == 3
    assert channel.send_many(number for number in range(1000)) == 1000
    assert channel.send_many({"k": 1}) == 1
    assert channel.drain() == ["a", "b", "c", *range(1000), "k"]


def test_recv_many_takes_what_is_there() -> None:
    channel = filled(10, range(10))
    assert channel.recv_many(3) == [0, 1, 2]
    assert channel.recv_many(2**100) == [3, 4, 5, 6, 7, 8, 9]
    with Crew() as crew:
        waiting = crew.start(channel.recv_many, 5)
        wait_until(lambda: channel.receiving == 1)
        channel.send_many("ab")
        got = waiting.result()
        assert got in (["a"], ["a", "b"])
    assert got + channel.drain() == ["a", "b"]


@pytest.mark.parametrize(
    ("max_", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (None, TypeError)]
)
def test_recv_many_wants_a_positive_number(max_: Any, error: type[Exception]) -> None:
    channel = filled(1, [0])
    with pytest.raises(error, match=r"^max must be "):
        channel.recv_many(max_)
    assert len(channel) == 1


def test_recv_many_takes_from_the_hands_of_blocked_senders() -> None:
    channel: Channel[int] = Channel(0)
    with Crew() as crew:
        for number in range(4):
            sending(crew, channel, number)
        assert channel.recv_many(3) == [0, 1, 2]
        assert channel.drain() == [3]


def test_a_refused_batch_is_not_lost() -> None:
    channel: Channel[int] = Channel(2)
    with pytest.raises(Full) as late:
        channel.send_many(range(5), timeout=0.01)
    error: Any = late.value
    assert (error.item, error.items, error.sent) == (2, [2, 3, 4], 2)
    channel.close()
    with pytest.raises(Closed) as closed:
        channel.send_many([7, 8])
    assert (closed.value.item, closed.value.items, closed.value.sent) == (7, [7, 8], 0)
    assert channel.drain() == [0, 1]


def test_a_long_batch_that_is_refused_takes_no_more_from_its_iterable() -> None:
    channel: Channel[int] = Channel(1000)
    numbers = iter(range(5000))
    with pytest.raises(Full) as late:
        channel.send_many(numbers, timeout=0.01)
    error: Any = late.value
    assert (error.sent, channel.drain()) == (1000, list(range(1000)))
    assert [*error.items, *numbers] == list(range(1000, 5000))


def test_a_batch_waits_for_room_as_a_whole() -> None:
    channel: Channel[int] = Channel(2)
    with Crew() as crew:
        batch = crew.start(channel.send_many, range(6))
        wait_until(lambda: channel.sending == 1)
        got = [channel.recv() for _ in range(3)]
        assert batch.running and channel.sending == 1
        got += channel.recv_many(1)
        assert batch.result() == 6
        assert got + channel.drain() == [0, 1, 2, 3, 4, 5]


def test_what_an_iterable_raises_passes_after_the_items_before_it_were_sent() -> None:
    def numbers() -> Iterator[int]:
        yield from range(300)
        raise ZeroDivisionError

    channel: Channel[int] = Channel(None)
    with pytest.raises(ZeroDivisionError):
        channel.send_many(numbers())
    assert channel.drain() == list(range(300))
    with pytest.raises(TypeError, match=r"not iterable"):
        channel.send_many(5)  # type: ignore[arg-type]


def test_an_iterable_may_use_the_channel_it_is_sent_to() -> None:
    channel: Channel[int] = Channel(None)

    def numbers() -> Iterator[int]:
        for number in range(3):
            channel.send(-number)
            yield number

    channel.send_many(numbers())
    channel.send_many(channel.drain())
    channel.close()
    assert list(channel) == [0, -1, -2, 0, 1, 2]


def test_drain_takes_everything_once() -> None:
    channel = filled(2, [0, 1])
    with Crew() as crew:
        senders = [sending(crew, channel, number) for number in (2, 3)]
        assert channel.drain() == [0, 1, 2, 3]
        assert [sender.result() for sender in senders] == [None, None]
    assert channel.drain() == []


# ---- against a model ----


@given(
    st.sampled_from([0, 1, 2, 5, None]),
    st.lists(
        st.tuples(
            st.sampled_from(["send", "recv", "send_many", "recv_many", "drain", "close"]), st.integers(1, 4)
        )
    ),
)
def test_it_agrees_with_a_list(capacity: int | None, steps: list[tuple[str, int]]) -> None:
    channel: Channel[int] = Channel(capacity)
    model: list[int] = []
    closed = False
    for number, (step, n) in enumerate(steps):
        room = 0 if closed else (10**9 if capacity is None else capacity - len(model))
        refusal: type[Exception] = Closed if closed else Full
        missing: type[Exception] = Closed if closed else Empty
        if step == "send":
            if room:
                channel.try_send(number)
                model.append(number)
            else:
                with pytest.raises(refusal):
                    channel.try_send(number)
        elif step == "send_many":
            batch = [number * 100 + i for i in range(n)]
            model += batch[:room]
            if n <= room:
                assert channel.send_many(batch, timeout=0) == n
            else:
                with pytest.raises(refusal) as refused:
                    channel.send_many(batch, timeout=0)
                assert refused.value.items == batch[room:]  # type: ignore[attr-defined]
        elif step in ("recv", "recv_many") and not model:
            with pytest.raises(missing):
                channel.try_recv() if step == "recv" else channel.recv_many(n, timeout=0)
        elif step == "recv":
            assert channel.recv() == model.pop(0)
        elif step == "recv_many":
            assert channel.recv_many(n) == model[:n]
            del model[:n]
        elif step == "drain":
            assert channel.drain() == model
            model = []
        elif n == 1:
            channel.close()
            closed = True
        assert (len(channel), channel.closed) == (len(model), closed)
