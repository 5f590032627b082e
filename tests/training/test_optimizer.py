"""The decay mask, the schedule, and AdamW against its formula."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.sharding import path_name
from clip_jax.training.optimizer import (
    OptimizerConfig,
    decay_mask,
    learning_rate_schedule,
    make_optimizer,
)


@pytest.mark.parametrize("name", ["ViT-tiny", "RN-tiny"])
def test_matrices_decay_and_nothing_else(name):
    """As open_clip decides, by the number of axes: without our leading layer axis."""
    model = CLIP(PRESETS[name])
    params = jax.eval_shape(partial(init_variables, model), jax.random.key(0))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    mask = jax.tree.leaves(decay_mask(params))
    biases = ("qkv_bias",)  # [3, heads, head_size], a vector in PyTorch
    for (path, leaf), decays in zip(leaves, mask, strict=True):
        name = path_name(path)
        axes = leaf.ndim - ("blocks" in name or "_rest" in name)
        assert decays == (axes >= 2 and not name.endswith(biases)), name


def test_schedule_warms_up_and_ends_at_zero():
    schedule = learning_rate_schedule(OptimizerConfig(learning_rate=3.0, warmup_steps=10), 110)
    assert schedule(0) == 0
    np.testing.assert_allclose(schedule(5), 1.5, rtol=1e-6)
    np.testing.assert_allclose(schedule(10), 3.0, rtol=1e-6)
    np.testing.assert_allclose(schedule(60), 1.5, rtol=1e-5)
    np.testing.assert_allclose(schedule(110), 0.0, atol=1e-6)


@pytest.mark.parametrize("kept", ["float32", "bfloat16"])
def test_update_is_adamw(kept):
    """Of the moments only the first may be kept, and decayed, in bfloat16."""
    config = OptimizerConfig(
        learning_rate=0.1,
        warmup_steps=1,
        weight_decay=0.3,
        beta1=0.8,
        beta2=0.9,
        epsilon=1e-3,
        first_moment=kept,
    )
    optimizer = make_optimizer(config, steps=50)
    params = {"mlp": {"up_kernel": jnp.array([[1.0, -2.0]]), "up_bias": jnp.array([4.0])}}
    kernel, bias = np.array([[1.0, -2.0]]), np.array([4.0])
    state, schedule = optimizer.init(params), learning_rate_schedule(config, 50)
    moments = {"kernel": [0.0, 0.0], "bias": [0.0, 0.0]}
    for step in range(4):
        gradient = {"mlp": {"up_kernel": params["mlp"]["up_kernel"] ** 3, "up_bias": jnp.ones(1)}}
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)

        def adam(name, gradient, step=step):
            first, second = moments[name]
            decayed = np.asarray(first, kept) * np.asarray(0.8, kept)
            first, second = decayed + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
            moments[name] = [first, second]
            power = step + 1
            return first / (1 - 0.8**power) / (np.sqrt(second / (1 - 0.9**power)) + 1e-3)

        rate = float(schedule(step))
        kernel = kernel - rate * (adam("kernel", kernel**3) + 0.3 * kernel)
        bias = bias - rate * adam("bias", np.ones(1))
    np.testing.assert_allclose(params["mlp"]["up_kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(params["mlp"]["up_bias"], bias, rtol=1e-5)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim}
    assert kinds == {jnp.dtype("float32"), jnp.dtype(kept)}


def test_rates_slow_down_and_freeze():
    """The first rule that is found in a path counts, also for weight decay."""
    rates = (("^image/", 0.0), ("embedding$", 0.5))
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=1, weight_decay=0.3, rates=rates)
    params = {
        "image": {"patch_embedding": jnp.ones((2, 2))},
        "text": {"token_embedding": jnp.ones((2, 2)), "projection": jnp.ones((2, 2))},
    }
    optimizer = make_optimizer(config, 10)
    state = optimizer.init(params)
    gradient = jax.tree.map(jnp.ones_like, params)
    for _ in range(2):  # at the first, the learning rate is 0
        updates, state = optimizer.update(gradient, state, params)
    full = -0.1 * (1 + 0.3)  # Adam's step of a constant gradient is 1
    np.testing.assert_array_equal(updates["image"]["patch_embedding"], 0)
    np.testing.assert_allclose(updates["text"]["token_embedding"], full / 2, rtol=1e-4)
    np.testing.assert_allclose(updates["text"]["projection"], full, rtol=1e-4)


@pytest.mark.parametrize("rates", [(), (("^b", 0.5),)])
def test_larger_gradients_are_scaled_down_to_the_norm(rates):
    config = OptimizerConfig(clip_norm=2.5, warmup_steps=1, rates=rates)
    clipped, plain = (
        make_optimizer(c, 50) for c in (config, dataclasses.replace(config, clip_norm=None))
    )
    params = {"a": jnp.ones(2), "b": jnp.ones(1)}
    for gradient, scale in (([3.0, 0.0, 4.0], 0.5), ([1.5, 0.0, 2.0], 1.0)):
        given = {"a": jnp.array(gradient[:2]), "b": jnp.array(gradient[2:])}
        _, state = clipped.update(given, clipped.init(params), params)
        scaled = jax.tree.map(lambda x, scale=scale: x * scale, given)
        _, expected = plain.update(scaled, plain.init(params), params)
        jax.tree.map(np.testing.assert_array_equal, state[1], expected)
