"""The sigmoid loss against float64: values, all gradients, 1 to 8 devices; and its memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import random_pairs, relative, separated_pairs

from clip_jax.losses import sigmoid_loss, sigmoid_loss_reference, tiles
from clip_jax.parallel.mesh import MeshConfig, make_mesh


def float64_loss_and_gradients(image, text, scale, bias):
    """Textbook formulas with textbook gradients, in numpy float64."""
    image, text = image.astype(np.float64), text.astype(np.float64)
    cosines, count = image @ text.T, len(image)
    labels = 2 * np.eye(count) - 1
    margins = labels * (scale * cosines + bias)
    loss = np.logaddexp(0, -margins).sum() / count
    by_logits = -labels * np.exp(-np.logaddexp(0, margins)) / count
    return loss, (
        scale * by_logits @ text,
        scale * by_logits.T @ image,
        (by_logits * cosines).sum(),
        by_logits.sum(),
    )


def value_and_gradients(mesh):
    return jax.jit(
        jax.value_and_grad(lambda *inputs: sigmoid_loss(*inputs, mesh=mesh), (0, 1, 2, 3))
    )


def check(image, text, scale, bias, mesh, bound):
    inputs = jnp.asarray(image), jnp.asarray(text), jnp.float32(scale), jnp.float32(bias)
    loss, gradients = value_and_gradients(mesh)(*inputs)
    expected, expected_gradients = float64_loss_and_gradients(image, text, scale, bias)
    assert relative(loss, expected) < bound
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(gradient, wanted) < bound


def mesh_of(devices, shape=None):
    return make_mesh(shape or MeshConfig(), jax.devices()[:devices])


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (100.0, -20.0)])
def test_value_and_gradients_equal_float64(devices, scale, bias):
    image, text = random_pairs(64, 32, noise=0.3)
    image[1], text[1], text[9] = image[0], text[0], text[0]  # duplicates
    check(image, text, scale, bias, mesh_of(devices), 1e-5)


@pytest.mark.parametrize("shape", [MeshConfig(2, 4, 1), MeshConfig(2, 2, 2), MeshConfig(1, 8, 1)])
def test_every_mesh_gives_the_same(shape):
    image, text = random_pairs(32, 16, noise=0.5)
    check(image, text, 30.0, -5.0, mesh_of(8, shape), 1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
@pytest.mark.parametrize("devices", [1, 4])
def test_tiles_need_not_divide_the_batch(rows, devices, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_ROWS", rows)
    image, text = random_pairs(40, 16, noise=0.4)
    check(image, text, 50.0, -10.0, mesh_of(devices), 1e-5)


def test_without_a_mesh():
    image, text = random_pairs(10, 8, noise=0.2)
    check(image, text, 20.0, -3.0, None, 1e-5)


@pytest.mark.parametrize("devices", [1, 8])
def test_nearly_separated_pairs_keep_their_precision(devices):
    image, text = separated_pairs(64, 80, cosine=0.6)
    assert float64_loss_and_gradients(image, text, 100.0, -80.0)[0] < 1e-5
    check(image, text, 100.0, -80.0, mesh_of(devices), 1e-4)


def test_bfloat16_inputs_lose_only_their_own_rounding():
    """Inside it is float32: the value is exact for them, gradients are rounded at the end."""
    image, text = (jnp.asarray(x, jnp.bfloat16) for x in random_pairs(64, 32, noise=0.3))
    inputs = image, text, jnp.float32(100), jnp.float32(-10)
    loss, gradients = value_and_gradients(mesh_of(4))(*inputs)
    rounded = np.asarray(image, np.float32), np.asarray(text, np.float32)
    expected, expected_gradients = float64_loss_and_gradients(*rounded, 100.0, -10.0)
    assert relative(loss, expected) < 1e-5
    for gradient, wanted in zip(gradients[:2], expected_gradients[:2], strict=True):
        assert gradient.dtype == jnp.bfloat16
        assert relative(gradient, wanted) < 2**-8


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 6).map(lambda n: 4 * n),
    width=st.integers(2, 9),
    noise=st.floats(0, 3),
    scale=st.floats(1, 100),
    bias=st.floats(-30, 30),
    seed=st.integers(0, 1000),
)
def test_sharded_equals_reference(count, width, noise, scale, bias, seed):
    inputs = *random_pairs(count, width, noise, seed), jnp.float32(scale), jnp.float32(bias)
    loss = jax.jit(lambda *inputs: sigmoid_loss(*inputs, mesh=mesh_of(4)))(*inputs)
    np.testing.assert_allclose(loss, sigmoid_loss_reference(*inputs), rtol=1e-5, atol=2e-5)


def test_reference_equals_float64():
    image, text = random_pairs(20, 8, noise=1.0)
    expected, _ = float64_loss_and_gradients(image, text, 20.0, -4.0)
    assert relative(sigmoid_loss_reference(image, text, 20.0, -4.0), expected) < 1e-5


@pytest.mark.parametrize("devices", [1, 8])
def test_texts_go_round_and_nothing_is_gathered(devices):
    """No array is larger than a tile of a shard's rows and columns, whatever the batch."""
    count, width = 4096, 16
    inputs = [jax.ShapeDtypeStruct((count, width), jnp.float32)] * 2
    scalars = [jax.ShapeDtypeStruct((), jnp.float32)] * 2
    text = value_and_gradients(mesh_of(devices)).lower(*inputs, *scalars).compile().as_text()
    assert "all-gather" not in text
    assert devices == 1 or "collective-permute" in text
    shapes = re.findall(r"\[([\d,]+)\]", text)
    largest = max(np.prod([int(size) for size in shape.split(",")]) for shape in shapes)
    assert largest <= tiles.TILE_ROWS * count // devices


@pytest.mark.parametrize("shapes", [((1, 4), (1, 4)), ((4, 3), (4, 2)), ((4,), (4,))])
def test_unfit_arrays_are_refused(shapes):
    with pytest.raises(ValueError, match="needs two arrays"):
        sigmoid_loss(*(jnp.ones(shape) for shape in shapes), jnp.float32(1), jnp.float32(0))
