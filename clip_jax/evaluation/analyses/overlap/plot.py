"""The paper's figure 17: overlap and accuracy, a point for each data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip_jax.evaluation.analyses.overlap.statistics import Split
from clip_jax.evaluation.plots import save_figure


def draw_overlap(splits: Mapping[str, Split], path: Path) -> None:
    """A PNG. Left: Overlap - Clean with its interval; right: All - Clean; both over the share of
    images that overlap, in percent. Filled points are significant after correction."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, split in splits.items():
        if split.clean is None or split.difference is None:
            continue
        look = {"color": "tab:blue", "markersize": 7}
        look["fillstyle"] = "full" if split.significant(len(splits)) else "none"
        interval = split.interval(len(splits))
        if split.overlap is not None and interval is not None:
            gap = split.overlap - split.clean
            reach = [[split.overlap - interval[0]], [interval[1] - split.overlap]]
            bars = [[100 * value for value in side] for side in reach]
            left.errorbar(100 * split.share, 100 * gap, bars, marker="o", capsize=3, **look)
            _label(left, name, 100 * split.share, 100 * gap)
        right.plot(100 * split.share, 100 * split.difference, "o", **look)
        _label(right, name, 100 * split.share, 100 * split.difference)
    for axes, up in ((left, "accuracy on overlap - clean"), (right, "accuracy on all - clean")):
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(xlabel="images that overlap (%)", ylabel=f"{up} (%)")
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def _label(axes: Any, name: str, x: float, y: float) -> None:
    axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", size=8, parse_math=False)
