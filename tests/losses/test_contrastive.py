"""The sharded loss against a float64 reference: values and all gradients, on 1 to 8 devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.losses import contrastive_loss, contrastive_loss_reference
from clip_jax.parallel.mesh import MeshConfig, make_mesh


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


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


def pairs(count, width, noise, seed=0):
    rng = np.random.default_rng(seed)
    image = unit(rng.normal(size=(count, width)))
    return image.astype(np.float32), unit(image + noise * rng.normal(size=image.shape)).astype(
        np.float32
    )


def evaluate(image, text, scale, devices, shape=None):
    mesh = make_mesh(shape or MeshConfig(), jax.devices()[:devices])

    def loss(*inputs):
        return contrastive_loss(*inputs, mesh=mesh)

    inputs = jnp.asarray(image), jnp.asarray(text), jnp.float32(scale)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*inputs)


def relative(actual, expected):
    return np.linalg.norm(np.asarray(actual) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("scale", [14.0, 100.0])
def test_value_and_gradients_equal_float64(devices, scale):
    image, text = pairs(64, 32, noise=0.3)
    image[1], text[1], text[9] = image[0], text[0], text[0]  # duplicates
    loss, gradients = evaluate(image, text, scale, devices)
    expected, expected_gradients = float64_loss_and_gradients(image, text, scale)
    assert relative(loss, expected) < 1e-5
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(actual, wanted) < 1e-5


@pytest.mark.parametrize("shape", [MeshConfig(2, 4, 1), MeshConfig(2, 2, 2), MeshConfig(1, 8, 1)])
def test_every_mesh_gives_the_same(shape):
    image, text = pairs(32, 16, noise=0.5)
    loss, gradients = evaluate(image, text, 30.0, 8, shape)
    expected, expected_gradients = float64_loss_and_gradients(image, text, 30.0)
    assert relative(loss, expected) < 1e-5
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(actual, wanted) < 1e-5


def test_nearly_separated_pairs_keep_their_precision():
    """At a loss of 1e-6, logsumexp minus the diagonal is all rounding; this form is not."""
    image, text = pairs(64, 48, noise=0.0)
    image = unit(image * 0.05 + np.eye(64, 48)[np.arange(64) % 48]).astype(np.float32)
    text = image.copy()
    image[48:], text[48:] = -image[48:], -text[48:]
    loss, gradients = evaluate(image, text, 22.0, 8)
    expected, expected_gradients = float64_loss_and_gradients(image, text, 22.0)
    assert expected < 1e-5
    assert relative(loss, expected) < 1e-4
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(actual, wanted) < 1e-4


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 6).map(lambda n: 4 * n),
    width=st.integers(2, 9),
    noise=st.floats(0, 3),
    scale=st.floats(1, 100),
    seed=st.integers(0, 1000),
)
def test_sharded_equals_reference(count, width, noise, scale, seed):
    image, text = pairs(count, width, noise, seed)
    loss, _ = evaluate(image, text, scale, 4)
    with jax.default_matmul_precision("highest"):
        reference = contrastive_loss_reference(image, text, scale)
    np.testing.assert_allclose(loss, reference, rtol=1e-5, atol=2e-5)


def test_reference_equals_float64():
    image, text = pairs(20, 8, noise=1.0)
    expected, _ = float64_loss_and_gradients(image, text, 20.0)
    assert relative(contrastive_loss_reference(image, text, 20.0), expected) < 1e-5


def test_each_device_computes_only_its_rows():
    """No array of N x N exists on a device, and nothing but embeddings is gathered."""
    count, width = 256, 16
    mesh = make_mesh(MeshConfig(), jax.devices()[:8])
    inputs = [jax.ShapeDtypeStruct((count, width), jnp.float32)] * 2
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    gradient = jax.grad(lambda *inputs: contrastive_loss(*inputs, mesh=mesh), argnums=(0, 1))
    text = jax.jit(gradient).lower(*inputs, scale).compile().as_text()
    assert f"[{count // 8},{count}]" in text
    assert f"[{count},{count}]" not in text


@pytest.mark.parametrize("shapes", [((1, 4), (1, 4)), ((4, 3), (4, 2)), ((4,), (4,))])
def test_unfit_arrays_are_refused(shapes):
    with pytest.raises(ValueError, match="needs two arrays"):
        contrastive_loss(*(jnp.ones(shape) for shape in shapes), jnp.float32(1))
