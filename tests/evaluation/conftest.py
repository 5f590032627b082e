"""Two models for the evaluation tests: one whose embeddings are known, and a tiny real one."""

import numpy as np
import pytest
from random_model import random_model
from shards import number_of

from clip_jax.model import resize_of
from clip_jax.models.presets import PRESETS


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
    """A tiny model of random weights with a vocabulary."""
    return random_model()
