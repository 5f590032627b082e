"""Two models for the evaluation tests: one whose embeddings are known, and a tiny real one."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from shards import number_of

from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.model import Model, resize_of
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.presets import PRESETS

CAPTIONS = [
    "a photo of a cat",
    "a photo of a dog",
    "a red circle above a blue square",
    "there is a green tree left of the house",
    "the quick brown fox jumps over the lazy dog",
]


class TableModel:
    """Embeds picture `solid(n)` as images[n] and a text as texts[text], of any length."""

    config = PRESETS["ViT-tiny"]
    resize = resize_of(config)
    params = ()

    def __init__(self, images, texts):
        self._images = np.asarray(images, np.float32)
        self._words = list(texts)
        self._texts = np.asarray(list(texts.values()), np.float32)

    def tokenize(self, texts, truncate=False):
        rows = np.zeros((len(texts), self.config.text.context_length), np.int32)
        rows[:, 0] = [1 + self._words.index(text) for text in texts]
        return rows

    def encode_image(self, pixels, normalize=False):
        return self._unit(self._images[[number_of(picture) for picture in pixels]], normalize)

    def encode_text(self, tokens, normalize=False):
        return self._unit(self._texts[tokens[:, 0] - 1], normalize)

    def _unit(self, rows, normalize):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalize else rows


@pytest.fixture(scope="session")
def table_model():
    """The class of models with known embeddings."""
    return TableModel


@pytest.fixture(scope="session")
def model():
    """A model of random weights with a vocabulary; drawn by numpy, which needs no compilation."""
    config = PRESETS["ViT-tiny"]
    tokenizer = train_sentencepiece(CAPTIONS, 64, config.text.context_length)
    text = dataclasses.replace(config.text, vocab_size=tokenizer.vocab_size)
    config, rng = dataclasses.replace(config, text=text), np.random.default_rng(0)
    shapes = jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))["params"]
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(leaf.dtype), shapes)
    return Model(config, params, tokenizer=tokenizer)
