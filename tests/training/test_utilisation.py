"""What counts as use of the devices, and the names that JAX gives them."""

import types

import pytest

from clip_jax.models.presets import OPENAI
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.parallel.topology import parse_slice, tpu_devices
from clip_jax.training.utilisation import PEAK_FLOPS, pairs_at_peak, update_flops

BOTH = frozenset({"image", "text"})


@pytest.mark.parametrize(
    ("name", "samples"),
    [("ViT-B/32", 17_800), ("ViT-B/16", 6_400), ("ViT-L/14", 1_500), ("RN50", 14_500)],
)
def test_pairs_at_790_teraflops(name, samples):
    """By 24 T d^2 + 4 T^2 d a block, worked out apart from this code."""
    assert 790e12 / update_flops(OPENAI[name], BOTH) == pytest.approx(samples, rel=0.01)


def test_a_frozen_tower_is_only_run_forward():
    config = OPENAI["ViT-B/32"]
    assert update_flops(config, frozenset({"text"})) == pytest.approx((8.82 + 3 * 5.96) * 1e9, 0.01)


def test_the_peak_is_that_of_all_devices():
    device = types.SimpleNamespace(device_kind="NVIDIA H200")
    devices = types.SimpleNamespace(flat=[device] * 8, size=8)
    pairs = pairs_at_peak(OPENAI["RN50"], BOTH, types.SimpleNamespace(devices=devices))
    assert pairs == pytest.approx(8 * 989e12 / (3 * 18.18e9), rel=0.001)


def test_nothing_is_said_of_unknown_devices():
    assert pairs_at_peak(OPENAI["RN50"], BOTH, make_mesh(MeshConfig())) is None


@pytest.mark.parametrize("chip", ["v4", "v5e", "v5p", "v6e"])
def test_every_tpu_is_known_by_its_name(tpu, chip):
    wanted = parse_slice(f"tpu:{chip}-8")
    assert PEAK_FLOPS[tpu_devices(wanted)[0].device_kind] == wanted.chip.flops
