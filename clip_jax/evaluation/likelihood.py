"""Zero-shot classification by models that predict: how probable each class's prompts are.

A bag of words gives the tokens of a prompt, a captioner the prompt word by word. Models that embed
texts are compared by cosine instead, CoCa among them (zeroshot.py).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clip_jax.data.text.ids import text_lengths
from clip_jax.errors import InputError
from clip_jax.evaluation.embed import LENGTH_STEP, Encode
from clip_jax.losses.bag_of_words import token_shares
from clip_jax.losses.caption import token_losses
from clip_jax.losses.outputs import Captions
from clip_jax.model import Model
from clip_jax.models.clip import CLIP
from clip_jax.parallel.mesh import batch_shards, mesh_of

Array = jax.Array
ScorePrompts = Callable[[Array], Array]
"""Token ids of prompts [C, T] -> how probable each is for each of some images, [images, C]."""

PAIRS = 1024
"""Pairs of an image and a prompt that a device reads at once."""


def score_classes(model: Model, prompts: Sequence[Sequence[str]]) -> Encode:
    """What tells how probable classes are for images: uint8 pixels [n, ...] -> [n, classes].

    prompts: those of each class. A class's score is the mean over its prompts'. By a model of words
    that is the mean log-probability of a prompt's different tokens; by a captioner, of all its
    tokens in their order, the end included, given the image. So a long prompt is not at a
    disadvantage. float32; never above 0. Each text is read once, however many classes have it.
    """
    number = {text: None for own in prompts for text in own}
    texts = list(number)
    rows = {text: row for row, text in enumerate(texts)}
    tokens = model.tokenize(texts, truncate=True)
    lengths = text_lengths(tokens)
    if model.config.makes == "words" and lengths.min() < 3:
        raise InputError(f"prompt {texts[lengths.argmin()]!r} has no words that can be predicted")
    sizes = list(map(len, prompts))
    return partial(
        _score,
        model.module,
        mesh_of(model.params),
        len(prompts),
        model.variables,
        tokens[:, : -(-lengths.max() // LENGTH_STEP) * LENGTH_STEP],
        np.array([rows[text] for own in prompts for text in own]),
        np.repeat(np.arange(len(prompts)), sizes),
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _score(
    module: CLIP,
    mesh: Mesh,
    classes: int,
    variables: Any,
    tokens: Array,
    text_of: Array,
    class_of: Array,
    pixels: Array,
) -> Array:
    """tokens [texts, T]; of each prompt of each class, the row in it and the class: [prompts]."""
    scorer = by_words if module.config.makes == "words" else by_captions
    score = scorer(module, mesh, variables, pixels)
    chunk = min(len(tokens), max(1, PAIRS * batch_shards(mesh) // len(pixels)))
    filled = jnp.pad(tokens, ((0, -len(tokens) % chunk), (0, 0)), mode="edge")
    scores = jax.lax.map(score, filled.reshape(-1, chunk, tokens.shape[1]))
    by_text = scores.swapaxes(1, 2).reshape(-1, len(pixels))
    sums = jax.ops.segment_sum(by_text[text_of], class_of, classes)
    return (sums / jnp.bincount(class_of, length=classes)[:, None]).T


def by_words(module: CLIP, mesh: Mesh, variables: Any, pixels: Array) -> ScorePrompts:
    """The mean over a prompt's different tokens of log softmax of the image's word logits."""
    apply: Callable[..., Any] = module.apply
    embeddings = apply(variables, pixels, method="encode_image")
    words = jax.nn.log_softmax(apply(variables, embeddings, method="word_logits"))
    return lambda tokens: jnp.einsum("nct,ct->nc", words[:, tokens], token_shares(tokens))


def by_captions(module: CLIP, mesh: Mesh, variables: Any, pixels: Array) -> ScorePrompts:
    """The mean over a prompt's tokens, the end included, of their log-probabilities."""
    apply: Callable[..., Any] = module.apply
    _, seen = apply(variables, pixels, method="view")
    projection = variables["params"]["decoder"]["projection"]

    def score(tokens: Array) -> Array:
        states = apply(variables, tokens, method="text_states")
        of_all = jnp.tile(states, (len(pixels), 1, 1))
        features = apply(variables, of_all, seen, method="decode")
        prompts = jnp.tile(tokens, (len(pixels), 1))
        losses, counts = token_losses(Captions(features, prompts), projection, mesh)
        return -(losses.sum(axis=1) / counts.sum(axis=1)).reshape(len(pixels), len(tokens))

    return score
