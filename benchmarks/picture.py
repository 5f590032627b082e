"""Pictures beside the results' files; without matplotlib, as on a bare image, there are none."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Ratio = tuple[str, float, str]
"""What was compared, the ratio, and what is written at its bar."""


def draw_ratios(rows: Sequence[Ratio], meaning: str, path: Path) -> None:
    """Bars from 0 past a line at 1."""

    def bars(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(figsize=(7, 1 + 0.35 * len(rows)))
        drawn = axes.barh([name for name, _, _ in rows], [ratio for _, ratio, _ in rows])
        axes.bar_label(drawn, [f" {told}" for _, _, told in rows])
        axes.axvline(1, color="black", lw=1)
        axes.invert_yaxis()
        axes.margins(x=0.35)
        axes.set(xlabel=meaning)
        return figure

    _save(bars, path)


def draw_growth(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], across: str, path: Path
) -> None:
    """Panels side by side, {title: {line: points}}, both axes logarithmic."""

    def lines(pyplot: Any) -> Any:
        figure, all_axes = pyplot.subplots(ncols=len(panels), figsize=(5 * len(panels), 4))
        for axes, (title, curves) in zip(all_axes, panels.items(), strict=True):
            for number, (name, points) in enumerate(curves.items()):
                axes.plot(*zip(*points, strict=True), marker="os^vD"[number % 5], label=name)
            axes.set(xscale="log", yscale="log", xlabel=across, title=title)
            axes.grid(alpha=0.3)
        max(all_axes, key=lambda axes: len(axes.lines)).legend()
        return figure

    _save(lines, path)


def _save(draw: Callable[[Any], Any], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = draw(pyplot)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    pyplot.close(figure)
