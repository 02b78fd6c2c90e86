"""The laws of the house, as far as a look at the tree can check them; CONTRIBUTING.md lists them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUST = sorted(ROOT.glob("src/**/*.rs"))
CODE = [
    *RUST,
    *(
        path
        for folder in ("python", "tests", "benches", "examples")
        for path in ROOT.glob(f"{folder}/**/*.py")
    ),
]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
# The futex, the fork handlers, calls without ceremony, and a page that processes share.
UNSAFE = {
    "src/core/fork.rs",
    "src/core/park.rs",
    "src/core/shared/member.rs",
    "src/core/shared/page.rs",
    "src/core/shared/sys.rs",
    "src/python/fast.rs",
    "src/python/shared.rs",
}
# A waiter's own word; a word that processes share; a door that is shut for microseconds.
SLEEPS = {"src/core/park.rs", "src/core/shared/sys.rs", "src/core/shared/member.rs"}
LONGEST = 600

pytestmark = pytest.mark.skipif(not RUST, reason="not in the source tree")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def shipped(path: Path) -> list[str]:
    """The lines of a Rust file that are not its tests; those stand last, or in a file called tests.rs."""
    lines = path.read_text().splitlines()
    if path.name == "tests.rs":
        return []
    tests = next((at for at, line in enumerate(lines) if re.match(r"mod (tests|models)\b", line)), len(lines))
    return lines[:tests]


def found(pattern: str, paths: list[Path]) -> list[str]:
    return [
        f"{name(path)}: {line.strip()}"
        for path in paths
        for line in shipped(path)
        if re.search(pattern, line.partition("//")[0])
    ]


def where(pattern: str) -> set[str]:
    return {line.partition(":")[0] for line in found(pattern, RUST)}


def test_threads_leave_the_interpreter_in_one_place() -> None:
    assert len(found(r"\.detach\(", RUST)) == 1


def test_the_core_knows_no_python() -> None:
    assert found(r"\bpyo3\b|\bpython\b", [path for path in RUST if "core" in path.parts]) == []


def test_locks_have_one_origin() -> None:
    assert where("parking_lot") <= {"src/core/sync.rs"}


def test_threads_sleep_in_few_files() -> None:
    assert where(r"SYS_futex|Condvar|thread::(park|sleep)") <= SLEEPS


def test_nothing_is_interned_after_the_import() -> None:
    """`intern!` lets other threads run while it fills its cell: a child forked then would wait for ever for it."""
    assert found(r"intern!\(", RUST) == []


def test_nothing_panics_by_design() -> None:
    assert found(r"\.(unwrap|expect)\(", RUST) == []


def test_unsafe_code_lives_in_few_files() -> None:
    assert where(r"\bunsafe\b(?!_code)") <= UNSAFE


@pytest.mark.parametrize("path", RUST, ids=name)
def test_unsafe_code_argues_its_case(path: Path) -> None:
    lines = shipped(path)
    for at, line in enumerate(lines):
        if re.search(r"\bunsafe (\{|impl|extern)", line):
            assert "SAFETY:" in " ".join(lines[max(at - 6, 0) : at]), f"{name(path)}:{at + 1}: {line.strip()}"


@pytest.mark.parametrize("path", CODE, ids=name)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    length = len(path.read_text().splitlines())
    assert length <= LONGEST


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_promise_names_its_test() -> None:
    table = (ROOT / "README.md").read_text().partition("## Promises")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| **")]
    assert len(rows) >= 6
    assert [row for row in rows if "](tests/" not in row] == []


def test_ci_runs_what_the_readme_says() -> None:
    commands = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert commands
    script = (ROOT / ".ci/run").read_text()
    asked = [line.partition("  #")[0].strip() for line in commands[1].splitlines()]
    assert len(asked) == 2
    assert [command for command in asked if f'"{command}"' not in script] == []
