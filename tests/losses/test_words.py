"""Losses of words in tiles against float64: values, all gradients, 1 to 8 devices; and memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import relative

from clip_jax.losses import tiles
from clip_jax.losses.words import word_losses
from clip_jax.parallel.mesh import MeshConfig, make_mesh


def random_inputs(rows, width, vocabulary, targets, seed=0):
    """Features, projection, bias, targets and weights, some of which are 0, and rows' gradients."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(size=(rows, targets)) * (rng.uniform(size=(rows, targets)) < 0.7)
    return (
        rng.normal(size=(rows, width)).astype(np.float32),
        rng.normal(size=(width, vocabulary)).astype(np.float32),
        rng.normal(size=vocabulary).astype(np.float32),
        rng.integers(0, vocabulary, (rows, targets)).astype(np.int32),
        weights.astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
    )


def float64_losses_and_gradients(features, projection, bias, targets, weights, by_losses):
    """Row by row with textbook gradients; those of features, projection and bias."""
    features, projection, bias = (x.astype(np.float64) for x in (features, projection, bias))
    losses, gradients = [], [np.zeros_like(x) for x in (features, projection, bias)]
    for row, feature in enumerate(features):
        logits = feature @ projection + bias
        log_p = logits - np.logaddexp.reduce(logits)
        loss, by_logits = 0.0, np.zeros_like(logits)
        for target, weight in zip(targets[row], weights[row].astype(np.float64), strict=True):
            loss -= weight * log_p[target]
            by_logits += weight * (np.exp(log_p) - np.eye(len(bias))[target])
        losses.append(loss)
        by_logits *= by_losses[row]
        gradients[0][row] = projection @ by_logits
        gradients[1] += np.outer(feature, by_logits)
        gradients[2] += by_logits
    return np.array(losses), gradients


def check(inputs, mesh, bound=1e-5):
    *arrays, targets, weights, by_losses = inputs

    @jax.jit
    def run(features, projection, bias):
        losses, pull = jax.vjp(
            lambda *arrays: word_losses(*arrays, targets, weights, mesh), features, projection, bias
        )
        return losses, pull(by_losses)

    with jax.default_matmul_precision("highest"):
        losses, gradients = run(*arrays)
    assert losses.dtype == jnp.float32
    expected, expected_gradients = float64_losses_and_gradients(*inputs)
    assert relative(losses, expected) < bound
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(gradient, wanted) < bound


def mesh_of(devices, shape=None):
    return make_mesh(shape or MeshConfig(), jax.devices()[:devices])


@pytest.mark.parametrize("devices", [None, 1, 2, 8])
def test_values_and_gradients_equal_float64(devices):
    check(random_inputs(48, 12, 100, 4), devices and mesh_of(devices))


@pytest.mark.parametrize("shape", [MeshConfig(2, 4, 1), MeshConfig(2, 2, 2)])
def test_every_mesh_gives_the_same(shape):
    check(random_inputs(16, 8, 30, 2), mesh_of(8, shape))


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
@pytest.mark.parametrize("devices", [None, 4])
def test_tiles_need_not_divide_the_rows(rows, devices, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_ROWS", rows)
    check(random_inputs(20, 6, 17, 3), devices and mesh_of(devices))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 12),
    width=st.integers(1, 6),
    vocabulary=st.integers(2, 9),
    targets=st.integers(1, 5),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_any_sizes(rows, width, vocabulary, targets, size, seed):
    """Large logits do not overflow; a target may come twice, and its weights then add up."""
    features, *others, weights, _ = random_inputs(rows, width, vocabulary, targets, seed)
    inputs = size * features, *others, weights
    losses = word_losses(*inputs, mesh=None)
    expected, _ = float64_losses_and_gradients(*inputs, np.ones(rows))
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-4 * max(size, 1))


def test_bfloat16_features_lose_only_their_own_rounding():
    """Products are summed in float32, and all that follows is float32."""
    features, projection, bias, *rest = random_inputs(32, 16, 50, 2)
    rounded = [np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32) for x in (features, projection)]
    losses = word_losses(jnp.asarray(features, jnp.bfloat16), projection, bias, *rest[:2], None)
    expected, _ = float64_losses_and_gradients(*rounded, bias, *rest)
    assert losses.dtype == jnp.float32
    assert relative(losses, expected) < 1e-5


def test_bfloat16_gradients_of_many_tiles_add_up(monkeypatch):
    """In bfloat16 a sum of 1,024 alike would not grow beyond 256."""
    monkeypatch.setattr(tiles, "TILE_ROWS", 4)
    _, projection, bias, targets, weights, by_losses = random_inputs(4096, 4, 6, 1)
    features = jnp.ones((4096, 4), jnp.bfloat16)
    weights, by_losses = np.ones_like(weights), np.ones_like(by_losses)

    def total(projection):
        return word_losses(features, projection, bias, targets, weights, None).sum()

    rounded = np.asarray(jnp.asarray(projection, jnp.bfloat16), np.float32)
    inputs = np.ones((4096, 4)), rounded, bias, targets, weights, by_losses
    _, (_, expected, _) = float64_losses_and_gradients(*inputs)
    assert relative(jax.jit(jax.grad(total))(projection), expected) < 1e-2


@pytest.mark.parametrize("devices", [None, 8])
def test_no_array_holds_all_rows_logits(devices):
    rows, width, vocabulary = 8192, 8, 1000
    mesh = devices and mesh_of(devices)
    shapes = [(rows, width), (width, vocabulary), (vocabulary,), (rows, 1), (rows, 1)]
    kinds = [jnp.float32] * 3 + [jnp.int32, jnp.float32]
    inputs = [jax.ShapeDtypeStruct(*given) for given in zip(shapes, kinds, strict=True)]
    run = jax.jit(jax.grad(lambda *inputs: word_losses(*inputs, mesh).sum(), (0, 1, 2)))
    text = run.lower(*inputs).compile().as_text()
    found = [np.prod([int(n) for n in s.split(",")]) for s in re.findall(r"\[([\d,]+)\]", text)]
    assert max(found) <= tiles.TILE_ROWS * vocabulary
    assert max(found) < rows * vocabulary / 8
