"""What is left to the platform, and what is not."""

import pytest

from clip_jax.models.config import Compute, resolve_compute


@pytest.mark.parametrize(
    ("platform", "dtype", "attention", "unroll"),
    [
        ("gpu", "bfloat16", "cudnn", True),
        ("gpu", "float32", "xla", True),  # cuDNN's attention takes no float32
        ("tpu", "bfloat16", "xla", False),
        ("cpu", "bfloat16", "xla", False),
    ],
)
def test_kernels_and_layers_by_platform(platform, dtype, attention, unroll):
    expected = Compute(dtype=dtype, attention=attention, unroll=unroll)
    assert resolve_compute(Compute(dtype=dtype), platform) == expected


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("unroll", [True, False])
def test_what_a_recipe_says_stays(platform, unroll):
    chosen = Compute(dtype="bfloat16", attention="xla", unroll=unroll, remat="full")
    assert resolve_compute(chosen, platform) == chosen
