"""The nearest rows against sorting the whole similarity matrix."""

import numpy as np
import pytest

from clip_jax.evaluation import nearest as module
from clip_jax.evaluation.nearest import nearest


@pytest.mark.parametrize(("queries", "gallery"), [(1024, 65536), (7, 11), (5, 2), (64, 30)])
def test_nearest_by_sorting(monkeypatch, queries, gallery):
    """Whole numbers: products are exact, and many of them equal."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, (count, 5)).astype(np.float32) for count in (23, 30))
    monkeypatch.setattr(module, "QUERIES", queries)
    monkeypatch.setattr(module, "GALLERY", gallery)
    products = a @ b.T
    order = np.argsort(-products, axis=1, kind="stable")
    for depth in (1, 4, 30):
        best, rows = nearest(a, b, depth)
        np.testing.assert_array_equal(rows, order[:, :depth])
        np.testing.assert_array_equal(best, np.take_along_axis(products, rows, axis=1))
