"""The loss of predicting sets of words against loops over captions, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.losses.bag_of_words import bag_of_words, token_shares
from clip_jax.losses.outputs import Outputs
from clip_jax.parallel.mesh import MeshConfig, make_mesh

VOCABULARY = 12
START, END = 10, 11
SIZE = 9

words = st.lists(st.integers(0, START - 1), max_size=SIZE - 2)


def padded(caption, behind=0):
    tokens = [START, *caption, END]
    return tokens + [behind] * (SIZE - len(tokens))


def shares_by_loop(caption):
    """A caption's words -> each place's share of the target."""
    shares, seen = [0.0] * SIZE, set()
    for place, word in enumerate(caption, start=1):
        if word not in seen:
            shares[place] = 1 / len(set(caption))
        seen.add(word)
    return shares


@settings(max_examples=60, deadline=None)
@given(captions=st.lists(words, min_size=1, max_size=4), behind=st.integers(0, END))
def test_each_different_word_has_an_equal_share(captions, behind):
    """Whatever follows the end, a second end included."""
    tokens = jnp.array([padded(caption, behind) for caption in captions], jnp.int32)
    expected = [shares_by_loop(caption) for caption in captions]
    np.testing.assert_allclose(token_shares(tokens), expected, rtol=1e-6)


def test_examples():
    tokens = jnp.array([padded([3, 3, 3]), padded([]), padded([0, 4, 0, 4, 7])], jnp.int32)
    third = np.float32(1 / 3)
    np.testing.assert_array_equal(
        token_shares(tokens),
        [
            [0, 1, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, third, third, 0, 0, third, 0, 0, 0],
        ],
    )


CAPTIONS = [[1, 2, 2], [5], [], [0, 0, 9, 4], [7, 6, 5, 4, 3, 2, 1], [8, 8], [3, 0], [2, 5, 9]]


@pytest.mark.parametrize("mesh", [None, MeshConfig(), MeshConfig(2, 2, 2)])
def test_the_loss_is_the_cross_entropy_with_the_set_of_words(mesh):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(len(CAPTIONS), 5)).astype(np.float32)
    projection = rng.normal(size=(5, VOCABULARY)).astype(np.float32)
    bias = rng.normal(size=VOCABULARY).astype(np.float32)
    tokens = np.array([padded(caption) for caption in CAPTIONS], np.int32)
    outputs = Outputs(image, jnp.zeros((len(image), 0)), tokens)
    params = {"text": {"projection": projection, "bias": bias}}
    loss, terms = bag_of_words(outputs, params, None if mesh is None else make_mesh(mesh))

    logits = image.astype(np.float64) @ projection + bias
    total = 0.0
    for row, caption in zip(logits, CAPTIONS, strict=True):
        log_p = row - np.logaddexp.reduce(row)
        total += sum(-log_p[word] / len(set(caption)) for word in set(caption))
    assert loss == pytest.approx(total / len(CAPTIONS), rel=1e-5)
    assert terms == {}


def test_the_optimum_is_the_share_of_words():
    """One image with one caption: no gradient where its words are equally likely."""
    tokens = np.array([padded([4, 1, 4])], np.int32)

    def loss(bias):
        params = {"text": {"projection": jnp.zeros((2, VOCABULARY)), "bias": bias}}
        outputs = Outputs(jnp.ones((1, 2)), jnp.zeros((1, 0)), tokens)
        return bag_of_words(outputs, params, None)[0]

    bias = jnp.full(VOCABULARY, -30.0).at[jnp.array([1, 4])].set(0)
    value, gradient = jax.value_and_grad(loss)(bias)
    assert value == pytest.approx(np.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
