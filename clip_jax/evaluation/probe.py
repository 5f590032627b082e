"""Linear probes (paper, A.3): logistic regression on features, its strength found by a search.

The strength is scikit-learn's C, the weight of the loss against that of the penalty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from clip_jax.evaluation.features import Features
from clip_jax.evaluation.lbfgs import MEMORY, Minimum, minimize
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
    """Search on a part of the training images, fit to all of them, and test: metrics, search."""
    fitted, validation = hold_out(train.labels, seed)
    search = search_strength(train[fitted], train[validation])
    (classifier,) = fit(train, [search.best], TOLERANCE / len(train))
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
    accuracies: dict[int, float] = {}
    steps, span = list(range(0, last + 1, FIRST_SPAN)), FIRST_SPAN
    while span:
        classifiers = fit(train, [strength(step) for step in steps], TOLERANCE / len(train))
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


def fit(
    train: Features,
    strengths: Sequence[float],
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> list[Classifier]:
    """Minimise C * (sum of cross-entropies) + |weights|^2 / 2 for each strength C, in float32.

    The same problem, start and stopping rule as scikit-learn's LogisticRegression, whose tolerance
    bounds every entry of the gradient of this sum over C times the number of images. On an
    accelerator, as many strengths as BATCH_BYTES allows are solved at once; on a CPU one after
    another, which is as fast, as its cores are busy with one.
    """
    known, labels = np.unique(train.labels, return_inverse=True)
    count, width = train.rows.shape
    rows, labels = jax.device_put((train.rows, labels.astype(np.int32)))
    penalties = 1 / (np.array(strengths) * count)
    outputs = len(known) if len(known) > 2 else 1  # of two classes, one is given a score of 0
    at_once = _at_once(count, width, outputs, rows.device)
    classifiers = []
    for start in range(0, len(strengths), at_once):
        some = penalties[start : start + at_once].astype(np.float32)
        # An argument: what XLA's CPU backend (of jax 0.10 to 0.12) makes of a constant is NaN.
        zeros = np.zeros((len(some), outputs * (width + 1)), np.float32)
        minimum = _solve(rows, labels, some, zeros, tolerance, len(known), max_iterations)
        points = np.asarray(minimum.points).reshape(len(some), outputs, width + 1)
        points = np.pad(points, ((0, 0), (len(known) - outputs, 0), (0, 0)))
        classifiers += [
            Classifier(point[:, :-1], point[:, -1], known, int(iterations))
            for point, iterations in zip(points, minimum.iterations, strict=True)
        ]
    return classifiers


def _at_once(count: int, width: int, outputs: int, device: jax.Device) -> int:
    """How many strengths are solved together: logits, their gradients, and L-BFGS's memory."""
    if device.platform == "cpu":
        return 1
    each = 4 * outputs * (3 * count + (2 * MEMORY + 6) * (width + 1))
    return max(1, BATCH_BYTES // each)


@partial(jax.jit, static_argnames=("classes", "max_iterations"))
def _solve(
    rows: Array,
    labels: Array,
    penalties: Array,
    start: Array,
    tolerance: Array,
    classes: int,
    max_iterations: int,
) -> Minimum:
    """Minimise S functions of weights and biases, each flattened from [outputs, width + 1]."""
    count, width = rows.shape
    outputs = start.shape[1] // (width + 1)
    given = classes - outputs
    right = jax.nn.one_hot(labels, classes, dtype=rows.dtype)[:, None]
    product = partial(jnp.dot, precision="highest")

    def losses(points: Array) -> tuple[Array, Array]:
        """One product with the weights of all functions, and one with all gradients."""
        both = points.reshape(len(points), outputs, width + 1)
        weights, biases = both[..., :width], both[..., width]
        logits = product(rows, weights.reshape(-1, width).T).reshape(count, -1, outputs) + biases
        log_p = jax.nn.log_softmax(jnp.pad(logits, ((0, 0), (0, 0), (given, 0))))
        values = -(log_p * right).sum((0, 2)) / count + penalties / 2 * (weights**2).sum((1, 2))
        excess = ((jnp.exp(log_p) - right) / count)[..., given:]
        gradients = product(excess.reshape(count, -1).T, rows).reshape(weights.shape)
        gradients += penalties[:, None, None] * weights
        together = jnp.concatenate([gradients, excess.sum(0)[..., None]], axis=-1)
        return values, together.reshape(points.shape)

    return minimize(losses, start, tolerance, max_iterations)
