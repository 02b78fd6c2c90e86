"""What select, after and tick promise; crossbeam's and Go's scenarios."""

from __future__ import annotations

import collections
import contextlib
import gc
import itertools
import sys
import threading
import time
import weakref
from functools import partial
from typing import Any

import pytest
from support import PATIENCE, Crew, at_once, wait_until

from sluicegate import Channel, Closed, Empty, Timer, after, select, tick


def filled(capacity: int | None, items: Any = ()) -> Channel[Any]:
    channel: Channel[Any] = Channel(capacity)
    channel.send_many(items)
    return channel


def at_rest(*channels: Channel[Any]) -> bool:
    return all((channel.sending, channel.receiving) == (0, 0) for channel in channels)


# ---- one case, and no other ----


def test_the_case_that_is_ready_fires() -> None:
    letters, numbers = filled(1), filled(1, [7])
    assert select(letters, numbers) == (numbers, 7)
    assert select(numbers, (letters, "a")) == (letters, "a")
    assert (letters.drain(), numbers.drain()) == (["a"], [])


def test_nothing_ready_is_a_timeout() -> None:
    full, empty = filled(1, [0]), filled(1)
    begin = time.monotonic()
    for timeout in (0, 0.02):
        with pytest.raises(TimeoutError, match=r"^no case was ready within the timeout$"):
            select(empty, (full, 1), timeout=timeout)
    assert 0.02 <= time.monotonic() - begin < 5
    assert at_rest(full, empty) and full.drain() == [0]


def test_it_waits_for_the_first_that_becomes_ready() -> None:
    channels = [filled(0), filled(0), filled(1)]
    for ready in range(3):
        with Crew() as crew:
            selecting = crew.start(select, *channels)
            wait_until(lambda: all(channel.receiving == 1 for channel in channels))
            channels[ready].send("x")
            assert selecting.result() == (channels[ready], "x")
        assert at_rest(*channels) and not any(map(len, channels))


def test_it_waits_for_room_and_sends_once() -> None:
    channels = [filled(1, ["old"]), filled(1, ["old"])]
    with Crew() as crew:
        selecting = crew.start(select, *((channel, "new") for channel in channels))
        wait_until(lambda: all(channel.sending == 1 for channel in channels))
        assert channels[1].recv() == "old"
        assert selecting.result() == (channels[1], "new")
    assert [channel.drain() for channel in channels] == [["old"], ["new"]]
    assert at_rest(*channels)


def test_exactly_one_fires_however_many_could() -> None:
    """awaitchannel#1: and what the others hold stays there."""
    for _ in range(200):
        channels = [filled(1), filled(0), filled(None)]
        with Crew() as crew:
            selecting = crew.start(select, *channels)
            wait_until(lambda: channels[2].receiving == 1)
            senders = [crew.start(channel.send, number, 0.05) for number, channel in enumerate(channels)]
            _, item = selecting.result()
            left = [number for channel in channels for number in channel.drain()]
            for number, sender in enumerate(senders):
                error = sender.error()
                if error is not None:
                    left.append(number)
        left += [number for channel in channels for number in channel.drain()]
        assert sorted({item, *left}) == [0, 1, 2] and len(left) == 2, (item, left)


def test_a_channel_may_be_named_twice() -> None:
    """SelectDuplicateChannel of Go's runtime, duplicate_operations of crossbeam."""
    channel, other = filled(0), filled(0)
    with Crew() as crew:
        selecting = crew.start(select, channel, channel, other, channel)
        wait_until(lambda: channel.receiving == 3)
        channel.send(1)
        assert selecting.result() == (channel, 1)
        assert at_rest(channel, other)
        selecting = crew.start(select, (channel, 1), (channel, 2))
        wait_until(lambda: channel.sending == 2)
        item = channel.recv()
        assert item in (1, 2) and selecting.result() == (channel, item)
    assert at_rest(channel)


def test_a_select_never_meets_itself() -> None:
    """SelfSelect of Go's runtime."""
    for capacity in (0, 10):
        channel: Channel[int] = Channel(capacity)

        def run(number: int, channel: Channel[int] = channel, capacity: int = capacity) -> None:
            for _ in range(500):
                try:
                    fired, item = select((channel, number), channel, timeout=0.05)
                except TimeoutError:
                    continue
                assert fired is channel and (capacity == 10 or item in (0, 1))

        at_once(lambda: run(0), lambda: run(1))
        assert at_rest(channel)
    lonely: Channel[int] = Channel(0)
    with pytest.raises(TimeoutError):
        select(lonely, (lonely, 1), timeout=0.01)


def test_two_selects_meet() -> None:
    """goless#43; matching of crossbeam: threads that all select to send their name and to receive another's."""
    channel: Channel[int] = Channel(0)

    def meet(number: int) -> int | None:
        _, item = select(channel, (channel, number), timeout=PATIENCE)
        return None if item == number else item

    with Crew() as crew:
        names = [crew.start(meet, number) for number in range(44)]
        got = [name.result() for name in names]
    assert got.count(None) == 22
    assert len({name for name in got if name is not None}) == 22
    assert at_rest(channel)


def test_two_selects_meet_over_two_channels() -> None:
    for _ in range(300):
        a, b = Channel[str](0), Channel[str](0)
        one, two = at_once(partial(select, (a, "a"), b), partial(select, a, (b, "b")))
        assert one == two and one in ((a, "a"), (b, "b"))


def test_opposite_orders_do_not_deadlock() -> None:
    """Go's select2/doubleselect: every thread names the channels in another order."""
    channels = [Channel[int](capacity) for capacity in (0, 1, 0, 2)]
    rounds = 300

    def send(shift: int) -> None:
        for number in range(rounds):
            turned = channels[shift:] + channels[:shift]
            select(*((channel, number) for channel in turned))

    def receive(shift: int) -> int:
        turned = channels[shift:] + channels[:shift]
        return len([select(*turned) for _ in range(rounds)])

    results = at_once(
        *[lambda shift=shift: send(shift) for shift in range(4)], *[lambda s=s: receive(s) for s in range(4)]
    )
    assert results[4:] == [rounds] * 4
    assert at_rest(*channels) and not any(map(len, channels))


def test_ready_cases_are_picked_fairly() -> None:
    """fairness of crossbeam, SelectFairness of Go: also when not all of them are ready."""
    channels = [filled(None, range(4000)) for _ in range(3)]
    empty = filled(1)
    fired = collections.Counter(id(select(channels[0], empty, *channels[1:])[0]) for _ in range(3000))
    assert set(fired) == set(map(id, channels))
    assert min(fired.values()) > 800, fired


def test_a_send_and_a_receive_are_picked_fairly() -> None:
    """PseudoRandomSend of Go's runtime."""
    ones = 0
    for _ in range(2000):
        channel: Channel[int] = Channel(1)
        select((channel, 0), (channel, 1))
        ones += channel.recv()
    assert 800 < ones < 1200


def test_looking_is_one_moment() -> None:
    """NonblockSelectRace of Go's runtime: one of the two is ready at every moment, so it is never "neither"."""
    for _ in range(1000):
        a, b = Channel[int](1), Channel[int](1)
        a.send(1)

        def look(a: Channel[int] = a, b: Channel[int] = b) -> bool:
            try:
                select(a, b, timeout=0)
            except TimeoutError:
                return False
            return True

        def move(a: Channel[int] = a, b: Channel[int] = b) -> None:
            b.send(1)
            with contextlib.suppress(Empty):
                a.try_recv()

        assert at_once(look, move)[0]


def test_a_timed_out_select_that_is_met_loses_nothing() -> None:
    """matching_with_leftover, linearizable_timeout: short timeouts on both sides, and the sums agree."""
    channels = [Channel[int](0), Channel[int](1)]
    stop = threading.Event()

    def send(sender: int) -> list[int]:
        sent: list[int] = []
        number = sender
        while not stop.is_set():
            try:
                select(*((channel, number) for channel in channels), timeout=0.0002)
            except TimeoutError:
                continue
            sent.append(number)
            number += 2
        return sent

    def receive() -> list[int]:
        got = []
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                got.append(select(*channels, timeout=0.0002)[1])
        return got

    with Crew() as crew:
        senders = [crew.start(send, number) for number in range(2)]
        receivers = [crew.start(receive) for _ in range(2)]
        time.sleep(0.6)
        stop.set()
        sent = sorted(itertools.chain.from_iterable(sender.result() for sender in senders))
        got = sorted(
            [
                *itertools.chain.from_iterable(receiver.result() for receiver in receivers),
                *channels[1].drain(),
            ]
        )
    assert sent == got and len(sent) > 50
    assert at_rest(*channels)


# ---- closed channels ----


def test_a_closed_channel_is_ready_and_says_which_it_is() -> None:
    closed, open_ = filled(2, [1]), filled(1)
    closed.close()
    assert select(open_, closed) == (closed, 1)
    with pytest.raises(Closed, match=r"^the channel is closed$") as error:
        select(open_, closed)
    assert (error.value.channel, error.value.item) == (closed, None)
    with pytest.raises(Closed) as error:
        select(open_, (closed, "x"))
    assert (error.value.channel, error.value.item) == (closed, "x")
    assert at_rest(open_, closed)


def test_close_wakes_a_select() -> None:
    full, empty = filled(1, [0]), filled(1)
    for channel in (empty, full):
        with Crew() as crew:
            selecting = crew.start(select, empty, (full, 1))
            wait_until(lambda: full.sending == 1 or not selecting.running)
            channel.close()
            error = selecting.error()
            assert isinstance(error, Closed)
        assert at_rest(full, empty)
    assert full.drain() == [0]


def test_merging_channels_until_all_are_closed() -> None:
    with Crew() as crew:
        sources = [Channel[int](0) for _ in range(3)]

        def produce(source: Channel[int], number: int) -> None:
            with source:
                source.send_many(range(number, 300, 3))

        for number, source in enumerate(sources):
            crew.start(produce, source, number)
        got, left = [], list(sources)
        while left:
            try:
                got.append(select(*left)[1])
            except Closed as closed:
                left.remove(closed.channel)
    assert sorted(got) == list(range(300))
    assert all(
        [item for item in got if item % 3 == number] == list(range(number, 300, 3)) for number in range(3)
    )


# ---- arguments and references ----


@pytest.mark.parametrize(
    "case", [5, None, "channel", (), (Channel(1),), (1, 2), (Channel(1), 1, 2), [Channel(1)]]
)
def test_what_is_no_case_is_refused_before_anything_happens(case: Any) -> None:
    ready = filled(1, [0])
    with pytest.raises(
        TypeError, match=r"^case 2 must be a Channel, a Timer or a pair \(Channel, item\), not "
    ):
        select(ready, case)
    assert ready.drain() == [0]


def test_a_select_needs_a_case_and_a_good_timeout() -> None:
    with pytest.raises(ValueError, match=r"^select\(\) needs a case to wait for$"):
        select()
    with pytest.raises(ValueError, match=r"^timeout must be >= 0 or None, got -1$"):
        select(filled(1, [0]), timeout=-1)


def test_items_that_were_not_sent_are_not_kept() -> None:
    class Item:
        pass

    channel, item = filled(1, [0]), Item()
    alive, before = weakref.ref(item), sys.getrefcount(item)
    for _ in range(10):
        with pytest.raises(TimeoutError):
            select((channel, item), (channel, item), timeout=0.001)
        gc.collect()
        assert sys.getrefcount(item) == before
    del item
    gc.collect()
    assert alive() is None


# ---- timers ----


def test_after_fires_once_when_it_is_time() -> None:
    begin = time.monotonic()
    timer = after(0.03)
    with pytest.raises(Empty):
        timer.try_recv()
    with pytest.raises(Empty):
        timer.recv(timeout=0.001)
    fired, moment = select(timer, after(PATIENCE))
    assert fired is timer
    assert begin + 0.03 <= moment <= time.monotonic() + 1e-6
    for recv in (timer.recv, timer.try_recv):
        with pytest.raises(Closed):
            recv()
    assert list(timer) == [] and "spent" in repr(timer)
    with pytest.raises(Closed) as error:
        select(timer)
    assert error.value.channel is timer


def test_after_wakes_one_of_many() -> None:
    timer = after(0.02)

    def wait() -> bool:
        try:
            timer.recv()
        except Closed:
            return False
        return True

    assert sorted(at_once(*[wait] * 4)) == [False, False, False, True]


def test_tick_keeps_its_rhythm() -> None:
    begin = time.monotonic()
    beat = tick(0.02)
    moments = [beat.recv() for _ in range(3)]
    time.sleep(0.05)
    # The one that was missed is still there, those after it are skipped, and the next one is in step.
    moments += [beat.recv(), beat.recv()]
    steps = [(moment - begin) / 0.02 for moment in moments]
    assert all(abs(step - round(step)) < 0.2 for step in steps), steps
    assert [round(step) for step in steps[:4]] == [1, 2, 3, 4] and steps[4] > 5.5, steps
    assert "every 0.02" in repr(beat)


def test_ticks_are_shared_and_not_doubled() -> None:
    beat, end = tick(0.005), time.monotonic() + 0.2

    def take() -> list[float]:
        got = []
        while time.monotonic() < end:
            got.append(beat.recv())
        return got

    moments = sorted(itertools.chain.from_iterable(at_once(take, take, take)))
    assert len(set(moments)) == len(moments) <= 45
    assert all(later - earlier > 0.004 for earlier, later in itertools.pairwise(moments))


def test_select_with_a_timeout_channel() -> None:
    """The idiom: one deadline for a loop of selects."""
    work, deadline, seen = Channel[int](1), after(0.05), 0
    with Crew() as crew:
        stop = threading.Event()

        def produce() -> None:
            while not stop.is_set():
                try:
                    work.send(1, timeout=0.01)
                except Exception:
                    return

        crew.start(produce)
        while True:
            channel, _ = select(work, deadline)
            if channel is deadline:
                break
            seen += 1
        stop.set()
        work.close()
    assert seen > 10


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None])
def test_a_timer_wants_a_time(seconds: Any) -> None:
    error = ValueError if isinstance(seconds, (int, float)) else TypeError
    with pytest.raises(error):
        after(seconds)
    with pytest.raises(error):
        tick(seconds)
    with pytest.raises(ValueError, match=r"^period must be > 0, got 0$"):
        tick(0)
    assert after(0).recv() <= time.monotonic()
    with pytest.raises(TypeError):
        Timer()
