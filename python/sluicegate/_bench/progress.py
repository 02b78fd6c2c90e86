"""The line shown while it works: by rich if it is there, plain without it, none where nobody watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Step = Callable[[str], None]
"""Says what is done next, each time that one of the announced steps begins."""


@contextmanager
def progress(steps: int) -> Iterator[Step]:
    """A line on stderr, gone when it is done: what is on stdout can be piped."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    try:
        import rich  # noqa: F401
    except ImportError:
        shown = _plain(steps)
    else:
        shown = _rich(steps)
    with shown as step:
        yield step


@contextmanager
def _plain(steps: int) -> Iterator[Step]:
    begun = 0

    def step(what: str) -> None:
        nonlocal begun
        sys.stderr.write(f"\r\x1b[K{begun * 100 // steps:3d} %  {what}")
        sys.stderr.flush()
        begun += 1

    try:
        yield step
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextmanager
def _rich(steps: int) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    # No refresh by a thread of its own: it would compete with the threads that are measured.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as line:
        task = line.add_task("", total=steps)
        begun = 0

        def step(what: str) -> None:
            nonlocal begun
            line.update(task, completed=begun, description=what, refresh=True)
            begun += 1

        yield step
