"""Writes probe.npz: features, and the linear classifiers that scikit-learn fits to them.

Run with scikit-learn 1.9.1 and numpy 2.3:  python tests/golden/make_probe.py
Classes overlap, so that accuracy depends on the strength. "loose" is scikit-learn's tolerance, on
the gradient of the mean loss; "tight" puts it on the summed loss, as in the paper's time.
"""

import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

TRAIN, TEST, WIDTH = 400, 2000, 12
STRENGTHS = 10.0 ** np.arange(-6, 7, 2)
TOLERANCES = {"loose": 1e-4, "tight": 1e-4 / TRAIN}

warnings.filterwarnings("ignore")  # of fits that reach 1,000 iterations
arrays: dict[str, np.ndarray] = {"strengths": STRENGTHS}
for classes in (2, 5):
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, TRAIN + TEST)
    centres = rng.normal(size=(classes, WIDTH)) * (0.4 if classes == 2 else 1)
    spread = rng.normal(size=(WIDTH, WIDTH)) / 2
    rows = centres[labels] + rng.normal(size=(len(labels), WIDTH)) @ spread + 1
    rows = rows.astype(np.float16).astype(np.float64)
    fits = {
        name: [
            LogisticRegression(C=C, tol=tolerance, max_iter=1000).fit(rows[:TRAIN], labels[:TRAIN])
            for C in STRENGTHS
        ]
        for name, tolerance in TOLERANCES.items()
    }
    arrays |= {f"rows_{classes}": rows.astype(np.float16), f"labels_{classes}": labels}
    for name, found in fits.items():
        accuracies = [fit.score(rows[TRAIN:], labels[TRAIN:]) for fit in found]
        print(classes, name, accuracies, [int(fit.n_iter_[0]) for fit in found])
        arrays[f"{name}_{classes}"] = np.array(
            [np.concatenate([fit.coef_, fit.intercept_[:, None]], axis=1) for fit in found]
        )
        arrays[f"{name}_accuracy_{classes}"] = np.array(accuracies)
np.savez_compressed(Path(__file__).with_name("probe.npz"), **arrays)
