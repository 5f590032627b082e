"""Times of a step, from made-up measurements."""

import dataclasses

import pytest

from clip_jax import Compute
from clip_jax.models.presets import OPENAI
from clip_jax.parallel.hlo import Collective
from clip_jax.parallel.topology import CHIPS
from clip_jax.training.config import TrainConfig
from clip_jax.training.estimate import estimate_step, pair_flops
from clip_jax.training.footprint import Footprint

L14 = TrainConfig(
    model=OPENAI["ViT-L/14"],
    batch_size=32_768,
    compute=Compute(dtype="bfloat16", remat="full"),
)
BOTH = frozenset({"image", "text"})
FOOTPRINT = Footprint(
    mesh={"data": 128, "fsdp": 2, "tensor": 1},
    held={},
    needed=0,
    memory=0,
    trained=BOTH,
    collectives=(Collective("all-reduce", 256, 2_560_000_000),),
    cycles=1_500_000_000,
)


def change(config, **compute):
    return dataclasses.replace(config, compute=dataclasses.replace(config.compute, **compute))


@pytest.mark.parametrize(
    ("config", "trained", "passes"),
    [
        (change(L14, remat="none"), BOTH, (3, 3)),
        (change(L14, remat="dots"), BOTH, (3, 3)),
        (L14, BOTH, (4, 4)),
        (dataclasses.replace(change(L14, remat="none"), micro_batch=8), BOTH, (4, 4)),
        (dataclasses.replace(L14, micro_batch=8), BOTH, (5, 5)),
        (L14, frozenset({"text"}), (1, 4)),
    ],
)
def test_forward_passes_of_an_update(config, trained, passes):
    """162.03 and 13.30 GFLOP are the towers' forward passes, as open_clip's profile has them."""
    expected = 162.03 * passes[0] + 13.30 * passes[1]
    assert pair_flops(config, trained) / 1e9 == pytest.approx(expected, rel=1e-3)


def test_times_are_those_of_the_chip():
    estimate = estimate_step(L14, FOOTPRINT, CHIPS["v5e"])
    assert estimate.products == pytest.approx(128 * 4 * 175.33e9 / 197e12, rel=1e-3)
    assert estimate.exchange == pytest.approx(2 * 255 / 256 * 2.56e9 / 200e9)
    assert estimate.roofline == estimate.products
    assert estimate.expected == pytest.approx(1 + estimate.exchange)


def test_a_step_that_waits_for_its_collectives():
    slow = dataclasses.replace(FOOTPRINT, collectives=(Collective("all-reduce", 256, 2**40),))
    estimate = estimate_step(L14, slow, CHIPS["v5e"])
    assert estimate.roofline == estimate.exchange > estimate.products
