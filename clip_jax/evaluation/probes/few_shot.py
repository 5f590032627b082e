"""Few-shot probes (paper, figure 6): fitted to 1, 2, 4, ... images a class, beside zero-shot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_jax.errors import InputError
from clip_jax.evaluation.plots import new_figure, save_figure
from clip_jax.evaluation.probes.features import Features
from clip_jax.evaluation.probes.probe import TOLERANCE, Classifier, Problem, search_strength

SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Shots:
    """Probes fitted to so many images of each class, one for each seed."""

    shots: int
    accuracies: list[float]

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; 0 of a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def evaluate_few_shot(
    train: Features, test: Features, shots: Sequence[int], seeds: int
) -> list[Shots]:
    """Accuracy on the test images of probes fitted to few training images, drawn for each seed.

    The strength is searched on the training images that were not drawn. Numbers of shots that leave
    none of these, or that a class does not have, are left out; InputError if that is all of them.
    """
    smallest = np.unique(train.labels, return_counts=True)[1].min()
    enough = [
        count for count in shots if count <= smallest and count * _classes(train) < len(train)
    ]
    if not enough:
        raise InputError(
            f"{len(train)} training images, {smallest} of some class: too few for "
            f"{min(shots)} of each and others to choose the strength on"
        )
    return [
        Shots(count, [fit_shots(train, count, seed).accuracy(test) for seed in range(seeds)])
        for count in enough
    ]


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """The numbers of so many images of each class, in order; more shots contain the fewer."""
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[labels[order] == label][:shots] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def fit_shots(train: Features, shots: int, seed: int) -> Classifier:
    """A probe fitted to so many images of each class, its strength searched on the others."""
    chosen = draw_shots(train.labels, shots, seed)
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    drawn = train[chosen]
    search = search_strength(drawn, train[rest])
    (classifier,) = Problem(drawn).fit([search.best], TOLERANCE / len(drawn))
    return classifier


def draw_few_shot(results: list[Shots], zero_shot: float, title: str, path: Path) -> None:
    """A PNG: accuracy over shots with its deviation, and the zero-shot line."""
    figure, axes = new_figure(title, "images a class", "accuracy")
    shots, means = [r.shots for r in results], [r.mean for r in results]
    deviations = [r.deviation for r in results]
    axes.errorbar(shots, means, deviations, marker="o", capsize=3, label="linear probe")
    axes.axhline(zero_shot, color="tab:orange", linestyle="--", label="zero-shot")
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(count) for count in shots])
    axes.legend()
    save_figure(figure, path)


def _classes(features: Features) -> int:
    return len(np.unique(features.labels))
