"""Captions against plain loops over full forward passes; beams against all captions there are."""

import dataclasses
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coca import WRITING, golden

from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import DecoderConfig, TextConfig, ViTConfig
from clip_jax.models.generate import Decoding, check_decoding, generate, nucleus
from clip_jax.models.presets import PRESETS

COLOURS = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]
IMAGES = np.broadcast_to(np.uint8(COLOURS)[:, None, None], (5, 16, 16, 3))
POOLED = ViTConfig(image_size=16, patch_size=8, width=32, layers=1, heads=4, pool_queries=3)


def make(vocab_size, read="none", image=None, context=24):
    """A captioner of random weights, such that captions of images differ and some end early."""
    text = TextConfig(width=32, layers=1, heads=4, context_length=context, vocab_size=vocab_size)
    text = dataclasses.replace(text, read=read)
    config = dataclasses.replace(
        PRESETS["ViT-tiny"],
        image=image or ViTConfig(image_size=16, patch_size=8, width=32, layers=1, heads=4),
        text=text,
        decoder=DecoderConfig(layers=1),
    )
    module, rng = CLIP(config), np.random.default_rng({"none": 2, "end": 4, "class": 1}[read])
    shapes = jax.eval_shape(lambda key: init_variables(module, key), jax.random.key(0))
    draw = lambda leaf: rng.normal(0, 1, leaf.shape).astype(leaf.dtype)  # noqa: E731
    return module, jax.tree.map(draw, shapes)


def write(model, images=IMAGES, seed=0, **how):
    module, variables = model
    run = jax.jit(generate, static_argnums=(0, 4))
    return np.asarray(run(module, variables, images, jax.random.key(seed), Decoding(**how)))


@pytest.mark.parametrize("name", ["pooled", "square"])
def test_greedy_captions_are_open_clip_s(name):
    config, variables, theirs = golden(name)
    assert (WRITING["generation_type"], WRITING["top_k"]) == ("top_k", 1)
    how = {"length": WRITING["seq_len"], "min_length": WRITING["min_seq_len"]}
    with jax.default_matmul_precision("highest"):
        written = write((CLIP(config), variables), theirs["images"], **how)
    expected = theirs["written"]
    np.testing.assert_array_equal(written[:, : expected.shape[1]], expected)
    assert not written[:, expected.shape[1] :].any()


@partial(jax.jit, static_argnums=0)
def read(module, variables, image, tokens):
    """Features of captions of one image: a full forward pass."""
    _, seen = module.apply(variables, image[None], method="view")
    seen = jnp.repeat(seen, len(tokens), axis=0)
    return module.apply(variables, tokens, seen, method="read")[1]


def log_probabilities(model, image, captions):
    """Of the token behind each of captions', float64 [n, context, vocabulary]."""
    module, variables = model
    tokens = np.zeros((len(captions), module.config.text.context_length), np.int32)
    for row, caption in zip(tokens, captions, strict=True):
        row[: len(caption)] = caption
    features = np.asarray(read(module, variables, image, tokens), np.float64)
    logits = features @ variables["params"]["decoder"]["projection"].astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def greedy(model, image, length, min_length):
    """open_clip's rules, one token and one full forward pass after the other."""
    vocab_size = model[0].config.text.vocab_size
    tokens = [vocab_size - 2]
    while len(tokens) < length and tokens[-1] not in (0, vocab_size - 1):
        logs = log_probabilities(model, image, [tokens])[0, len(tokens) - 1]
        if len(tokens) < min_length:
            logs[vocab_size - 1] = -np.inf
        tokens.append(vocab_size - 1 if len(tokens) == length - 1 else int(logs.argmax()))
    return tokens + [0] * (length - len(tokens))


@pytest.mark.parametrize(
    ("read", "image", "length", "min_length"),
    [("none", None, 6, 2), ("end", None, 12, 5), ("class", POOLED, 20, 5)],
)
def test_greedy_captions(read, image, length, min_length):
    model = make(9, read, image)
    found = write(model, length=length, min_length=min_length)
    expected = [greedy(model, image, length, min_length) for image in IMAGES]
    np.testing.assert_array_equal(found, expected)
    assert len({tuple(row) for row in expected}) > 1


def test_a_caption_may_end_early_or_by_force():
    """The rules are met: some end before the last place, some there, none before the fifth."""
    model = make(9, "class", POOLED)
    found = write(model, length=20)
    ends = (found == 8).argmax(axis=1)
    assert (found[:, 0] == 7).all()
    assert ((ends >= 5) | (found == 0).any(axis=1)).all()
    assert len(set((found > 0).sum(axis=1))) > 1


def test_the_context_bounds_the_length():
    model = make(9, context=7)
    assert write(model, length=30).shape == (5, 7)
    np.testing.assert_array_equal(write(model, length=30), write(model, length=7))


def all_captions(vocab_size, length, min_length):
    """Every caption that may be written: tokens behind the start, up to an end."""
    going_on = [token for token in range(vocab_size) if token not in (0, vocab_size - 1)]
    for count in range(length - 1):
        for tokens in itertools.product(going_on, repeat=count):
            last = count == length - 2
            if not last:
                yield (*tokens, 0)
            if last or count + 1 >= min_length:
                yield (*tokens, vocab_size - 1)


def mean_log_probabilities(model, image, captions):
    """Of captions' tokens behind the start, each caption's mean."""
    start = model[0].config.text.vocab_size - 2
    logs = log_probabilities(model, image, [[start, *tokens] for tokens in captions])
    return [
        own[np.arange(len(tokens)), list(tokens)].mean()
        for own, tokens in zip(logs, captions, strict=True)
    ]


@pytest.mark.parametrize("min_length", [1, 3])
def test_enough_beams_find_the_best_of_all_captions(min_length):
    vocab_size, length = 5, 5
    model = make(vocab_size)
    captions = list(all_captions(vocab_size, length, min_length))
    found = write(model, length=length, min_length=min_length, method="beam", beams=27)
    for image, row in zip(IMAGES, found, strict=True):
        scores = mean_log_probabilities(model, image, captions)
        best = [vocab_size - 2, *captions[int(np.argmax(scores))]]
        np.testing.assert_array_equal(row, best + [0] * (length - len(best)))


def test_the_nucleus_by_counting():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 12)).astype(np.float32) * 3
    assert np.isfinite(np.asarray(nucleus(jnp.array(logits), 1.0))).all()
    for top_p in (0.1, 0.5, 0.9):
        kept = np.isfinite(np.asarray(nucleus(jnp.array(logits), top_p)))
        for row, own in zip(logits.astype(np.float64), kept, strict=True):
            shares = np.exp(row) / np.exp(row).sum()
            order = np.argsort(-shares)
            count = next(n for n in range(1, 13) if shares[order[:n]].sum() >= top_p)
            assert set(np.flatnonzero(own)) == set(order[:count])


def test_draws_follow_the_nucleus():
    model = make(9)
    how = {"method": "nucleus", "top_p": 0.6, "temperature": 1.5, "length": 4, "min_length": 1}
    images = np.repeat(IMAGES[:1], 2000, axis=0)
    first = write(model, images, **how)[:, 1]
    logs = log_probabilities(model, IMAGES[0], [[7]])[0, 0] / 1.5
    shares = np.exp(logs) / np.exp(logs).sum()
    order = np.argsort(-shares)
    count = next(n for n in range(1, 10) if shares[order[:n]].sum() >= 0.6)
    expected = np.zeros(9)
    expected[order[:count]] = shares[order[:count]] / shares[order[:count]].sum()
    observed = np.bincount(first, minlength=9) / 2000
    assert (observed[expected == 0] == 0).all()
    assert np.abs(observed - expected).max() < 4 * math.sqrt(0.25 / 2000)


def test_draws_are_reproducible_and_of_each_image_s_own():
    model, images = make(30), np.repeat(IMAGES[:1], 6, axis=0)
    how = {"method": "nucleus", "top_p": 1.0, "temperature": 4.0, "length": 8}
    drawn = write(model, images, **how)
    np.testing.assert_array_equal(drawn, write(model, images, **how))
    np.testing.assert_array_equal(drawn[:3], write(model, images[:3], **how))
    assert len({tuple(row) for row in drawn}) == 6
    assert (drawn != write(model, images, seed=1, **how)).any()


def test_a_nucleus_of_one_token_is_greedy():
    model = make(9)
    np.testing.assert_array_equal(
        write(model, method="nucleus", top_p=1e-6, length=12), write(model, length=12)
    )


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"length": 2}, "length must hold"),
        ({"length": 5}, "min_length 5 must be less than length 5"),
        ({"beams": 0}, "beams must be"),
        ({"top_p": 0}, "top_p must be"),
        ({"top_p": math.nan}, "top_p must be"),
        ({"temperature": 0}, "temperature must be"),
    ],
)
def test_what_cannot_be(how, message):
    with pytest.raises(ValueError, match=message):
        check_decoding(Decoding(**how))
