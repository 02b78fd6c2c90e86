"""The ratios, drawn. Needs matplotlib, which the extra `sluicegate[bench]` brings."""

from collections.abc import Sequence
from math import inf
from pathlib import Path

from sluicegate._bench.report import Environment, times
from sluicegate._bench.timing import Result


def draw(results: Sequence[Result], environment: Environment, file: Path) -> None:
    """A group of bars for each figure, a bar for each rival: how many times better ours is."""
    # Here, so that everything else works without it.
    from matplotlib.figure import Figure

    groups = [(result, _drawable(result)) for result in results if _drawable(result)]
    rivals = list(dict.fromkeys(rival for _, ratios in groups for rival in ratios))
    figure = Figure(
        figsize=(11, 1.5 + 0.2 * sum(len(ratios) + 1 for _, ratios in groups)), layout="constrained"
    )
    axes = figure.add_subplot()
    bottom, ticks = 0, list[tuple[float, str]]()
    for result, ratios in groups:
        ticks.append((bottom + (len(ratios) - 1) / 2, f"{result.section}: {result.name}"))
        for y, (rival, ratio) in enumerate(ratios.items(), bottom):
            # From 1 outwards: a bar to the right is a win, one to the left a loss.
            axes.barh(y, ratio - 1, left=1, height=0.9, color=f"C{rivals.index(rival)}")
            axes.text(max(ratio, 1), y, f" {times(ratio)}", va="center", fontsize=7)
        bottom += len(ratios) + 1
    for index, rival in enumerate(rivals):
        axes.barh(0, 0, left=1, color=f"C{index}", label=rival)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.01)
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks], fontsize=8)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_xlabel(f"how many times better sluicegate is than the rival\n{environment}", fontsize=9)
    figure.legend(fontsize=8, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(file)


def _drawable(result: Result) -> dict[str, float]:
    """Rivals, not variants of ours; and none that never got in, whose ratio is infinite."""
    return {
        rival: ratio
        for rival, ratio in result.ratios.items()
        if 0 < ratio < inf and not rival.startswith("sluicegate.")
    }
