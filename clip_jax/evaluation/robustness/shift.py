"""Robustness to natural distribution shift (paper, section 3.3): ImageNet against its variants.

A model's accuracy on a shifted set is compared with its accuracy on the reference set restricted to
the same classes, and with what models of that accuracy usually reach there (Taori et al. 2020).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_jax.errors import InputError
from clip_jax.evaluation.plots import save_figure
from clip_jax.textfiles import read_json, read_table

FEWEST_MODELS = 3
"""Points that a baseline needs."""
TICKS = np.array([1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99]) / 100


@dataclass(frozen=True)
class Shift:
    """One model's accuracy on a shifted set, and on the reference set's images of its classes."""

    model: str
    dataset: str
    reference: float
    shifted: float
    classes: tuple[int, int] | None = None
    """How many of the shifted set's classes the reference set has, of how many. Only if these are
    all do the two accuracies compare."""


@dataclass(frozen=True)
class Baseline:
    """A line in logit space: logit(shifted) = slope * logit(reference) + offset."""

    slope: float
    offset: float

    def expected(self, reference: np.ndarray | float) -> np.ndarray:
        """The shifted accuracy of a usual model with this reference accuracy."""
        return 1 / (1 + np.exp(-(self.slope * logit(reference) + self.offset)))

    def effective_robustness(self, shift: Shift) -> float:
        """How much more accurate a model is than expected."""
        return float(shift.shifted - self.expected(shift.reference))


def logit(accuracy: np.ndarray | float) -> np.ndarray:
    """log(p / (1 - p)), of accuracies kept a thousandth away from 0 and 1."""
    p = np.clip(accuracy, 1e-3, 1 - 1e-3)
    return np.log(p / (1 - p))


def fit_baseline(shifts: Sequence[Shift]) -> Baseline | None:
    """Least squares through the points of one data set; None if they are too few for a line."""
    reference = logit(np.array([shift.reference for shift in shifts]))
    if len(np.unique(reference)) < FEWEST_MODELS:
        return None
    slope, offset = np.polyfit(reference, logit(np.array([s.shifted for s in shifts])), 1)
    return Baseline(float(slope), float(offset))


def same_classes(
    reference: Sequence[str], shifted: Sequence[str], others: Mapping[str, str] | None = None
) -> np.ndarray:
    """For each reference class, the class of the shifted set that is the same, or -1.

    The same are those with the same name, but for case and white space. others: reference classes
    of shifted ones by name, "digital clock; analog clock", each with synonyms "mitten, glove".
    Raises InputError if no class is in both.
    """
    numbers = {}
    for number, name in enumerate(shifted):
        for other in (name, *re.split("[;,]", (others or {}).get(name, name))):
            numbers[_plain(other)] = number
    owner = np.array([numbers.get(_plain(name), -1) for name in reference])
    if (owner < 0).all():
        raise InputError(
            f"no class is called the same in both sets ({reference[0]!r}, ...; {shifted[0]!r}, "
            "...): they need the class names of the reference set, or a file that maps them"
        )
    return owner


def masked_accuracy(scores: np.ndarray, labels: np.ndarray, owner: np.ndarray) -> float:
    """acc1 on the images of the classes with an owner, other classes being no choice.

    scores [images, classes], labels [images] int, owner [classes] int: classes of one owner count
    as the same; -1 masks a class.
    """
    images = owner[labels] >= 0
    if not images.any():
        raise InputError("the reference set has no image of the shifted set's classes")
    best = np.where(owner >= 0, scores[images], -np.inf).argmax(axis=1)
    return float((owner[best] == owner[labels[images]]).mean())


def read_baseline(path: Path) -> list[Shift]:
    """Points of other models: a CSV with columns model, dataset, reference, shifted, or a JSON list
    of objects with these keys. Accuracies are shares of 1."""
    rows = read_json(path) if path.suffix == ".json" else read_table(path)
    try:
        shifts = [
            Shift(row["model"], row["dataset"], float(row["reference"]), float(row["shifted"]))
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(
            f"{path}: not a table of model, dataset, reference and shifted ({error})"
        ) from None
    wrong = [s for s in shifts if not (0 <= s.reference <= 1 and 0 <= s.shifted <= 1)]
    if wrong:
        raise InputError(f"{path}: accuracies are shares from 0 to 1, not as for {wrong[0].model}")
    return shifts


def average(shifts: Sequence[Shift]) -> list[Shift]:
    """The mean over the data sets, of each model that has all of them."""
    datasets = {shift.dataset for shift in shifts}
    means = []
    for model in dict.fromkeys(shift.model for shift in shifts):
        own = [shift for shift in shifts if shift.model == model]
        if {shift.dataset for shift in own} == datasets:
            reference = float(np.mean([shift.reference for shift in own]))
            shifted = float(np.mean([shift.shifted for shift in own]))
            means.append(Shift(model, "average", reference, shifted))
    return means


def draw_shifts(shifts: Sequence[Shift], others: Sequence[Shift], path: Path) -> None:
    """A PNG with a panel for each data set, and one for their average if there are several.

    Axes are in logit space. others: the points of the baseline.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(shift.dataset for shift in shifts))
    panels = [(name, _of(name, shifts), _of(name, others)) for name in names]
    if len(names) > 1:
        relevant = [shift for shift in others if shift.dataset in names]
        panels.insert(0, ("average", average(shifts), average(relevant)))
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure, grid = pyplot.subplots(
        down, across, figsize=(4.5 * across, 4.5 * down), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (name, own, points) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, name, own, points)
    grid.flat[0].legend(loc="upper left", fontsize=8)
    save_figure(figure, path)


def _draw_panel(axes: Any, name: str, own: list[Shift], points: list[Shift]) -> None:
    baseline = fit_baseline(points or own)
    every = np.array([[shift.reference, shift.shifted] for shift in [*own, *points]])
    low, high = (logit(every).min() - 0.4, logit(every).max() + 0.4)
    line = np.linspace(low, high)
    axes.plot(line, line, color="grey", linestyle=":", label="no loss")
    if baseline is not None:
        fitted = baseline.slope * line + baseline.offset
        axes.plot(line, fitted, color="tab:blue", label="baseline")
    for shift in points:
        axes.plot(logit(shift.reference), logit(shift.shifted), ".", color="tab:blue", alpha=0.5)
    for number, shift in enumerate(own):
        place = logit(shift.reference), logit(shift.shifted)
        axes.plot(*place, "*", color=f"C{1 + number % 9}", markersize=12, label=shift.model)
    shown = TICKS[(logit(TICKS) >= low) & (logit(TICKS) <= high)]
    texts = [f"{100 * tick:.0f}" for tick in shown]
    axes.set_xticks(logit(shown), texts)
    axes.set_yticks(logit(shown), texts)
    axes.set(xlim=(low, high), ylim=(low, high), title=name)
    axes.set(xlabel="reference set, same classes (%)", ylabel="shifted set (%)")
    axes.grid(alpha=0.3)


def _of(dataset: str, shifts: Sequence[Shift]) -> list[Shift]:
    return [shift for shift in shifts if shift.dataset == dataset]


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())
