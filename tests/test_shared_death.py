"""Processes that end, stop, fork, daemonize and close what is not theirs while they hold permits."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import Peer, peer, peers
from support import Crew, wait_until

from sluicegate.multiprocessing import BoundedSemaphore

# `fcntl.F_OFD_SETLK`, which Python 3.11 has not.
F_OFD_SETLK = 37

pytestmark = pytest.mark.thread_unsafe(reason="it runs processes of its own")


def named(directory: Path, capacity: int = 1) -> BoundedSemaphore:
    return BoundedSemaphore.named("death", capacity, dir=directory)


def join(directory: Path, capacity: int = 1) -> str:
    return f"sem = BoundedSemaphore.named('death', {capacity}, dir={str(directory)!r})"


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGSEGV", "os._exit(3)", "sys.exit()"])
def test_a_permit_comes_back_however_its_holder_ends(how: str, tmp_path: Path) -> None:
    sem = named(tmp_path)
    with peer(join(tmp_path)) as holder:
        assert holder("sem.acquire()") and not sem.acquire(False)
        if how.startswith("SIG"):
            holder.signal(getattr(signal, how))
        else:
            holder.tell(how)
        wait_until(lambda: gone(holder.pid))
        assert sem.acquire(False)
        sem.release()
        assert sem.get_value() == 1 and sem.holders() == []


def test_a_holder_that_is_not_yet_buried_holds_nothing(tmp_path: Path) -> None:
    sem = named(tmp_path)
    with peer(join(tmp_path)) as holder:
        holder("sem.acquire()")
        holder.kill(reap=False)
        wait_until(lambda: holder.state() == "Z")
        assert sem.acquire(False)


def test_all_the_permits_of_a_killed_process_come_back_and_only_those(tmp_path: Path) -> None:
    sem = named(tmp_path, 10)
    sem.acquire()
    with peers(2, join(tmp_path, 10)) as (doomed, other):
        for _ in range(5):
            doomed("sem.acquire()")
        other("sem.acquire()")
        assert sem.get_value() == 3
        doomed.kill()
        assert sem.get_value() == 8
        assert sorted(holder.pid for holder in sem.holders()) == sorted([os.getpid(), other.pid])
    sem.release()


def test_a_waiter_has_a_killed_holders_permit_within_milliseconds_and_costs_next_to_nothing(
    tmp_path: Path,
) -> None:
    sem = named(tmp_path)
    delays = []
    with Crew() as crew:
        for _ in range(15):
            with peer(join(tmp_path)) as holder:
                assert holder("sem.acquire()")
                waiter = crew.start(lambda: (sem.acquire(timeout=30), time.monotonic()))
                wait_until(lambda: sem.waiting == 1)
                time.sleep(0.03)
                killed = time.monotonic()
                holder.kill(reap=False)
                taken, when = waiter.result()
                assert taken
                delays.append(when - killed)
                sem.release()
    print(f"a killed holder's permit: median {statistics.median(delays):.4f} s, worst {max(delays):.4f} s")
    assert statistics.median(delays) < 0.025, delays


def test_waiting_costs_less_than_a_hundredth_of_a_core(tmp_path: Path) -> None:
    sem = named(tmp_path)
    sem.acquire()
    with peers(2, join(tmp_path)) as crew:
        for waiter in crew:
            waiter.tell("sem.acquire()")
        wait_until(lambda: sem.waiting == 2)

        def used(pid: int) -> float:
            with open(f"/proc/{pid}/schedstat") as schedstat:
                return int(schedstat.read().split()[0]) / 1e9

        begin, before = time.monotonic(), [used(waiter.pid) for waiter in crew]
        time.sleep(2)
        shares = [
            (used(waiter.pid) - then) / (time.monotonic() - begin)
            for waiter, then in zip(crew, before, strict=True)
        ]
        print(f"of a core, while waiting: {[f'{share:.4f}' for share in shares]}")
        assert max(shares) < 0.01
        sem.release()


def test_a_stopped_holder_keeps_its_permit(tmp_path: Path, factor: int) -> None:
    sem = named(tmp_path)
    with peer(join(tmp_path)) as holder:
        holder("sem.acquire()")
        holder.signal(signal.SIGSTOP)
        wait_until(lambda: holder.state() == "T")
        assert not sem.acquire(timeout=min(10.0, 0.5 * factor))
        holder.signal(signal.SIGCONT)
        assert holder("sem.release()") is None
        assert sem.acquire(timeout=10)
        sem.release()


def test_a_stopped_sweeper_is_replaced(tmp_path: Path) -> None:
    sem = named(tmp_path)
    with peers(2, join(tmp_path)) as (holder, sweeper):
        holder("sem.acquire()")
        sweeper.tell("sem.acquire()")
        wait_until(lambda: sem.waiting == 1)
        time.sleep(0.02)
        sweeper.signal(signal.SIGSTOP)
        wait_until(lambda: sweeper.state() == "T")
        with Crew() as crew:
            waiter = crew.start(sem.acquire, True, 30)
            wait_until(lambda: sem.waiting == 2)
            holder.kill()
            killed = time.monotonic()
            assert waiter.result()
            # Not by the last look before its time is over.
            assert time.monotonic() - killed < 10
        sem.release()


def test_a_child_without_exec_keeps_nothing_of_a_killed_parent(tmp_path: Path) -> None:
    sem = named(tmp_path, 2)
    with peer(join(tmp_path, 2)) as parent:
        parent("sem.acquire()")
        child = parent("pid = os.fork()\nif pid == 0:\n    __import__('signal').pause()") or parent("pid")
        try:
            assert sem.get_value() == 1
            parent.kill()
            assert sem.get_value() == 2
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_description_inherited_past_the_fork_handlers_keeps_nothing(tmp_path: Path) -> None:
    sem = named(tmp_path)
    with peer(join(tmp_path)) as parent:
        parent("sem.acquire()")
        # A child by the bare system call: no handler closes its copy of the lock.
        child = parent(
            "import ctypes, platform\n"
            "pid = ctypes.CDLL(None).syscall({'x86_64': 56, 'aarch64': 220}[platform.machine()], 17, 0, 0, 0, 0)\n"
            "if pid == 0:\n"
            "    __import__('signal').pause()"
        ) or parent("pid")
        try:
            parent.kill()
            assert sem.acquire(timeout=5)
            sem.release()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_holder_that_closes_every_descriptor_keeps_its_permit(tmp_path: Path) -> None:
    sem = named(tmp_path, 2)
    with peer(join(tmp_path, 2)) as holder:
        holder("sem.acquire()")
        holder(
            "fds = [int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')]"
        )
        holder("ours = [fd for fd in fds if 'death' in os.readlink(f'/proc/self/fd/{fd}')]")
        assert len(holder("ours")) == 2
        holder("[os.close(fd) for fd in ours]")
        # And something else has the numbers now, which must survive us.
        holder("others = [os.open('/dev/null', os.O_RDONLY) for _ in ours]")
        assert sem.get_value() == 1
        assert sem.acquire(False) and not sem.acquire(timeout=0.3)
        # Who comes now takes another place than the one that looks free.
        with peer(join(tmp_path, 2)) as late:
            assert not late("sem.acquire(timeout=0.1)")
        assert holder("sem.release()") is None
        assert holder("sem.acquire(timeout=5)") and holder("sem.release()") is None
        holder("del sem")
        assert holder("[os.fstat(fd).st_rdev for fd in others]")[0] == os.stat("/dev/null").st_rdev
        holder.kill()
        assert sem.get_value() == 1
    sem.release()


def test_a_daemon_is_a_member_of_its_own(tmp_path: Path) -> None:
    sem = named(tmp_path, 3)
    program = f"""
from sluicegate.multiprocessing import BoundedSemaphore
import os, time
{join(tmp_path, 3)}
sem.acquire()
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for fd in range(256):
    try:
        os.close(fd)
    except OSError:
        pass
sem.acquire()
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
time.sleep(60)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    daemon = int((tmp_path / "pid").read_text())
    try:
        # The first process's permit came back; the daemon has one, though it holds no lock on anything.
        wait_until(lambda: sem.get_value() == 2)
        assert [holder.pid for holder in sem.holders()] == [daemon]
    finally:
        os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: gone(daemon))
    assert sem.get_value() == 3


def test_a_holder_that_becomes_another_program_has_let_go(tmp_path: Path) -> None:
    sem = named(tmp_path)
    with peer(join(tmp_path)) as holder:
        holder("sem.acquire()")
        assert sem.get_value() == 0
        holder.tell("os.execv('/bin/sleep', ['sleep', '60'])")
        wait_until(lambda: Path(f"/proc/{holder.pid}/comm").read_text().strip() == "sleep")
        assert sem.get_value() == 1


def test_a_holder_in_a_pid_namespace_of_its_own_is_judged_by_its_lock(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    flags = ("--fork", "--pid", "--kill-child=SIGKILL")
    if not unshare or subprocess.run([unshare, *flags, "true"], capture_output=True).returncode:
        pytest.skip("unshare --pid is not allowed here")
    for more in ((), ("--mount-proc",)):
        directory = tmp_path / f"with{''.join(more)}"
        directory.mkdir()
        sem = named(directory)
        with peer(join(directory), prefix=(unshare, *flags, *more)) as holder:
            assert holder("os.getpid()") == 1
            assert holder("sem.acquire()")
            assert not sem.acquire(timeout=0.2)
            holder("sem.release()")
            assert sem.acquire(timeout=5)
            # Nor does it take us for dead, whom it cannot see.
            assert holder("sem.acquire(timeout=0.2)") is False
            sem.release()
            assert holder("sem.acquire()")
            began = time.monotonic()
            holder.kill()
            assert sem.acquire(timeout=5)
            print(f"from another PID namespace: {time.monotonic() - began:.4f} s")
            sem.release()


def test_permits_of_everybody_killed_are_free_to_who_comes_next(tmp_path: Path) -> None:
    with peers(4, join(tmp_path, 4)) as crew:
        assert all(holder("sem.acquire()") for holder in crew)
        for holder in crew:
            holder.kill()
    assert len(list(tmp_path.iterdir())) == 1
    sem = named(tmp_path, 4)
    assert sem.get_value() == 4
    assert all(sem.acquire(False) for _ in range(4))
    sem.release(4)


def test_more_processes_than_places_is_an_error_and_a_place_comes_free(tmp_path: Path) -> None:
    sem = named(tmp_path)
    assert sem.path is not None
    # Somebody else holds all the locks of members from the second on.
    with open(sem.path, "r+b") as blocker:
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 40) + 1, 1023, 0)
        fcntl.fcntl(blocker.fileno(), F_OFD_SETLK, lock)
        with peer() as late:
            late("import errno")
            late(
                f"try:\n    {join(tmp_path)}\n    error = None\nexcept OSError as raised:\n    error = raised.errno"
            )
            assert late("error") == 28
            blocker.close()
            late(join(tmp_path))
            assert late("sem.acquire()")


@pytest.mark.parametrize("keeper", ["the parent", "the child"])
def test_a_permit_stays_with_the_process_that_took_it_whoever_ends_first(keeper: str, tmp_path: Path) -> None:
    sem = named(tmp_path, 2)
    with peer(join(tmp_path, 2)) as parent:
        taken_by_child = "sem.acquire()" if keeper == "the child" else "None"
        if keeper == "the parent":
            parent("sem.acquire()")
        child = parent(
            f"pid = os.fork()\nif pid == 0:\n    {taken_by_child}\n    __import__('signal').pause()"
        )
        child = child or parent("pid")
        wait_until(lambda: sem.get_value() == 1)
        other = parent.pid if keeper == "the child" else child
        os.kill(other, signal.SIGKILL)
        wait_until(lambda: gone(other))
        assert sem.get_value() == 1
        os.kill(child if keeper == "the child" else parent.pid, signal.SIGKILL)
        wait_until(lambda: sem.get_value() == 2)


def test_a_peer_can_be_asked() -> None:
    """The tests' own helper: what goes wrong over there is told here."""
    with peer() as other:
        assert other("1 + 1") == 2
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            other("1 / 0")
    assert isinstance(other, Peer)
