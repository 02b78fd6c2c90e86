"""The real program: acts that run on the stdlib's classes and on ours, and must give the same answer."""

import hashlib
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import sluicegate
from sluicegate._bench import pools, sources
from sluicegate._bench.sources import Sources
from sluicegate._bench.timing import Figure, Pace, Row, Section, Trial


@dataclass(frozen=True)
class Classes:
    """What the program is built from: all that differs between two of its runs."""

    name: str
    Semaphore: Callable[[int], AbstractContextManager[object]]
    Pool: Callable[[Callable[[], sqlite3.Connection], int], pools.Pool] = pools.LifoPool


CLASSES = (
    Classes("sluicegate", Semaphore=sluicegate.Semaphore, Pool=sluicegate.ConnectionPool),
    Classes("stdlib", Semaphore=threading.Semaphore, Pool=pools.LifoPool),
)


@dataclass(frozen=True)
class Outcome:
    """What an act came to."""

    answer: str
    """Must not depend on the classes."""
    seen: tuple[float, ...] = ()
    """One number for each figure of the act; these may."""


@dataclass(frozen=True)
class Act:
    """A part of the program. Its time is taken by whoever runs it."""

    name: str
    run: Callable[[Classes, Sources], Outcome]
    figures: tuple[Figure, ...] = ()


SECONDS = Figure("s")

PERMITS = max(2, min(8, os.cpu_count() or 1))
THREADS = 4 * PERMITS


def digest_files(classes: Classes, files: Sources) -> Outcome:
    """Threads take the files one by one; as many as there are permits read, hash and compress at a time."""
    semaphore = classes.Semaphore(PERMITS)
    todo = deque(files.names)
    digests: dict[str, str] = {}
    counting = threading.Lock()
    inside = most_inside = 0

    def work() -> tuple[int, float]:
        nonlocal inside, most_inside
        done, longest_wait = 0, 0.0
        while True:
            try:
                name = todo.popleft()
            except IndexError:
                return done, longest_wait
            asked = time.perf_counter()
            with semaphore:
                longest_wait = max(longest_wait, time.perf_counter() - asked)
                with counting:
                    inside += 1
                    most_inside = max(most_inside, inside)
                digests[name] = sources.digest(files.root / name)
                with counting:
                    inside -= 1
            done += 1

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            workers = [pool.submit(work) for _ in range(THREADS)]
            done, waits = zip(*(worker.result() for worker in workers), strict=True)
        finally:
            # After an error or Ctrl-C the other threads are not to go on to the end.
            todo.clear()
    whole = hashlib.sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode())
    kept = f"at most {PERMITS}" if most_inside <= PERMITS else f"not {PERMITS} but {most_inside}"
    return Outcome(
        f"{len(digests):,} files, {kept} at a time, sha256 {whole.hexdigest()[:16]}",
        (max(waits) * 1e3, min(done) / max(done)),
    )


def store_results(classes: Classes, files: Sources) -> Outcome:
    return Outcome(pools.store(classes.Pool, files))


ACTS = (
    Act(
        f"digest files, {THREADS} threads, {PERMITS} at a time",
        digest_files,
        (Figure("ms", "less", "longest wait"), Figure("share", "more", "least / most served")),
    ),
    Act("store results, 8 threads, 2 connections to SQLite", store_results),
)

Answers = dict[str, dict[str, list[str]]]
"""By act, by classes: one for each run."""


def program(files: Sources, answers: Answers, acts: Sequence[Act]) -> Section:
    """The acts as rows of a table. Every run leaves its answer in `answers`."""

    def trial(act: Act, classes: Classes) -> Trial:
        def run() -> tuple[float, ...]:
            began = time.perf_counter()
            outcome = act.run(classes, files)
            took = time.perf_counter() - began
            answers.setdefault(act.name, {}).setdefault(classes.name, []).append(outcome.answer)
            return took, *outcome.seen

        return lambda effort: run

    rows = (
        Row(act.name, {classes.name: trial(act, classes) for classes in CLASSES}, (SECONDS, *act.figures))
        for act in acts
    )
    return Section("The program", tuple(rows), pace=Pace.PROGRAM)


def differences(answers: Answers) -> list[str]:
    """What was answered by each act that did not give one and the same answer in all its runs."""
    return [
        f"{act}: {name} answered {' and '.join(sorted(set(given)))}"
        for act, runs in answers.items()
        if len({answer for given in runs.values() for answer in given}) > 1
        for name, given in runs.items()
    ]
