"""Attention with keys that are left out, against loops in float64."""

import numpy as np
import pytest

from clip_jax.models.attention import attention


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("implementation", ["xla", "cudnn"])
def test_keys_may_be_left_out(is_causal, implementation):
    """Not by cuDNN, whatever is asked for: its masks are of all pairs and of even lengths."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 5, 3, 4)).astype(np.float32)
    keys = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]], bool)
    found = attention(q, k, v, is_causal=is_causal, keys=keys, implementation=implementation)
    for row, token, head in np.ndindex(2, 5, 3):
        seen = [s for s in range(5) if keys[row, s] and (s <= token or not is_causal)]
        weights = np.exp(k[row, seen, head].astype(np.float64) @ q[row, token, head] / 2)
        expected = weights / weights.sum() @ v[row, seen, head]
        np.testing.assert_allclose(found[row, token, head], expected, rtol=1e-4, atol=1e-5)
