"""The ratios, drawn. Needs matplotlib, which the extra `sluicegate[bench]` brings."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Literal

from sluicegate._bench.report import Environment
from sluicegate._bench.timing import Result


def draw(results: Sequence[Result], environment: Environment, file: Path) -> None:
    """One group of bars for each row, one bar for each rival: how many times better ours is."""
    from matplotlib.figure import Figure

    colours = {rival: f"C{index}" for index, rival in enumerate(_rivals(results))}
    # A rival that never got in has no ratio that could be drawn.
    bars = [
        (result, [(rival, ratio) for rival, ratio in result.ratios.items() if 0 < ratio < inf])
        for result in results
    ]
    height = sum(len(ratios) + 1 for _, ratios in bars)
    figure = Figure(figsize=(10, 1.2 + 0.22 * height), layout="constrained")
    axes = figure.add_subplot()
    at, ticks, labelled = 0, [], set[str]()
    for result, ratios in bars:
        ticks.append((at + (len(ratios) - 1) / 2, f"{result.section}: {result.name}"))
        for rival, ratio in ratios:
            label = rival if rival not in labelled else None
            labelled.add(rival)
            axes.barh(at, ratio - 1, left=1, height=0.9, color=colours[rival], label=label)
            side: Literal["left", "right"] = "left" if ratio >= 1 else "right"
            axes.annotate(f" {ratio:.2g}x ", (ratio, at), va="center", ha=side, fontsize=7)
            at += 1
        at += 1
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.01)
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("how many times better sluicegate is (right of 1: better)")
    axes.set_title(str(environment), fontsize=9)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(file)


def _rivals(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(rival for result in results for rival in result.ratios))
