"""`python -m sluicegate`: what it prints, writes, refuses and returns. No figure is judged here."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluicegate import bench
from sluicegate._bench import sources
from sluicegate._bench.program import ACTS, CLASSES, PERMITS, Act, Classes, Outcome, digest_files, program
from sluicegate._bench.rows import SECTIONS
from sluicegate._bench.sources import Sources
from sluicegate._bench.timing import QUICK, Figure, Pace, Result, measure

pytestmark = pytest.mark.thread_unsafe(reason="whole processes, and timings that need the machine")

WITHOUT = """
import runpy, sys
sys.modules[sys.argv.pop(1)] = None  # what import makes of it: not found
runpy.run_module("sluicegate", run_name="__main__", alter_sys=True)
"""


def run(*arguments: object, without: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with one module hidden from it if so asked."""
    start = ["-m", "sluicegate"] if without is None else ["-c", WITHOUT, without]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=100)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What one quick run prints and writes."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    done = run("--quick", "--json", file)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a progress line where nobody watches"
    return done.stdout, json.loads(file.read_text(encoding="utf-8"))


def test_both_runs_of_the_program_give_the_same_answer(written: tuple[str, dict[str, Any]]) -> None:
    printed, report = written
    assert report["same_answer"] is True
    for act in ACTS:
        runs = report["answers"][act.name]
        assert set(runs) == {"sluicegate", "stdlib"}
        assert runs["sluicegate"] == runs["stdlib"]
        (answer,) = runs["stdlib"]
        assert answer in printed


def test_every_row_is_in_the_json(written: tuple[str, dict[str, Any]]) -> None:
    expected = {("The program", act.name): {classes.name for classes in CLASSES} for act in ACTS}
    expected |= {(section.name, row.name): set(row.rivals) for section in SECTIONS for row in section.rows}
    seen = {(row["section"], row["name"]): set(row["medians"]) for row in written[1]["rows"]}
    assert expected.items() <= seen.items()
    # Beyond the rows there are only their further figures.
    assert {name.partition(": ")[0] for _, name in seen} == {name for _, name in expected}


def test_the_json_has_the_promised_fields(written: tuple[str, dict[str, Any]]) -> None:
    report = written[1]
    assert set(report) == {"schema", "environment", "same_answer", "answers", "rows"}
    assert report["schema"] == 1
    assert set(report["environment"]) == {"sluicegate", "python", "gil", "platform", "cores", "load"}
    for row in report["rows"]:
        assert set(row) == {"section", "name", "unit", "better", "medians", "ratios"}
        assert row["better"] in {"less", "more"}
        assert all(isinstance(median, float | int) and median >= 0 for median in row["medians"].values())
        ours, *rivals = row["medians"]
        assert ours.startswith("sluicegate")
        assert list(row["ratios"]) == rivals
        assert all(ratio is None or ratio >= 0 for ratio in row["ratios"].values())


def test_every_row_and_rival_is_in_the_table(written: tuple[str, dict[str, Any]]) -> None:
    printed = written[0]
    for section in SECTIONS:
        assert section.name in printed
        for row in section.rows:
            assert row.name in printed
            assert all(part in printed for rival in row.rivals for part in rival.split("."))


def test_the_ratios_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "ratios.svg"
    done = run("--quick", "--plot", file)
    assert done.returncode == 0, done.stderr
    assert "<svg" in file.read_text(encoding="utf-8")


def test_a_plot_without_matplotlib_is_refused_before_the_work(tmp_path: Path) -> None:
    file = tmp_path / "ratios.svg"
    done = run("--quick", "--plot", file, without="matplotlib")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "--plot needs matplotlib, which is not installed: pip install 'sluicegate[bench]'"
    )
    assert done.stdout == ""
    assert not file.exists()


@pytest.mark.parametrize("flag", ["--json", "--plot"])
def test_a_file_in_a_missing_directory_is_refused_before_the_work(tmp_path: Path, flag: str) -> None:
    done = run("--quick", flag, tmp_path / "missing" / "file")
    assert done.returncode == 2
    assert f"there is no directory {tmp_path / 'missing'}" in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
@pytest.mark.parametrize("without", ["rich", "no module of this name"])
def test_who_watches_sees_progress_with_and_without_rich(without: str) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", WITHOUT, without, "--quick"]
    done = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b"".join(_read(ours))
    os.close(ours)
    assert done.wait(timeout=100) == 0
    assert b"reading the standard library" in shown


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux: nobody has the other end open any more
            return
        if not chunk:
            return
        yield chunk


def test_different_answers_are_shown_and_fail_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(classes: Classes, files: Sources) -> Outcome:
        return Outcome(f"I am {classes.name}")

    monkeypatch.setattr(bench, "ACTS", (Act("name yourself", tell),))
    monkeypatch.setattr(bench, "SECTIONS", ())
    assert bench.run(quick=True) == 1
    printed = capsys.readouterr().out
    assert "DIFFERENT ANSWERS" in printed
    assert "name yourself: sluicegate answered I am sluicegate" in printed
    assert "name yourself: stdlib answered I am stdlib" in printed


class Sieve:
    """A semaphore that lets everybody in."""

    def __init__(self, permits: int) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def test_the_program_sees_a_semaphore_that_lets_too_many_in() -> None:
    files = sources.find(QUICK.seconds[Pace.PROGRAM])
    sound, leaky = (
        digest_files(Classes("sound", Semaphore=CLASSES[1].Semaphore), files).answer,
        digest_files(Classes("leaky", Semaphore=Sieve), files).answer,
    )
    assert f"at most {PERMITS} at a time" in sound
    assert f"not {PERMITS} but " in leaky


def test_a_library_without_sources_is_named(tmp_path: Path) -> None:
    with pytest.raises(sources.NoSources, match=f"no .py files under {tmp_path}"):
        sources.find(0.1, tmp_path)


def test_the_sources_are_a_mixture_that_is_the_same_every_time() -> None:
    few, more = sources.find(0.01), sources.find(0.1)
    assert more.names[: len(few.names)] == few.names
    assert list(more.names) != sorted(more.names)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    less = Result("section", "row", Figure("ns"), {"ours": [1.0, 10.0, 2.0], "theirs": [2.0, 40.0, 2.0]})
    assert less.medians == {"ours": 2.0, "theirs": 2.0}
    assert less.ratios == {"theirs": 2.0}
    more = Result("section", "row", Figure("pairs/s", "more"), {"ours": [4.0], "theirs": [2.0]})
    assert more.ratios == {"theirs": 2.0}


def test_a_rival_that_never_got_in_has_no_ratio_in_the_json() -> None:
    starved = Result(
        "section", "row", Figure("share", "more"), {"ours": [0.5], "theirs": [0.0], "also": [0.5]}
    )
    assert starved.as_json()["ratios"] == {"theirs": None, "also": 1.0}


def test_each_round_runs_every_rival_of_every_act() -> None:
    order: list[str] = []

    def tell(classes: Classes, files: Sources) -> Outcome:
        order.append(classes.name)
        return Outcome("the same")

    files = Sources(Path(), (), 0, 0.0)
    measure(program(files, {}, (Act("tell", tell),)), QUICK, step=lambda section: None)
    for start in range(0, len(order), 2):
        assert set(order[start : start + 2]) == {"sluicegate", "stdlib"}
    assert len(order) == 2 * QUICK.rounds[Pace.PROGRAM]
