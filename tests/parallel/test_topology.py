"""TPU slices: their names and shapes, and, where its compiler is installed, their chips' speed."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from clip_jax.errors import InputError
from clip_jax.parallel.hlo import kernel_cycles
from clip_jax.parallel.topology import CHIPS, Slice, check_compiler, parse_slice, tpu_devices


# Chips and default shapes: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}.
@pytest.mark.parametrize(
    ("target", "chips", "shape"),
    [
        ("tpu:v5e-1", 1, (1, 1)),
        ("tpu:v5e-8", 8, (2, 4)),
        ("tpu:v5e-128", 128, (8, 16)),
        ("tpu:v6e-256", 256, (16, 16)),
        ("tpu:v4-8", 4, (2, 2, 1)),
        ("tpu:v4-64", 32, (2, 4, 4)),
        ("tpu:v4-384", 192, (4, 4, 12)),
        ("tpu:v4-1536", 768, (8, 8, 12)),
        ("tpu:v4-8192", 4096, (16, 16, 16)),
        ("tpu:v5p-128", 64, (4, 4, 4)),
        ("tpu:v5p-1024", 512, (8, 8, 8)),
        ("tpu:v5p-3072", 1536, (8, 12, 16)),
        ("tpu:v5p-12288", 6144, (16, 16, 24)),
        ("tpu:v5p-4x4x20", 320, (4, 4, 20)),
        ("tpu:v5e-4x8", 32, (4, 8)),
    ],
)
def test_slices_by_name(target, chips, shape):
    found = parse_slice(target)
    assert (found.chips, found.shape) == (chips, shape)
    assert found.chip is CHIPS[re.findall(r"\w+", target)[1]]
    assert parse_slice(f"tpu:{found.chip.name}-{found.size}").chips == chips


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("v5e-256", "give a slice such as tpu:v5e-256 (of v4, v5e, v5p, v6e), or here"),
        ("tpu:v9-8", "give a slice such as"),
        ("gpu:h100-8", "give a slice such as"),
        ("", "give a slice such as"),
        ("tpu:v5e-512", "near it: v5e-256 (256 chips, 16x16)"),
        ("tpu:v5e-0", "near it: v5e-1 (1 chip, 1x1)"),
        ("tpu:v5e-8x4", "near it: v5e-32 (32 chips, 4x8) or v5e-64 (64 chips, 8x8)"),
        ("tpu:v5p-100", "near it: v5p-64 (32 chips, 2x4x4) or v5p-128 (64 chips, 4x4x4)"),
        ("tpu:v4-5x5x5", "near it: v4-128 (64 chips, 4x4x4) or v4-256 (128 chips, 4x4x8)"),
        ("tpu:v5p-17920", "near it: v5p-12288 (6144 chips, 16x16x24)"),
    ],
)
def test_what_is_no_slice_is_refused(target, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_slice(target)


def test_without_the_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=re.escape("pip install 'clip_jax[tpu]'")):
        check_compiler()


# --- with the compiler


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("tpu:v4-256", "TPU v4"),
        ("tpu:v5e-1", "TPU v5 lite"),
        ("tpu:v5e-256", "TPU v5 lite"),
        ("tpu:v5p-8", "TPU v5"),
        ("tpu:v6e-8", "TPU v6 lite"),
    ],
)
def test_a_chip_is_a_device(tpu, target, kind):
    wanted = parse_slice(target)
    devices = tpu_devices(wanted)
    assert len(devices) == wanted.chips
    assert devices[0].device_kind == kind


@pytest.mark.parametrize("name", CHIPS)
def test_the_compiler_s_estimates_agree_with_public_peaks(tpu, name):
    """At the chip's clock, a large product runs near peak FLOP/s, and never above it."""
    chip = CHIPS[name]
    device = tpu_devices(Slice(chip, (1,) * chip.dimensions))[0]
    sharding = SingleDeviceSharding(device)
    matrix = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16, sharding=sharding)
    product = jax.jit(jnp.matmul, out_shardings=sharding).lower(matrix, matrix).compile()
    seconds = kernel_cycles(product.as_text()) / chip.clock
    assert 0.8 < 2 * 4096**3 / seconds / chip.flops <= 1
