"""The scikit-learn side of probe.py: the same search with LogisticRegression."""

import json
import sys
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression

warnings.filterwarnings("ignore")  # of fits that reach 1,000 iterations
arrays = np.load(sys.argv[1])
rows, labels = arrays["rows"].astype(sys.argv[2]), arrays["labels"]
tolerance = 1e-4 / len(rows)  # on the summed loss, as in the paper's time
accuracies: dict[int, float] = {}
steps, span = list(range(0, 97, 16)), 16
start = time.perf_counter()
while span:
    for step in steps:
        C = float(10 ** (-6 + step / 8))
        model = LogisticRegression(C=C, tol=tolerance, max_iter=1000).fit(rows, labels)
        found = model.predict(arrays["validation_rows"])
        accuracies[step] = float((found == arrays["validation_labels"]).mean())
    peak = max(sorted(accuracies), key=accuracies.__getitem__)
    span //= 2
    steps = [step for step in (peak - span, peak + span) if 0 <= step <= 96]
seconds = time.perf_counter() - start
by_strength = {str(float(10 ** (-6 + step / 8))): accuracies[step] for step in sorted(accuracies)}
best = float(10 ** (-6 + peak / 8))
print(json.dumps({"seconds": seconds, "best": best, "accuracies": by_strength}))
