"""A tiny model of random weights with a vocabulary, for what needs a whole one."""

import dataclasses
from functools import partial

import jax
import numpy as np

from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.model import Model
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.presets import PRESETS

CAPTIONS = [
    "a photo of a cat",
    "a photo of a dog",
    "a red circle above a blue square",
    "there is a green tree left of the house",
    "the quick brown fox jumps over the lazy dog",
]


def random_model(**changes):
    """ViT-tiny, or what becomes of it by changes of its config; drawn by numpy, not compiled."""
    config = dataclasses.replace(PRESETS["ViT-tiny"], **changes)
    tokenizer = train_sentencepiece(CAPTIONS, 64, config.text.context_length)
    text = dataclasses.replace(config.text, vocab_size=tokenizer.vocab_size)
    config, rng = dataclasses.replace(config, text=text), np.random.default_rng(0)
    shapes = jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))["params"]
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(leaf.dtype), shapes)
    return Model(config, params, tokenizer=tokenizer)
