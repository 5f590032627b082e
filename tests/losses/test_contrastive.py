"""The contrastive loss against float64: values, all gradients, 1 to 8 devices; and its memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import random_pairs, relative, separated_pairs

from clip_jax.losses import contrastive_loss, contrastive_loss_reference, tiles
from clip_jax.parallel.mesh import MeshConfig, make_mesh


def float64_loss_and_gradients(image, text, scale):
    """Textbook formulas with textbook gradients, in numpy float64."""
    image, text = image.astype(np.float64), text.astype(np.float64)
    cosines = image @ text.T
    count = len(image)
    rows, columns = (softmax(scale * cosines, axis) for axis in (1, 0))
    log_rows = log_softmax(scale * cosines, 1)
    log_columns = log_softmax(scale * cosines, 0)
    loss = -(np.trace(log_rows) + np.trace(log_columns)) / (2 * count)
    by_logits = (rows + columns - 2 * np.eye(count)) / (2 * count)
    return loss, (
        scale * by_logits @ text,
        scale * by_logits.T @ image,
        (by_logits * cosines).sum(),
    )


def log_softmax(x, axis):
    x = x - x.max(axis=axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def softmax(x, axis):
    return np.exp(log_softmax(x, axis))


def value_and_gradients(mesh):
    return jax.jit(
        jax.value_and_grad(lambda *inputs: contrastive_loss(*inputs, mesh=mesh), (0, 1, 2))
    )


def evaluate(image, text, scale, devices, shape=None):
    mesh = make_mesh(shape or MeshConfig(), jax.devices()[:devices])
    return value_and_gradients(mesh)(jnp.asarray(image), jnp.asarray(text), jnp.float32(scale))


def check(actual, image, text, scale, bound):
    loss, gradients = actual
    expected, expected_gradients = float64_loss_and_gradients(image, text, scale)
    assert relative(loss, expected) < bound
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(gradient, wanted) < bound


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("scale", [14.0, 100.0])
def test_value_and_gradients_equal_float64(devices, scale):
    image, text = random_pairs(64, 32, noise=0.3)
    image[1], text[1], text[9] = image[0], text[0], text[0]  # duplicates
    check(evaluate(image, text, scale, devices), image, text, scale, 1e-5)


@pytest.mark.parametrize("shape", [MeshConfig(2, 4, 1), MeshConfig(2, 2, 2), MeshConfig(1, 8, 1)])
def test_every_mesh_gives_the_same(shape):
    image, text = random_pairs(32, 16, noise=0.5)
    check(evaluate(image, text, 30.0, 8, shape), image, text, 30.0, 1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
@pytest.mark.parametrize("devices", [1, 4])
def test_tiles_need_not_divide_the_batch(rows, devices, monkeypatch):
    """40 or 10 rows a device: whole tiles, a last one partly filled, single rows."""
    monkeypatch.setattr(tiles, "TILE_ROWS", rows)
    image, text = random_pairs(40, 16, noise=0.4)
    check(evaluate(image, text, 50.0, devices), image, text, 50.0, 1e-5)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_without_a_mesh_and_with_one_pair_a_device(devices):
    image, text = random_pairs(max(devices, 2), 8, noise=1.0)
    check(value_and_gradients(None)(image, text, 14.0), image, text, 14.0, 1e-5)
    check(evaluate(image, text, 14.0, devices), image, text, 14.0, 1e-5)


@pytest.mark.parametrize(("scale", "cosine"), [(22.0, 0.2), (100.0, 0.82)])
@pytest.mark.parametrize("devices", [1, 8])
def test_nearly_separated_pairs_keep_their_precision(scale, cosine, devices):
    """At a loss of 1e-6, logsumexp minus the diagonal is all rounding; this form is not."""
    image, text = separated_pairs(64, 80, cosine)
    assert 1e-8 < float64_loss_and_gradients(image, text, scale)[0] < 1e-5
    check(evaluate(image, text, scale, devices), image, text, scale, 1e-4)


def test_opposite_pairs_do_not_overflow():
    """Every positive at cosine -1 and scale 100: the largest loss there is."""
    image, _ = random_pairs(16, 8, noise=0.0)
    check(evaluate(image, -image, 100.0, 4), image, -image, 100.0, 1e-5)


def test_bfloat16_inputs_lose_only_their_own_rounding():
    """Inside it is float32: the value is exact for them, gradients are rounded at the end."""
    image, text = (jnp.asarray(x, jnp.bfloat16) for x in random_pairs(64, 32, noise=0.3))
    loss, gradients = evaluate(image, text, 100.0, 4)
    rounded = np.asarray(image, np.float32), np.asarray(text, np.float32)
    expected, expected_gradients = float64_loss_and_gradients(*rounded, 100.0)
    assert loss.dtype == jnp.float32
    assert relative(loss, expected) < 1e-5
    for gradient, wanted in zip(gradients[:2], expected_gradients[:2], strict=True):
        assert gradient.dtype == jnp.bfloat16
        assert relative(gradient, wanted) < 2**-8
    assert relative(gradients[2], expected_gradients[2]) < 1e-5


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 6).map(lambda n: 4 * n),
    width=st.integers(2, 9),
    noise=st.floats(0, 3),
    scale=st.floats(1, 100),
    seed=st.integers(0, 1000),
)
def test_sharded_equals_reference(count, width, noise, scale, seed):
    image, text = random_pairs(count, width, noise, seed)
    loss, _ = evaluate(image, text, scale, 4)
    with jax.default_matmul_precision("highest"):
        reference = contrastive_loss_reference(image, text, scale)
    np.testing.assert_allclose(loss, reference, rtol=1e-5, atol=2e-5)


def test_reference_equals_float64():
    image, text = random_pairs(20, 8, noise=1.0)
    expected, _ = float64_loss_and_gradients(image, text, 20.0)
    assert relative(contrastive_loss_reference(image, text, 20.0), expected) < 1e-5


def compiled(count, width, devices):
    inputs = [jax.ShapeDtypeStruct((count, width), jnp.float32)] * 2
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    return value_and_gradients(mesh).lower(*inputs, scale).compile()


@pytest.mark.parametrize("devices", [1, 8])
def test_no_array_is_larger_than_a_tile(devices):
    count, width = 4096, 16
    shapes = re.findall(r"\[([\d,]+)\]", compiled(count, width, devices).as_text())
    largest = max(np.prod([int(size) for size in shape.split(",")]) for shape in shapes)
    assert largest <= tiles.TILE_ROWS * count


def test_32768_pairs_fit_in_350_megabytes():
    """Beyond the inputs, gradients included; written plainly it takes 17.2 GB."""
    memory = compiled(32_768, 512, 1).memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 350e6


def test_the_embeddings_of_one_side_are_gathered_once():
    text = compiled(256, 16, 8).as_text()
    gathered = re.findall(r"= \(?f32\[([\d,]+)\][^\n]*? all-gather(?:-start)?\(", text)
    assert gathered == ["256,16"]
    scattered = re.findall(r" reduce-scatter(?:-start)?\(", text)
    assert len(scattered) == 1


@pytest.mark.parametrize("shapes", [((1, 4), (1, 4)), ((4, 3), (4, 2)), ((4,), (4,))])
def test_unfit_arrays_are_refused(shapes):
    with pytest.raises(ValueError, match="needs two arrays"):
        contrastive_loss(*(jnp.ones(shape) for shape in shapes), jnp.float32(1))


def test_meshes_that_do_not_divide_a_batch_are_refused():
    image, text = random_pairs(12, 4, noise=0.3)
    with pytest.raises(ValueError, match="12 pairs cannot be divided among 8 devices"):
        contrastive_loss(image, text, 14.0, mesh=make_mesh(MeshConfig(8)))
    other = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match="has none of the axes"):
        contrastive_loss(image, text, 14.0, mesh=other)


def test_double_precision_may_be_on():
    image, text = (np.asarray(rows, np.float32) for rows in random_pairs(8, 4, noise=0.3))
    with jax.enable_x64(True):
        loss = contrastive_loss(jnp.asarray(image), jnp.asarray(text), 14.0)
    assert loss.dtype == jnp.float32
    expected, _ = float64_loss_and_gradients(image, text, 14.0)
    assert relative(loss, expected) < 1e-5
