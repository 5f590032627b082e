"""Captioning models against open_clip's CoCa with the same weights."""

import jax
import numpy as np
import pytest
from coca import NAMES, compute, golden

from clip_jax.models.decoder import next_token_logits


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def logits_of(name, images, tokens):
    _, seen = compute(name, "view", images)
    texts, features = compute(name, "read", tokens, seen)
    with jax.default_matmul_precision("highest"):
        return texts, next_token_logits(features, golden(name)[1]["params"])


@pytest.mark.parametrize("name", NAMES)
def test_images(name):
    _, _, theirs = golden(name)
    image, seen = compute(name, "view", theirs["images"])
    assert_close(image, theirs["image_features"])
    assert_close(seen, theirs["image_tokens"])
    assert_close(compute(name, "encode_image", theirs["images"]), theirs["image_features"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["", "hollow/"])
def test_captions(name, kind):
    """Those with an id 0 inside too, behind which open_clip's CoCa masks a place."""
    _, _, theirs = golden(name)
    tokens, expected = theirs[f"{kind}tokens"], theirs[f"{kind}text_features"]
    assert_close(compute(name, "encode_text", tokens), expected)
    texts, logits = logits_of(name, theirs["images"][: len(tokens)], tokens)
    assert_close(texts, expected)
    assert_close(logits[:, :-1], theirs[f"{kind}logits"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["", "hollow/"])
def test_captions_may_be_cut_behind_their_end(name, kind):
    """The shortest and the longest, to their length, without padding, and to one more."""
    _, _, theirs = golden(name)
    lengths = theirs[f"{kind}tokens"].argmax(axis=1)
    for row in (lengths.argmin(), lengths.argmax()):
        tokens = theirs[f"{kind}tokens"][row]
        image = theirs["images"][row : row + 1]
        for length in {tokens.argmax() + 1, min(tokens.argmax() + 2, len(tokens))}:
            cut = tokens[None, :length]
            expected = theirs[f"{kind}text_features"][row : row + 1]
            assert_close(compute(name, "encode_text", cut), expected)
            texts, logits = logits_of(name, image, cut)
            assert_close(texts, expected)
            assert_close(logits[0, :-1], theirs[f"{kind}logits"][row, : length - 1])


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_does_not_depend_on_what_follows(name):
    _, _, theirs = golden(name)
    tokens, images = theirs["tokens"][2:3], theirs["images"][:1]
    changed = tokens.copy()
    changed[0, 6] = 1 + tokens[0, 6] % 40
    before, after = (logits_of(name, images, given)[1][0] for given in (tokens, changed))
    np.testing.assert_array_equal(before[:6], after[:6])
    assert (np.abs(before[6:] - after[6:]).max(axis=1) > 1e-3).all()
