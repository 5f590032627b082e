"""What is difficult for a model and for people (paper, section 4): accuracies of each class.

People's accuracies come as a csv with the column class and any of zeroshot, 1_shot, 2_shot, ... in
shares of 1; the model is measured in the same settings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy import stats

from clip_jax.data.samples import LabelledImages
from clip_jax.errors import InputError
from clip_jax.evaluation.plots import save_figure
from clip_jax.evaluation.probes.features import Features, project
from clip_jax.evaluation.probes.few_shot import fit_shots
from clip_jax.evaluation.probes.run import both_splits
from clip_jax.evaluation.results import Result
from clip_jax.evaluation.zeroshot import build_classifier
from clip_jax.model import Model, check_embeds_text
from clip_jax.parallel.processes import same_errors
from clip_jax.textfiles import read_table

ZERO_SHOT = "zeroshot"
FEWEST_CLASSES = 3
"""Classes that a correlation needs."""


@dataclass(frozen=True)
class Difficulty:
    """Accuracies of the same classes, by people and by a model, in one setting."""

    setting: str
    """ZERO_SHOT, or "1_shot" and so on."""
    classes: list[str]
    people: np.ndarray
    """[classes]."""
    model: np.ndarray
    """[classes]."""

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where all classes are equally hard for one of the two."""
        return _correlation(self.people, self.model)

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's."""
        return _correlation(stats.rankdata(self.people), stats.rankdata(self.model))


def run_difficulty(
    model: Model,
    name: str,
    spec: str,
    people: Path,
    seeds: int = 3,
    cache: bool = True,
    picture: Path | None = None,
) -> Result:
    """Both accuracies by class and their correlation. Prints a table; picture: a plot of them.

    Few-shot accuracies are those of linear probes, the mean over so many draws of the shots.
    """
    with same_errors():
        known = read_people(people)
        if "zeroshot" in known:
            check_embeds_text(model.config)
    data, train, test = both_splits(model, spec, cache)
    with same_errors():
        shared = shared_classes(people, known, data.classnames)
        check_shots(known, train)
    found = []
    for setting, values in known.items():
        own = accuracies(model, data, setting, train, test, seeds, cache)
        rated = [c for c in shared if data.classnames[c] in values and not np.isnan(own[c])]
        if len(rated) < FEWEST_CLASSES:
            raise InputError(
                f"{people}: {len(rated)} of the classes of {setting} have test images in "
                f"{data.name}; a correlation needs {FEWEST_CLASSES}"
            )
        names = [data.classnames[c] for c in rated]
        by_people = np.array([values[each] for each in names])
        found.append(Difficulty(setting, names, by_people, own[rated]))
    if jax.process_index() == 0:
        print_difficulties(found)
        if picture is not None:
            draw_difficulties(found, f"{name} on {data.name}", picture)
    metrics: dict[str, float] = {}
    for one in found:
        metrics |= {
            f"{one.setting}_people": float(one.people.mean()),
            f"{one.setting}_model": float(one.model.mean()),
        }
        if one.correlation is not None and one.rank_correlation is not None:
            metrics[f"{one.setting}_correlation"] = one.correlation
            metrics[f"{one.setting}_rank_correlation"] = one.rank_correlation
    return Result(data.name, "difficulty", metrics, model=name)


def read_people(path: Path) -> dict[str, dict[str, float]]:
    """By setting, the accuracy of each class; an empty cell leaves a class out of a setting."""
    rows = read_table(path)
    settings = [name for name in rows[0] if _shots(name) is not None]
    if "class" not in rows[0] or not settings:
        raise InputError(f"{path}: needs the column class and one of zeroshot, 1_shot, 2_shot, ...")
    known: dict[str, dict[str, float]] = {setting: {} for setting in settings}
    for number, row in enumerate(rows, 2):
        for setting in settings:
            if cell := row[setting].strip():
                if row["class"] in known[setting]:
                    raise InputError(f"{path}: row {number} has {row['class']!r} once more")
                known[setting][row["class"]] = _share(path, number, cell)
    return known


def shared_classes(
    path: Path, known: dict[str, dict[str, float]], classnames: Sequence[str]
) -> list[int]:
    """Numbers of the data set's classes that people were asked about; enough in each setting."""
    for setting, values in known.items():
        unknown = sorted(set(values) - set(classnames))
        if unknown:
            raise InputError(f"{path}: {unknown[0]!r} is no class of the data set")
        if len(values) < FEWEST_CLASSES:
            raise InputError(
                f"{path}: {setting} of {len(values)} classes; a correlation needs {FEWEST_CLASSES}"
            )
    rated = set().union(*known.values())
    return [number for number, name in enumerate(classnames) if name in rated]


def check_shots(known: dict[str, dict[str, float]], train: Features) -> None:
    """Raise InputError if some class has too few training images for a setting."""
    most = max(_shots(setting) or 0 for setting in known)
    fewest = np.unique(train.labels, return_counts=True)[1].min()
    if most >= fewest:
        raise InputError(
            f"{most}_shot takes {most} training images of each class and others to choose the "
            f"strength on; some class has {fewest}"
        )


def accuracies(
    model: Model,
    data: LabelledImages,
    setting: str,
    train: Features,
    test: Features,
    seeds: int,
    cache: bool,
) -> np.ndarray:
    """The model's accuracy by class, float64 [classes]; NaN of a class without test images."""
    classes, shots = len(data.classnames), _shots(setting)
    if not shots:
        classifier = build_classifier(model, data.classnames, data.templates, cache=cache)
        told = [(project(model, test).rows @ classifier.T).argmax(axis=1)]
    else:
        probes = [fit_shots(train, shots, seed) for seed in range(seeds)]
        told = [probe.scores(test.rows, classes).argmax(axis=1) for probe in probes]
    return np.mean([class_accuracies(each, test.labels, classes) for each in told], axis=0)


def class_accuracies(told: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """[n] int each -> float64 [classes], NaN of a class that does not occur."""
    total = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[told == labels], minlength=classes)
    return np.divide(right, total, out=np.full(classes, np.nan), where=total > 0)


def print_difficulties(found: Sequence[Difficulty]) -> None:
    """The classes of each setting, the hardest for people first."""
    for one in found:
        table = Table("class", "people", "model", title=one.setting.replace("_", "-"))
        for number in np.argsort(one.people, kind="stable"):
            table.add_row(
                escape(one.classes[number]), f"{one.people[number]:.2%}", f"{one.model[number]:.2%}"
            )
        Console().print(table)


def draw_difficulties(found: Sequence[Difficulty], title: str, path: Path) -> None:
    """A PNG: a panel for each setting, a point for each class."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(found), 4.5), layout="constrained")
    figure.suptitle(title, parse_math=False)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, one in zip(panels, found, strict=True):
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
        axes.plot(one.people, one.model, "o", alpha=0.7)
        for name, x, y in zip(one.classes, one.people, one.model, strict=True):
            axes.annotate(name, (x, y), size=7, alpha=0.8, parse_math=False)
        axes.set(xlabel="accuracy of people", ylabel="accuracy of the model")
        about = one.setting.replace("_", "-")
        if one.correlation is not None:
            about += f": r = {one.correlation:.2f}"
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), title=about)
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def _shots(setting: str) -> int | None:
    """ "zeroshot" -> 0, "2_shot" -> 2; None for anything else."""
    if setting == ZERO_SHOT:
        return 0
    match = re.fullmatch(r"([1-9]\d{0,3})_shot", setting)
    return int(match[1]) if match else None


def _share(path: Path, row: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{path}: row {row} has {cell!r}; accuracies are shares from 0 to 1")
    return value


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
