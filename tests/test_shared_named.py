"""Semaphores that unrelated processes find by a name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from peers import peer, peers
from support import Crew, report, run_python, wait_until

from sluicegate.multiprocessing import BoundedSemaphore, SegmentRemoved, Semaphore


def join(directory: Path, capacity: int = 2) -> str:
    return f"sem = BoundedSemaphore.named('pg-main', {capacity}, dir={str(directory)!r})"


def named(directory: Path, capacity: int = 2) -> BoundedSemaphore:
    return BoundedSemaphore.named("pg-main", capacity, dir=directory)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_unrelated_processes_meet_under_a_name(tmp_path: Path) -> None:
    sem = named(tmp_path)
    with peers(2, join(tmp_path)) as (one, two):
        assert one("sem.acquire()") and two("sem.acquire()")
        assert not sem.acquire(False)
        one("sem.release()")
        assert sem.acquire(timeout=10)
        with pytest.raises(AssertionError, match="released too many times"):
            one("sem.release()")
        sem.release()


def test_its_file_is_the_users_own_and_the_last_one_out_removes_it(tmp_path: Path) -> None:
    sem = named(tmp_path)
    assert files(tmp_path) == [f"sluicegate-{os.geteuid()}-pg-main"]
    assert sem.path == tmp_path / files(tmp_path)[0]
    seen = os.stat(sem.path)
    assert stat.S_IMODE(seen.st_mode) == 0o600 and seen.st_uid == os.geteuid()
    with peer(join(tmp_path)) as other:
        del sem
        assert len(files(tmp_path)) == 1
        other("del sem")
        assert files(tmp_path) == []


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "os.waitpid(os.fork() or os._exit(0), 0)"])
def test_the_end_of_a_process_is_its_way_out(end: str, tmp_path: Path) -> None:
    code = (
        "import os, sys, warnings\n"
        "from sluicegate.multiprocessing import BoundedSemaphore\n"
        "sem = BoundedSemaphore.named('at-exit', 1, dir=sys.argv[1])\n"
        "keep = [sem]\nkeep.append(keep)\n"
        "with sem: pass\n"
        f"{end}\n"
    )
    done = run_python(code, str(tmp_path))
    assert not done.stderr and done.returncode == (3 if "3" in end else 0), report(done)
    wait_until(lambda: files(tmp_path) == [])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_leave_in_good_order_too(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "from sluicegate.multiprocessing import BoundedSemaphore, get_context\n"
        "def child(directory):\n"
        "    global sem\n"
        "    sem = BoundedSemaphore.named('child', 1, dir=directory)\n"
        "    with sem: pass\n"
        "if __name__ == '__main__':\n"
        "    process = get_context(sys.argv[1]).Process(target=child, args=(sys.argv[2],))\n"
        "    process.start(); process.join(); sys.exit(process.exitcode)\n"
    )
    directory = tmp_path / "shared"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), method, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and not done.stderr, report(done)
    assert files(directory) == []


def test_a_parent_that_ends_first_does_not_take_the_name_from_its_child(tmp_path: Path) -> None:
    # The child has not used the semaphore yet, so nothing but the fork itself can have made it a member.
    code = (
        "import os, sys, time\n"
        "from sluicegate.multiprocessing import BoundedSemaphore\n"
        "sem = BoundedSemaphore.named('launcher', 1, dir=sys.argv[1])\n"
        "if os.fork(): sys.exit(0)\n"
        "os.close(1); os.close(2)\n"
        "while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.01)\n"
        "with sem: pass\n"
        "open(sys.argv[1] + '/went', 'w').close()\n"
    )
    run_python(code, str(tmp_path))
    assert len(files(tmp_path)) == 1
    (tmp_path / "go").touch()
    wait_until((tmp_path / "went").exists)
    wait_until(lambda: files(tmp_path) == ["go", "went"])


def test_a_capacity_that_differs_is_an_error_while_somebody_uses_it(tmp_path: Path) -> None:
    with peer(join(tmp_path, 2)) as other:
        with pytest.raises(ValueError, match="has a capacity of 2, not of 3"):
            named(tmp_path, 3)
        assert other("sem.capacity") == 2
        other.kill()
        # Nobody does any more, and nobody is bound by what the dead wanted.
        assert named(tmp_path, 3).get_value() == 3
    assert files(tmp_path) == []


def test_a_file_that_is_not_safe_is_refused(tmp_path: Path) -> None:
    path = named(tmp_path).path
    assert path is not None
    path.write_bytes(b"")
    path.chmod(0o600)
    with pytest.raises(OSError, match="too short"):
        named(tmp_path)
    path.write_bytes(b"something else" * 10000)
    with pytest.raises(OSError, match="something else"):
        named(tmp_path)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="other users may"):
        named(tmp_path)
    path.unlink()
    (tmp_path / "elsewhere").touch(mode=0o600)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="not a regular file"):
        named(tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(OSError, match="not a regular file"):
        named(tmp_path)
    path.unlink()
    if os.geteuid() == 0:
        path.touch(mode=0o600)
        os.chown(path, 65534, 65534)
        with pytest.raises(PermissionError, match="belongs to another user"):
            named(tmp_path)
    with pytest.raises(FileNotFoundError):
        BoundedSemaphore.named("x", 1, dir=tmp_path / "nowhere")
    with pytest.raises(OSError):
        BoundedSemaphore.named("x" * 300, 1, dir=tmp_path)


@pytest.mark.parametrize("name", ["a/b", "../up", "", "ü", "a b", ".."])
def test_any_text_is_a_name(name: str, tmp_path: Path) -> None:
    sem = BoundedSemaphore.named(name, 1, dir=tmp_path)
    assert sem.path is not None and sem.path.parent == tmp_path and sem.path.exists()
    assert BoundedSemaphore.named(name, 1, dir=tmp_path).path == sem.path
    assert BoundedSemaphore.named(name + "2", 1, dir=tmp_path).path != sem.path


def test_without_a_directory_it_is_in_dev_shm() -> None:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    sem = BoundedSemaphore.named(name, 1)
    assert str(sem.path) == f"/dev/shm/sluicegate-{os.geteuid()}-{name}"
    path = sem.path
    del sem
    assert path is not None and not path.exists()


def test_two_objects_of_one_process_are_one_member(tmp_path: Path) -> None:
    one, two = named(tmp_path), named(tmp_path)
    one.acquire()
    two.release()
    assert one.get_value() == two.get_value() == 2


def test_a_permit_outlives_the_object_it_was_taken_through(tmp_path: Path) -> None:
    with peer(join(tmp_path)) as other:
        other("sem.acquire()")
        other("del sem")
        sem = named(tmp_path)
        assert sem.get_value() == 1
        other(join(tmp_path))
        other("sem.release()")
        assert sem.get_value() == 2


def has_ended(sem: BoundedSemaphore) -> bool:
    try:
        sem.acquire()
    except SegmentRemoved:
        return True
    sem.release()
    return False


@pytest.mark.parametrize("by", ["unlink", "rm"])
def test_who_uses_a_name_that_was_taken_away_is_told(by: str, tmp_path: Path) -> None:
    sem = named(tmp_path, 1)
    with peer(join(tmp_path, 1)) as other, Crew() as crew:
        other("sem.acquire()")
        waiter = crew.queue_up(sem, sem.acquire, True, 60)
        assert sem.path is not None
        if by == "rm":
            sem.path.unlink()
        else:
            sem.unlink()
        assert isinstance(waiter.error(), SegmentRemoved)
        with pytest.raises(SegmentRemoved):
            sem.acquire(False)
        # What is held can be given back, and is nobody's afterwards: within a second the old group ends.
        assert other("sem.release()") is None
        new = named(tmp_path, 1)
        assert new.path == sem.path and new.get_value() == 1

        wait_until(partial(has_ended, sem), 10)
        with pytest.raises(SegmentRemoved):
            sem.unlink()
        del sem
        # The end of the old group leaves the new one's file alone.
        assert len(files(tmp_path)) == 1
    assert issubclass(SegmentRemoved, OSError)


def test_what_has_no_name_cannot_lose_it() -> None:
    with pytest.raises(SegmentRemoved):
        BoundedSemaphore(1).unlink()
    assert BoundedSemaphore(1).path is None
    assert not hasattr(Semaphore, "named")


def test_many_processes_that_come_and_go_at_once_never_split(tmp_path: Path) -> None:
    line = f"[{join(tmp_path).partition(' = ')[2]}.capacity for _ in range(300)]"
    with peers(4) as crew:
        for other in crew:
            other.tell(line)
        for other in crew:
            assert other.answer(60) == [2] * 300
    assert files(tmp_path) == []


def test_a_page_of_another_kind_is_refused() -> None:
    sem = BoundedSemaphore(1)
    with pytest.raises(TypeError, match="another kind"):
        Semaphore._open(os.dup(sem._fileno()))
