"""What is seen of a run's numbers: updates to skip and losses that stand out."""

import jax
import jax.numpy as jnp
import numpy as np

from clip_jax.training.health import AVERAGED, SPIKE, Health, fresh_health


def follow(losses, norms=None):
    norms = np.ones(len(losses)) if norms is None else norms
    health, after = fresh_health(), jax.jit(Health.after)
    for loss, norm in zip(losses, norms, strict=True):
        health = after(health, jnp.float32(loss), jnp.float32(norm))
    return health


def test_what_is_not_finite_is_counted_and_leaves_the_averages():
    inf, nan = np.inf, np.nan
    health = follow([3, nan, 2, inf, 1, 1], [1, 1, 1, 1, inf, nan])
    assert (int(health.skipped), int(health.skipped_in_a_row)) == (4, 3)
    alone = follow([3, 2])
    assert (health.loss, health.deviation, health.finite) == (alone.loss, alone.deviation, 2)
    assert int(follow([3, nan, 2]).skipped_in_a_row) == 0


def test_the_usual_loss_is_the_mean_and_then_a_running_one():
    rng = np.random.default_rng(0)
    losses = rng.normal(5, 1, 3 * AVERAGED)
    first = follow(losses[:AVERAGED])
    np.testing.assert_allclose(first.loss, losses[:AVERAGED].mean(), rtol=1e-5)
    mean, deviation = losses[0], 0.0
    for number, loss in enumerate(losses):
        above, weight = loss - mean, 1 / min(number + 1, AVERAGED)
        mean, deviation = mean + weight * above, deviation + weight * (abs(above) - deviation)
    health = follow(losses)
    np.testing.assert_allclose([health.loss, health.deviation], [mean, deviation], rtol=1e-4)
    assert int(health.spikes) == 0


def test_a_loss_far_above_the_usual_is_a_spike():
    usual = 5 + np.tile([0.1, -0.1], AVERAGED // 2)  # deviates by 0.1
    far = 5 + 0.1 * SPIKE
    assert int(follow([*usual, far + 0.05]).spikes) == 1
    assert int(follow([*usual, far - 0.05]).spikes) == 0
    assert int(follow([*usual, -far]).spikes) == 0
    assert int(follow([*usual[:-1], far + 0.05]).spikes) == 0  # too early to tell
