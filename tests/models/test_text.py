"""Text towers that are no transformers, and what a transformer with a class token attends to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clip_jax import CLIPConfig, TextConfig, ViTConfig
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import BagOfWordsConfig, CBOWConfig, DecoderConfig
from clip_jax.models.text import coca_keys

START, END = 48, 49
CONFIG = CLIPConfig(
    embed_dim=8,
    image=ViTConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
    text=CBOWConfig(width=12, context_length=9, vocab_size=50),
)
TOKENS = np.array([[START, 3, 0, 3, END, 0, 7], [START, END, 9, END, 0, 0, 0]], np.int32)


def model_and_variables(**changes):
    model = CLIP(dataclasses.replace(CONFIG, **changes))
    return model, init_variables(model, jax.random.key(0))


@pytest.mark.parametrize("normalize", [False, True])
def test_a_continuous_bag_of_words_is_the_mean_of_its_tokens(normalize):
    """Start and first end included, nothing behind that, each token as often as it comes."""
    model, variables = model_and_variables()
    text = variables["params"]["text"]
    assert {name: leaf.shape for name, leaf in text.items()} == {
        "token_embedding": (50, 12),
        "projection": (12, 8),
    }
    embedding = np.asarray(text["token_embedding"], np.float64)
    means = [embedding[[START, 3, 0, 3, END]].mean(axis=0), embedding[[START, END]].mean(axis=0)]
    expected = np.array(means) @ np.asarray(text["projection"], np.float64)
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with jax.default_matmul_precision("highest"):
        found = model.apply(variables, TOKENS, method="encode_text", normalize=normalize)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_words_are_predicted_linearly():
    model, variables = model_and_variables(text=BagOfWordsConfig(9, 50))
    rng = np.random.default_rng(0)
    head = {"projection": rng.normal(size=(8, 50)), "bias": rng.normal(size=50)}
    assert {name: leaf.shape for name, leaf in variables["params"]["text"].items()} == {
        name: leaf.shape for name, leaf in head.items()
    }
    image = rng.normal(size=(3, 8)).astype(np.float32)
    variables["params"]["text"] = jax.tree.map(jnp.float32, head)
    with jax.default_matmul_precision("highest"):
        found = model.apply(variables, image, method="word_logits")
    np.testing.assert_allclose(found, image @ head["projection"] + head["bias"], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "makes"),
    [
        ({"text": BagOfWordsConfig(9, 50)}, "words"),
        ({"text": TextConfig(12, 1, 2, read="none"), "decoder": DecoderConfig(1)}, "captions"),
    ],
)
def test_texts_without_embeddings_are_refused(changes, makes):
    model, variables = model_and_variables(**changes)
    with pytest.raises(ValueError, match=f"makes {makes} of images; its texts have no embeddings"):
        model.apply(variables, TOKENS, method="encode_text")


def test_the_place_behind_each_zero_is_masked():
    keys = coca_keys(jnp.array([[START, 5, END, 0, 0], [START, 0, 5, 6, END]]))
    expected = [[1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1]]
    np.testing.assert_array_equal(keys, np.array(expected, bool))
