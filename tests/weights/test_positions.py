"""Position embeddings at other resolutions, against PyTorch's antialiased bicubic (golden)."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from clip_jax.weights.positions import resize_positions

GOLDEN = Path(__file__).parents[1] / "golden" / "positions.npz"


def golden_grids():
    with np.load(GOLDEN) as arrays:
        return sorted({tuple(map(int, name.split("/")[:2])) for name in arrays})


@pytest.mark.parametrize(("old", "new"), golden_grids())
def test_the_grid_is_interpolated_as_by_open_clip(old, new):
    with np.load(GOLDEN) as arrays:
        before, after = (arrays[f"{old}/{new}/{when}"] for when in ("before", "after"))
    resized = resize_positions(jnp.asarray(before), 1 + new * new)
    assert resized.shape == after.shape
    assert resized.dtype == jnp.float32
    np.testing.assert_allclose(resized, after, atol=1e-6)
    np.testing.assert_array_equal(resized[0], before[0])


def test_the_same_grid_is_left_as_it_is():
    positions = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32)
    np.testing.assert_array_equal(resize_positions(positions, 50), positions)


def test_a_constant_grid_stays_constant():
    for new in (5, 20):
        resized = resize_positions(jnp.full((50, 2), 3.0), 1 + new * new)
        np.testing.assert_allclose(resized, 3.0, rtol=1e-6)
