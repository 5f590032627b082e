"""The loss of captioning against loops over captions and their tokens, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import relative

from clip_jax.losses.caption import caption, token_losses
from clip_jax.losses.outputs import Captions, Outputs
from clip_jax.parallel.mesh import MeshConfig, make_mesh

WIDTH, VOCABULARY = 6, 20
START, END = 18, 19


def random_group(lengths, size, seed):
    """Captions of so many words, id 0 among them; what follows the end is anything but the end."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, START, (len(lengths), size))
    for row, length in zip(tokens, lengths, strict=True):
        row[0], row[length + 1] = START, END
    features = rng.normal(size=(*tokens.shape, WIDTH)).astype(np.float32)
    return Captions(features, tokens.astype(np.int32))


def float64_losses(group, projection):
    """-log probability of each next token up to the end, a list for each caption."""
    logits = group.features.astype(np.float64) @ projection.astype(np.float64)
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    rows = []
    for predicted, tokens in zip(log_p, group.tokens.tolist(), strict=True):
        losses, place = [], 0
        while tokens[place] != END:
            losses.append(-predicted[place, tokens[place + 1]])
            place += 1
        rows.append(losses)
    return rows


@pytest.fixture
def projection():
    return np.random.default_rng(9).normal(size=(WIDTH, VOCABULARY)).astype(np.float32)


GROUPS = [([0, 3, 1, 3, 2, 0, 1, 3], 5), ([6, 4, 5, 6, 6, 4, 6, 6], 8)]


def batch(groups):
    captions = tuple(random_group(*group, seed) for seed, group in enumerate(groups))
    return Outputs(jnp.zeros((16, 2)), jnp.zeros((16, 0)), jnp.zeros((16, 0), jnp.int32), captions)


@pytest.mark.parametrize("mesh", [None, MeshConfig(), MeshConfig(2, 2, 2)])
def test_the_mean_is_over_all_tokens_of_all_groups(projection, mesh):
    outputs = batch(GROUPS)
    params = {"decoder": {"projection": projection}}
    loss, terms = caption(outputs, params, None if mesh is None else make_mesh(mesh))
    rows = [row for group in outputs.captions for row in float64_losses(group, projection)]
    assert loss == pytest.approx(np.concatenate(rows).mean(), rel=1e-5)
    assert terms == {}


@pytest.mark.parametrize("group", GROUPS)
def test_each_token_s_loss_and_which_count(projection, group):
    captions = random_group(*group, seed=3)
    losses, counts = token_losses(captions, projection, None)
    n, length = captions.tokens.shape
    assert losses.shape == counts.shape == (n, length - 1)
    for row, expected in enumerate(float64_losses(captions, projection)):
        inside = len(expected)
        np.testing.assert_allclose(losses[row, :inside], expected, rtol=1e-4, atol=1e-5)
        assert (counts[row, :inside] == 1).all()
        assert (counts[row, inside:] == 0).all()
        assert (losses[row, inside:] == 0).all()


def test_the_gradient_is_of_the_same_mean(projection):
    """By differences of the loop in float64; nothing behind the end has any."""
    outputs = batch(GROUPS)

    def loss(groups_features, projection):
        captions = tuple(
            group._replace(features=features)
            for group, features in zip(outputs.captions, groups_features, strict=True)
        )
        params = {"decoder": {"projection": projection}}
        return caption(outputs._replace(captions=captions), params, None)[0]

    features = [group.features for group in outputs.captions]
    by_features, by_projection = jax.grad(loss, (0, 1))(features, projection)

    def mean(projection):
        rows = [row for group in outputs.captions for row in float64_losses(group, projection)]
        return np.concatenate(rows).mean()

    expected = np.zeros(projection.shape)
    for place in np.ndindex(*projection.shape):
        step = np.zeros(projection.shape)
        step[place] = 1e-5
        precise = projection.astype(np.float64)
        expected[place] = (mean(precise + step) - mean(precise - step)) / 2e-5
    assert relative(by_projection, expected) < 1e-5
    for group, gradient in zip(outputs.captions, by_features, strict=True):
        read = np.arange(group.tokens.shape[1]) < group.tokens.argmax(axis=1)[:, None]
        assert (np.abs(gradient).max(axis=-1) > 0)[read].all()
        assert (np.asarray(gradient)[~read] == 0).all()
