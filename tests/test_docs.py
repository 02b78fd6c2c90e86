"""Whatever the documentation shows is run: each ```python block of the pages, each example of a docstring."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sluicegate
import sluicegate.queue

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CLASSES = [
    *(getattr(sluicegate, name) for name in sluicegate.__all__),
    *(getattr(sluicegate.queue, name) for name in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue")),
]


def program(page: Path) -> str:
    """The blocks of a page as one program, each line in its place, so that a traceback finds the page's."""
    text = page.read_text()
    lines: list[str] = []
    for block in BLOCK.finditer(text):
        lines += [""] * (text.count("\n", 0, block.start(1)) - len(lines))
        lines += block[1].splitlines()
    return "\n".join(lines)


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.thread_unsafe(reason="starts a program")
@pytest.mark.parametrize("page", [page for page in PAGES if program(page)], ids=relative)
def test_the_code_of_a_page_runs(page: Path) -> None:
    run = f"exec(compile({program(page)!r}, {relative(page)!r}, 'exec'), {{'__name__': '__main__'}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", run], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_has_code() -> None:
    assert program(ROOT / "README.md").count("import") >= 2


def examples() -> list[doctest.DocTest]:
    parser, found = doctest.DocTestParser(), []
    for cls in CLASSES:
        for name, text in [
            ("", cls.__doc__),
            *((f".{key}", member.__doc__) for key, member in getattr(cls, "__dict__", {}).items()),
        ]:
            if isinstance(text, str) and ">>>" in text:
                found.append(parser.get_doctest(text, {}, cls.__name__ + name, None, 0))
    return found


@pytest.mark.thread_unsafe(reason="doctest redirects the standard output of the process")
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_example_of_a_docstring_holds(example: doctest.DocTest) -> None:
    report: list[str] = []
    copy = doctest.DocTest(example.examples, {}, example.name, None, 0, example.docstring)
    doctest.DocTestRunner().run(copy, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if not (isinstance(cls, type) and issubclass(cls, Exception))]
)
def test_every_class_shows_an_example(cls: type) -> None:
    assert cls.__name__ in {example.name for example in examples()}
