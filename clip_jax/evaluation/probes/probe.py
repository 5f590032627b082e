"""Linear probes (paper, A.3): logistic regression on features, its strength found by a search.

The strength is scikit-learn's C, the weight of the loss against that of the penalty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np

from clip_jax.errors import InputError
from clip_jax.evaluation.probes.features import Features
from clip_jax.evaluation.probes.lbfgs import MEMORY, Minimum, minimize
from clip_jax.evaluation.zeroshot import classification_metrics

Array = jax.Array

STEPS_PER_DECADE = 8
DECADES = (-6, 6)
FIRST_SPAN = 2 * STEPS_PER_DECADE
"""Distance of the first strengths that the search tries, in steps."""
TOLERANCE = 1e-4
"""scikit-learn's tol. The version of the paper's time put it on the gradient of the summed loss,
today's on that of the mean, which ends earlier."""
MAX_ITERATIONS = 1000
SETTLED = 0.05
"""What C times the tolerance on the summed loss may be for a search to end at its minimum, as near
as makes no difference: this, over the weights' size, bounds their error."""
CONFIDENCE = 0.3
"""About what share of its value at chance p (1 - p) has over a search: a guess that speeds it."""
VALIDATION_SHARE = 0.2
BATCH_BYTES = 4 * 2**30
"""Of the device's memory, what fits that are solved together may take."""


@dataclass(frozen=True)
class Classifier:
    """One fitted linear classifier."""

    weights: np.ndarray
    """float32 [known classes, width]."""
    biases: np.ndarray
    """float32 [known classes]."""
    known: np.ndarray
    """The classes that occurred in training, [known classes] int."""
    iterations: int
    """Steps that the fit took."""

    def scores(self, rows: np.ndarray, classes: int) -> np.ndarray:
        """[images, width] -> [images, classes]; a class without training images scores -inf."""
        scores = np.full((len(rows), classes), -np.inf, np.float32)
        scores[:, self.known] = rows @ self.weights.T + self.biases
        return scores

    def accuracy(self, features: Features) -> float:
        """Share of the images whose class scores highest."""
        best = (features.rows @ self.weights.T + self.biases).argmax(axis=1)
        return float((self.known[best] == features.labels).mean())


@dataclass(frozen=True)
class Search:
    """The strengths that were tried, and the accuracy of each on the validation images."""

    strengths: list[float]
    accuracies: list[float]
    best: float
    """The strength of the highest accuracy; of several, the smallest."""


def evaluate_probe(
    train: Features, test: Features, classes: int, seed: int = 0
) -> tuple[dict[str, float], Search]:
    """Search on a part of the training images, fit to all of them, and test: metrics, search.

    Raises InputError if there are too few images to hold some out.
    """
    fitted, validation = hold_out(train.labels, seed)
    if len(validation) == 0:
        raise InputError(f"{len(train)} training images, too few of each class to hold some out")
    search = search_strength(train[fitted], train[validation])
    (classifier,) = Problem(train).fit([search.best], TOLERANCE / len(train))
    return classification_metrics(classifier.scores(test.rows, classes), test.labels), search


def hold_out(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split images in two, the second with a fifth of each class: their numbers, at random."""
    rng = np.random.default_rng(seed)
    validation = [
        rng.permutation(own)[: round(len(own) * VALIDATION_SHARE)]
        for own in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    second = np.sort(np.concatenate(validation))
    return np.setdiff1d(np.arange(len(labels)), second), second


def search_strength(train: Features, validation: Features) -> Search:
    """The paper's parametric binary search: from 1e-6, 1e-4, ..., 1e6, ever closer to the peak.

    After each round the distance to the peak's neighbours is halved, down to 8 steps a decade.
    """
    last = (DECADES[1] - DECADES[0]) * STEPS_PER_DECADE
    problem, accuracies = Problem(train), dict[int, float]()
    steps, span = list(range(0, last + 1, FIRST_SPAN)), FIRST_SPAN
    while span:
        classifiers = problem.fit([strength(step) for step in steps], TOLERANCE / len(train))
        for step, classifier in zip(steps, classifiers, strict=True):
            accuracies[step] = classifier.accuracy(validation)
        peak = max(sorted(accuracies), key=accuracies.__getitem__)
        span //= 2
        steps = [step for step in (peak - span, peak + span) if 0 <= step <= last]
    tried = sorted(accuracies)
    return Search([strength(s) for s in tried], [accuracies[s] for s in tried], strength(peak))


def strength(step: int) -> float:
    """The C of a step of the grid, which starts at 1e-6."""
    return float(10 ** (DECADES[0] + step / STEPS_PER_DECADE))


class Problem:
    """Logistic regression on some images, for any strength C, on one device.

    Minimises C * (sum of cross-entropies) + |weights|^2 / 2 as scikit-learn's LogisticRegression,
    with its tolerance on every entry of the gradient of this sum over C * images. In float32 where
    the minimum is reached, in float64 elsewhere.
    """

    def __init__(self, train: Features):
        self._known, labels = np.unique(train.labels, return_inverse=True)
        # Of two classes, one is given a score of 0, as in scikit-learn.
        self._outputs = len(self._known) if len(self._known) > 2 else 1
        self._rows, self._labels = jax.device_put((train.rows, labels.astype(np.int32)))

    @cached_property
    def _axes(self) -> tuple[Array, np.ndarray, np.ndarray, np.ndarray]:
        """Rows along their principal axes, centred; the mean, the axes and the variances."""
        mean = self._rows.mean(axis=0)
        covariance = product((self._rows - mean).T, self._rows - mean) / len(self._rows)
        variances, axes = np.linalg.eigh(np.asarray(covariance, np.float64))
        rows = product(self._rows - mean, axes.astype(np.float32))
        return rows, np.asarray(mean), axes, np.maximum(variances, 0)

    def fit(
        self,
        strengths: Sequence[float],
        tolerance: float = TOLERANCE,
        max_iterations: int = MAX_ITERATIONS,
    ) -> list[Classifier]:
        """The classifiers of these strengths.

        On an accelerator as many are fitted at once as BATCH_BYTES allows; on a CPU one after
        another, for one keeps all cores busy, and the others would wait for the slowest.
        """
        at_once = self._at_once()
        settled = np.array(strengths) * tolerance * len(self._rows) <= SETTLED
        fitted: dict[int, Classifier] = {}
        for group, run in ((settled, self._fit_settled), (~settled, self._fit_step_by_step)):
            members = np.flatnonzero(group)
            for start in range(0, len(members), at_once):
                some = members[start : start + at_once]
                penalties = 1 / (np.array(strengths)[some] * len(self._rows))
                fits = run(penalties, tolerance, max_iterations)
                fitted.update(zip(some.tolist(), fits, strict=True))
        return [fitted[number] for number in range(len(strengths))]

    def _fit_step_by_step(
        self, penalties: np.ndarray, tolerance: float, max_iterations: int
    ) -> list[Classifier]:
        """Where the search ends before the minimum, what it finds depends on the way: this is
        scikit-learn's, in float64, for rounding would lead elsewhere."""
        ones = np.ones((len(penalties), self._rows.shape[1] + 1))
        with jax.enable_x64(True):
            rows = self._rows.astype(np.float64)
            points, iterations = self._solve(rows, penalties, ones, tolerance, max_iterations)
        points = points.astype(np.float32)
        return self._classifiers(points[..., :-1], points[..., -1], iterations)

    def _fit_settled(
        self, penalties: np.ndarray, tolerance: float, max_iterations: int
    ) -> list[Classifier]:
        """Where the minimum is reached, the way does not matter: this one is three times shorter.

        Along the rows' principal axes, each scaled by about the loss's curvature there.
        """
        rows, mean, axes, variances = self._axes
        curvatures = CONFIDENCE / len(self._known) * np.append(variances, 1)
        penalized = penalties[:, None] * np.append(np.ones_like(variances), 0)
        scales = (1 / np.sqrt(curvatures + penalized)).astype(np.float32)
        rounding = float(np.finfo(np.float32).eps * np.sqrt(variances.mean() + (mean**2).mean()))
        tolerance = max(tolerance, rounding)
        points, iterations = self._solve(rows, penalties, scales, tolerance, max_iterations)
        weights = points[..., :-1] @ axes.T.astype(np.float32)
        return self._classifiers(weights, points[..., -1] - weights @ mean, iterations)

    def _solve(
        self,
        rows: Array,
        penalties: np.ndarray,
        scales: np.ndarray,
        tolerance: float,
        max_iterations: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights and biases [S, outputs, width + 1], and the steps that each took."""
        shape = (len(penalties), self._outputs, scales.shape[1])
        # An argument: what XLA's CPU backend (of jax 0.10 to 0.12) makes of a constant is NaN.
        zeros = np.zeros((shape[0], shape[1] * shape[2]), rows.dtype)
        tolerances = np.tile(tolerance * scales, self._outputs)
        penalties = penalties.astype(rows.dtype)
        minimum = solve(
            rows,
            self._labels,
            penalties,
            scales,
            zeros,
            tolerances,
            len(self._known),
            max_iterations,
        )
        points = np.asarray(minimum.points).reshape(shape) * scales[:, None]
        return points, np.asarray(minimum.iterations)

    def _classifiers(
        self, weights: np.ndarray, biases: np.ndarray, iterations: np.ndarray
    ) -> list[Classifier]:
        given = len(self._known) - self._outputs
        weights = np.pad(weights, ((0, 0), (given, 0), (0, 0)))
        biases = np.pad(biases, ((0, 0), (given, 0)))
        return [
            Classifier(w, b, self._known, int(steps))
            for w, b, steps in zip(weights, biases, iterations, strict=True)
        ]

    def _at_once(self) -> int:
        """How many fit in memory: logits, their gradients, and what L-BFGS remembers."""
        if self._rows.device.platform == "cpu":
            return 1
        count, width = self._rows.shape
        each = 4 * self._outputs * (3 * count + (2 * MEMORY + 6) * (width + 1))
        return max(1, BATCH_BYTES // each)


def product(a: Array, b: Array | np.ndarray) -> Array:
    """a @ b in float32, whatever the accelerator's default is."""
    return jnp.dot(a, b, precision="highest")


@partial(jax.jit, static_argnames="classes")
def solve(
    rows: Array,
    labels: Array,
    penalties: Array,
    scales: Array,
    start: Array,
    tolerance: Array,
    classes: int,
    max_iterations: Array | int,
) -> Minimum:
    """Minimise S mean losses with their penalties from start [S, outputs * (width + 1)].

    rows [n, width], labels [n] int, penalties [S], scales [S, width + 1]: weights and biases are
    points times scales. outputs is the number of classes, or one less if the first scores 0.
    """
    count, width = rows.shape
    outputs = start.shape[1] // (width + 1)
    given = classes - outputs
    right = labels == jnp.arange(classes)[:, None]

    def losses(points: Array) -> tuple[Array, Array]:
        """One product with the weights of all functions, and one with all gradients."""
        both = points.reshape(len(points), outputs, width + 1) * scales[:, None]
        weights, biases = both[..., :width], both[..., width]
        logits = product(weights.reshape(-1, width), rows.T).reshape(-1, outputs, count)
        logits = jnp.pad(logits + biases[..., None], ((0, 0), (given, 0), (0, 0)))
        log_p = jax.nn.log_softmax(logits, axis=1)
        values = penalties / 2 * (weights**2).sum((1, 2))
        values -= jnp.where(right, log_p, 0).sum((1, 2)) / count
        excess = ((jnp.exp(log_p) - right) / count)[:, given:]
        gradients = product(excess.reshape(-1, count), rows).reshape(weights.shape)
        gradients += penalties[:, None, None] * weights
        together = jnp.concatenate([gradients, excess.sum(-1, keepdims=True)], axis=-1)
        return values, (together * scales[:, None]).reshape(points.shape)

    return minimize(losses, start, tolerance, max_iterations)
